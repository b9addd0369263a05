"""The policy of this installation, from its settings."""

from __future__ import annotations

from dataclasses import replace

from common.errors import InvalidInput
from common.settings import PolicySettings
from scheduler.core.tidal import Calendar, Window, parse_window, scheduled_millis
from scheduler.core.types import WHOLE_MILLIS, Policy, Tide

DATA, NEAR = "data", "near"
"""Weights that ``Policy`` keeps apart from those of scorers."""


class PolicyMaker:
    """Reads the settings once. Raises ``InvalidInput`` for an unknown weight or a window that is none."""

    def __init__(self, settings: PolicySettings) -> None:
        defaults = Policy()
        given = dict(settings.weights)
        known = dict(defaults.weights)
        for name in given:
            if name not in (*known, DATA, NEAR):
                names = ", ".join((*known, DATA, NEAR))
                raise InvalidInput(
                    f"scheduler.policy.weights: {name} is unknown; known: {names}",
                    param="scheduler.policy.weights",
                )
        self._policy = replace(
            defaults,
            weights=tuple((name, given.get(name, weight)) for name, weight in known.items()),
            data_weight=given.get(DATA, defaults.data_weight),
            near_weight=given.get(NEAR, defaults.near_weight),
            min_run_seconds=settings.min_run_seconds,
            reserve=settings.reserve,
            preempt=settings.preempt,
            defragment=settings.defragment,
            max_moves=settings.max_moves,
            topology=tuple(settings.topology),
        )
        windows: list[Window] = [
            parse_window(tide.window, tide.device_class, round(tide.inference_devices * WHOLE_MILLIS))
            for tide in settings.tides
        ]
        self._classes = tuple(dict.fromkeys(window.device_class for window in windows))
        self._calendar = Calendar(tuple(windows), settings.utc_offset_minutes)

    def at(self, now_ms: int) -> Policy:
        """The policy at this time: the same but for the tides. A class without an open window has no tide."""
        open_now = scheduled_millis(self._calendar, now_ms)
        tides = tuple(Tide(name, open_now[name]) for name in self._classes if name in open_now)
        return replace(self._policy, tides=tides) if tides else self._policy
