"""How well starts are forecast: what was said at some moments against what then happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from scheduler.core.model.types import Policy
from scheduler.core.placement.snapshot import Snapshot
from scheduler.sim.jobs import SECOND_MS

LEAST_WAIT_SECONDS = 60.0
"""Waits shorter than this count as this long: an error of seconds in a wait of seconds means nothing."""


Forecast = Callable[[Snapshot, Policy, int], Mapping[str, int]]
"""When those who wait will start, by uid; those that it cannot tell are left out."""


@dataclass(frozen=True, slots=True)
class Eta:
    """At ``asked_ms`` the start was forecast for ``forecast_ms``; it came at ``started_ms``."""

    uid: str
    asked_ms: int
    forecast_ms: int
    started_ms: int

    @property
    def relative_error(self) -> float:
        """Of the wait that was still to come."""
        wait = (self.started_ms - self.asked_ms) / SECOND_MS
        return abs(self.forecast_ms - self.started_ms) / SECOND_MS / max(wait, LEAST_WAIT_SECONDS)


class Forecasts:
    """Asks every ``step_ms`` (0 = never)."""

    def __init__(self, step_ms: int) -> None:
        self._step_ms = step_ms
        self._next_ms: int | None = None
        self._open: dict[str, list[tuple[int, int]]] = {}
        self._kept: list[Eta] = []

    def due(self, now_ms: int) -> bool:
        if not self._step_ms or (self._next_ms is not None and now_ms < self._next_ms):
            return False
        self._next_ms = now_ms + self._step_ms
        return True

    def ask(self, forecast: Forecast, snapshot: Snapshot, policy: Policy, now_ms: int) -> None:
        """Note what is forecast now."""
        for uid, start_ms in forecast(snapshot, policy, now_ms).items():
            self._open.setdefault(uid, []).append((now_ms, start_ms))

    def started(self, uid: str, now_ms: int) -> None:
        """It happened."""
        for asked_ms, forecast_ms in self._open.pop(uid, ()):
            if asked_ms < now_ms:
                self._kept.append(Eta(uid, asked_ms, forecast_ms, now_ms))

    def kept(self) -> tuple[Eta, ...]:
        return tuple(self._kept)


def median_error(etas: tuple[Eta, ...]) -> float | None:
    """The median relative error; None without forecasts."""
    return median(eta.relative_error for eta in etas) if etas else None
