"""The loop that holds what engines have counted against the events, and the events against the ledger.

All is in memory: one that begins anew reads what engines have counted since their start, and judges from
there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from billing.core.engine_watch import EngineWatch, Window
from billing.core.ledger import TrialBalance
from billing.core.reconciliation import EventGroup, Finding, Reading, judge
from common.clock import Clock, rfc3339
from common.guard import fault_of, is_everybodys
from common.ids import derived_id
from common.loop import LoopHealth, run_every
from common.resources import Endpoint, Workload
from common.store.kept import owned_workloads
from common.store.port import Event, Store
from common.telemetry import get_logger
from control.reconciling import telling
from inference.engine_workload import ENDPOINT_LABEL, replica_of
from inference.ports import CountingEngines

PASS_SECONDS = 15.0
LEDGER_SECONDS = 300.0
"""Between two looks at the sums of yesterday and today."""
ANSWER_SECONDS = 5.0
AT_ONCE = 64
"""Engines that are asked at a time."""
SPANS_A_PASS = 8
"""Questions to the ledger in one pass; what is left waits for the next one."""
KEPT_FINDINGS = 500
DAY_MS = 86_400_000
_log = get_logger("control.reconciling")

Engine = tuple[str, str]


@dataclass(frozen=True)
class EngineFinding:
    """``endpoint`` is ``project/name``, ``engine`` the name of the Workload."""

    endpoint: str
    engine: str
    finding: Finding


class Books(Protocol):
    """What is asked of the ledger."""

    async def engine_use(self, from_ms: int, to_ms: int) -> Mapping[Engine, Sequence[EventGroup]]: ...

    async def days_apart(self, from_day: str, to_day: str) -> Mapping[str, int]: ...

    async def trial_balance(self) -> TrialBalance: ...


class Reconciler:
    """``ledger_apart`` is by how much sums of the ledger are apart, by count, when it was looked at last;
    None before."""

    def __init__(self, store: Store, engines: CountingEngines, ledger: Books, clock: Clock) -> None:
        self._store, self._engines, self._ledger, self._clock = store, engines, ledger, clock
        self._workloads = owned_workloads(store, Endpoint.__name__)
        self._watches: dict[Engine, EngineWatch] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._looked_seconds: float | None = None
        self._untold: deque[Event] = deque(maxlen=KEPT_FINDINGS)
        self.findings: deque[EngineFinding] = deque(maxlen=KEPT_FINDINGS)
        self.ledger_apart: Mapping[str, int] | None = None

    @property
    def engines(self) -> int:
        """Engines that are followed."""
        return len(self._watches)

    async def run(self, stop: asyncio.Event, health: LoopHealth) -> None:
        """Until ``stop`` is set."""
        await run_every(self.step, stop, PASS_SECONDS, health)

    async def step(self) -> None:
        """Read all engines, judge what is due, and look at the ledger now and then. Raises what kept it from
        judging, or from telling, once all else is done."""
        workloads = {_engine_of(one): one for one in await self._workloads.now()}
        readings = await asyncio.gather(*(self._read(one) for one in workloads.values()))
        for engine, reading in zip(workloads, readings, strict=True):
            if reading is not None:
                self._watches.setdefault(engine, EngineWatch()).saw(*reading)
        for engine in [one for one in self._watches if one not in workloads]:
            self._watches[engine].lost()
        trouble = await self._judge_all()
        trouble = await self._tell() or trouble
        self._watches = {name: watch for name, watch in self._watches.items() if not watch.is_idle}
        telling.ENGINES.set(len(self._watches))
        await self._look_at_ledger()
        if trouble is not None:
            raise trouble

    async def _read(self, workload: Workload) -> tuple[Reading, int] | None:
        """What the engine has counted, and when its process was started; None where it does not tell now."""
        replica = replica_of(workload)
        if not replica.ready:
            return None
        try:
            async with self._at_once, asyncio.timeout(ANSWER_SECONDS):
                told = await self._engines.counters(replica.url)
        except Exception as error:  # noqa: BLE001 - one engine's trouble is not the others'
            _log.debug("engine tells no counters", workload=workload.name, error=fault_of(error).message)
            return None
        process = f"{workload.metadata.uid}/{workload.status.attempt}/{told.started_ms}"
        reading = Reading(process, self._clock.now_ms(), told.counts, told.under_way)
        return reading, told.started_ms

    async def _judge_all(self) -> Exception | None:
        """Windows of the same span are one question to the ledger; what fails holds up no others. Returns the
        last failure."""
        due: dict[tuple[int, int], list[tuple[Engine, Window]]] = {}
        for engine, watch in self._watches.items():
            for window in watch.due(self._clock.now_ms()):
                due.setdefault((window.begin.at_ms, window.end.at_ms), []).append((engine, window))
        trouble: Exception | None = None
        for span, windows in sorted(due.items())[:SPANS_A_PASS]:
            try:
                used = await self._ledger.engine_use(*span)
                for engine, window in windows:
                    self._judge(engine, window, used.get(engine, ()))
            except Exception as error:  # noqa: BLE001 - one span's trouble is not the others'
                _log.warning("windows are judged later", span=span, error=fault_of(error).message)
                trouble = error
                for engine, window in windows:
                    self._watches[engine].postpone(window, self._clock.now_ms())
        return trouble

    def _judge(self, engine: Engine, window: Window, groups: Iterable[EventGroup]) -> None:
        finding = judge(window.begin, window.end, groups)
        if not self._watches[engine].judged(window, finding, self._clock.now_ms()):
            return
        found = EngineFinding(*engine, finding)
        self.findings.append(found)
        telling.count(finding)
        if finding.result == "drift":
            _log.error("engine and events differ", endpoint=engine[0], engine=engine[1], finding=str(finding))
            self._untold.append(_event(found, self._clock.now_ms()))

    async def _tell(self) -> Exception | None:
        """Record events of what was found; those that cannot be are tried again with the next pass. Returns
        the last failure."""
        trouble: Exception | None = None
        for _ in range(len(self._untold)):
            event = self._untold.popleft()
            try:
                await self._store.record(event)
            except Exception as error:  # noqa: BLE001 - one event's trouble is not the others'
                self._untold.append(event)
                trouble = error
                if is_everybodys(error):
                    break
        return trouble

    async def _look_at_ledger(self) -> None:
        now_seconds = self._clock.monotonic_seconds()
        if self._looked_seconds is not None and now_seconds - self._looked_seconds < LEDGER_SECONDS:
            return
        days = [rfc3339(self._clock.now_ms() - back)[:10] for back in (DAY_MS, 0)]
        apart = dict(await self._ledger.days_apart(*days))
        balance = (await self._ledger.trial_balance()).total_microcredits
        apart |= {"accounts": balance} if balance else {}
        self._looked_seconds, self.ledger_apart = now_seconds, apart
        telling.LEDGER_APART.set(sum(map(abs, apart.values())))
        if apart:
            _log.error("sums of the ledger differ", days=days, apart=apart)


def _engine_of(workload: Workload) -> Engine:
    return f"{workload.project}/{workload.metadata.labels.get(ENDPOINT_LABEL, '')}", workload.name


def _event(found: EngineFinding, now_ms: int) -> Event:
    """Of the same window the store keeps one."""
    window = (found.finding.from_ms, found.finding.to_ms)
    project, _, name = found.endpoint.partition("/")
    return Event(
        id=derived_id("evt", found.endpoint, found.engine, "UsageDrift", *window),
        time_ms=now_ms,
        level="warning",
        reason="UsageDrift",
        message=telling.in_words(found.engine, found.finding),
        kind="Endpoint",
        name=name,
        project=project,
    )
