"""What inference needs of each class of devices, from the load of its engines: kept over days, so that it is
known before the load is there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from common.clock import Clock
from common.errors import ComputilityError
from common.first_tokens import FirstTokens
from common.guard import Guard
from common.load import ReplicaLoad
from common.loop import LoopHealth, run_every
from common.settings import LoadTideSettings
from common.store.samples import SampleLog
from common.telemetry import get_logger
from common.weekly import MINUTE_MS
from scheduler.core.model.device_classes import classes_of
from scheduler.core.model.types import WHOLE_MILLIS
from scheduler.core.tide.engine_load import fullness
from scheduler.core.tide.tidal import (
    DAY_MS,
    EARLIER_DAYS,
    LoadRule,
    LoadSample,
    forecast_load,
    reserved_replicas,
)
from scheduler.ports import ServingLoads

SAMPLE_SECONDS = 15.0
KEPT_MS = (EARLIER_DAYS + 1) * DAY_MS
"""So much history is kept, one sample a minute: 11,520 of a class at most."""
FORGET_EVERY_MS = 60 * MINUTE_MS

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Need:
    """How many replicas of ``rule`` inference needs room for. ``load`` of the last minute and the most that
    is ``expected`` ahead are in devices' worth of work. ``heard_ms``: when load was last told; None =
    never."""

    rule: LoadRule
    replicas: int = 0
    load: float = 0.0
    expected: float = 0.0
    heard_ms: int | None = None


@dataclass
class _Watch:
    """One class: its rule, its minutes (the last one is still open), and its engines' first tokens."""

    settings: LoadTideSettings
    rule: LoadRule
    history: list[LoadSample]
    first_tokens: FirstTokens
    readings: int = 0
    total: float = 0.0

    @property
    def name(self) -> str:
        return self.rule.device_class

    def note(self, load: float, now_ms: int) -> LoadSample | None:
        """Add a reading to its minute; returns the minute before when it is over now. What a clock that was
        set back calls the future goes."""
        while self.history and self.history[-1].at_ms > now_ms:
            self.history.pop()
            self.readings = 0
        open_minute = self.history[-1].at_ms // MINUTE_MS if self.readings else None
        ended = None
        if open_minute == now_ms // MINUTE_MS:
            self.history.pop()
        else:
            ended = self.history[-1] if self.readings else None
            self.readings, self.total = 0, 0.0
        self.readings += 1
        self.total += load
        self.history.append(LoadSample(now_ms, self.total / self.readings))
        return ended


class ServingNeed:
    """Watches the engines of the classes that have a rule. ``needs``, by class, is kept up to date in
    place."""

    def __init__(
        self, loads: ServingLoads, log: SampleLog, rules: Sequence[LoadTideSettings], clock: Clock
    ) -> None:
        self._loads, self._log, self._clock = loads, log, clock
        self._watches = [_Watch(one, rule_of(one), [], FirstTokens()) for one in rules]
        self._forgot_ms = 0
        self._guard = Guard("serving-need", clock)
        self.needs: dict[str, Need] = {}

    @property
    def has_rules(self) -> bool:
        """Whether there is anything to watch."""
        return bool(self._watches)

    async def restore(self) -> None:
        """Read what an earlier process kept: before the first cycle, so that training does not grow into what
        inference is about to need. Raises ``Unavailable``."""
        start_ms = self._clock.now_ms() - KEPT_MS
        for watch in self._watches:
            kept = await self._log.since(_series(watch.name), start_ms)
            watch.history[:] = [LoadSample(at_ms, load) for at_ms, load in kept]
        self._work_out()

    async def run(self, stop: asyncio.Event, health: LoopHealth | None = None) -> None:
        """Look every ``SAMPLE_SECONDS`` until ``stop`` is set."""
        await run_every(self.step, stop, SAMPLE_SECONDS, health or LoopHealth("serving-need", self._clock))

    async def step(self) -> None:
        """One look at all engines."""
        try:
            await self._read(await self._loads.replicas())
        except ComputilityError as error:
            _log.warning("load of inference is not known", error=error.message)
        self._work_out()

    async def _read(self, replicas: Sequence[ReplicaLoad]) -> None:
        now_ms = self._clock.now_ms()
        ended = []
        for watch in self._watches:
            with self._guard.item("LoadTide", watch.name):
                load = measure(watch.settings, watch.first_tokens, _of_class(replicas, watch.name), now_ms)
                if load is not None and (minute := watch.note(load, now_ms)):
                    ended.append((watch.name, minute))
        for name, minute in ended:
            await self._log.add(_series(name), minute.at_ms, minute.load)
        if now_ms - self._forgot_ms >= FORGET_EVERY_MS:
            await self._forget(now_ms)

    async def _forget(self, now_ms: int) -> None:
        for watch in self._watches:
            watch.history[:] = [one for one in watch.history if one.at_ms >= now_ms - KEPT_MS]
        await self._log.forget_before(now_ms - KEPT_MS)
        self._forgot_ms = now_ms

    def _work_out(self) -> None:
        now_ms = self._clock.now_ms()
        for watch in self._watches:
            with self._guard.item("LoadTide", (watch.name, "need")):
                self.needs[watch.name] = _need(watch, now_ms)


def rule_of(settings: LoadTideSettings) -> LoadRule:
    """The rule in devices' worth of work, of which a replica bears as much as it has devices."""
    return LoadRule(
        device_class=settings.device_class,
        load_per_replica=settings.devices_per_replica,
        replica_millis=round(settings.devices_per_replica * WHOLE_MILLIS),
        headroom=settings.headroom,
        ahead_seconds=settings.ahead_seconds,
        release_seconds=settings.release_seconds,
        least_replicas=settings.least_replicas,
        most_replicas=settings.most_replicas,
    )


def measure(
    settings: LoadTideSettings, first_tokens: FirstTokens, replicas: Sequence[ReplicaLoad], now_ms: int
) -> float | None:
    """Devices' worth of work of these engines; 0.0 without engines, None where none of them tells.

    An engine that does not tell counts as full as the others are. Where first tokens are late, all count as
    full at least.
    """
    told = {one.id: (one.millis, one.load) for one in replicas if one.load is not None}
    first_tokens.note({id_: load.first_token_buckets for id_, (_, load) in told.items()}, now_ms)
    if not replicas:
        return 0.0
    known = sum(millis for millis, _ in told.values())
    if not known:
        return None
    late_seconds = first_tokens.p95_seconds() if settings.first_token_limit_seconds else None
    least = 1.0 if (late_seconds or 0.0) > settings.first_token_limit_seconds else 0.0
    busy = 0.0
    for millis, load in told.values():
        full = fullness(
            load.running + load.waiting,
            load.kv_cache_use,
            settings.requests_per_replica,
            settings.kv_cache_limit,
        )
        busy += millis * max(full, least)
    return busy / known * sum(one.millis for one in replicas) / WHOLE_MILLIS


def _of_class(replicas: Sequence[ReplicaLoad], name: str) -> list[ReplicaLoad]:
    return [one for one in replicas if name.lower() in classes_of(_model(one.device_class))]


def _model(device_class: str) -> tuple[str, str]:
    vendor, _, model = device_class.partition("/")
    return vendor, model


def _need(watch: _Watch, now_ms: int) -> Need:
    rule, history = watch.rule, watch.history
    last = history[-1] if history else None
    return Need(
        rule=rule,
        replicas=reserved_replicas(rule, history, now_ms),
        load=last.load if last else 0.0,
        expected=forecast_load(history, now_ms, rule.ahead_seconds),
        heard_ms=last.at_ms if last else None,
    )


def _series(device_class: str) -> str:
    return f"load/{device_class.lower()}"
