"""How engines leave: gateways are told first, and what works goes when it has nothing to do any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from common.clock import Clock
from common.labels import DRAINING
from common.resources import Endpoint, Workload
from common.resources.rollout import EndpointRollout
from common.resources.scaling import EngineRole
from common.store.port import Store
from common.telemetry import get_logger
from inference.core.autoscaling.choice import Candidate
from inference.core.surge import Budget, choose_rolling
from inference.engine_workload import replica_of, workload_name
from inference.ports import Engines

SETTLE_SECONDS = 5.0
"""After so long gateways have the table without the engine, and what they sent it before has come there."""
IDLE_LOOKS = 2
LOOK_SECONDS = 1.0
"""Between two looks that count."""
ANSWER_SECONDS = 2.0
_log = get_logger(__name__)


@dataclass
class _Drain:
    """``idle`` looks in a row saw nothing to do."""

    since_seconds: float
    looked_seconds: float
    idle: int = 0


class Draining:
    """Says which Workloads of an Endpoint are to be, and when one that is not may go.

    The mark is an annotation of the Workload, so that a control process that is started anew, and every
    gateway, knows of it.
    """

    def __init__(self, store: Store, engines: Engines, clock: Clock, limit_seconds: float) -> None:
        self._store, self._engines, self._clock = store, engines, clock
        self._limit_seconds = limit_seconds
        self._drains: dict[str, _Drain] = {}

    @property
    def is_under_way(self) -> bool:
        """Whether some engine is about to leave."""
        return bool(self._drains)

    async def wanted_names(
        self,
        endpoint: Endpoint,
        existing: Mapping[EngineRole, Sequence[Workload]],
        is_outdated: Callable[[Workload], bool],
        is_complete: Callable[[Workload], bool] = lambda _: True,
    ) -> dict[str, EngineRole]:
        """The names of the Workloads that there are to be, with their roles; ``existing``: those that there
        are, of the roles that are looked after. Of too many that answer those stay that have most to do.
        ``is_complete``: whether an engine holds the adapters that it can, so that it can take the place of
        another."""
        rollout = endpoint.spec.rollout
        budget = Budget(rollout.max_surge, rollout.max_unavailable)
        now_ms = self._clock.now_ms()
        wanted: dict[str, EngineRole] = {}
        names_of = {role: {workload.name for workload in some} for role, some in existing.items()}
        for role, count in endpoint.wanted.items():
            if role not in existing:
                continue
            mine = existing[role]
            serving = [workload for workload in mine if _serves(workload)]
            busy = await self._in_flight(serving) if len(serving) > count > 0 else {}
            candidates = [
                replace(
                    _candidate(one, is_outdated(one), busy.get(one.name)),
                    complete=is_complete(one),
                    starved=is_starved(one, rollout, now_ms),
                )
                for one in mine
            ]
            others = set().union(*(names for other, names in names_of.items() if other != role))
            names = choose_rolling(candidates, count, budget, partial(_name, endpoint, role), others)
            wanted.update(dict.fromkeys(names, role))
        return wanted

    async def _in_flight(self, workloads: Sequence[Workload]) -> dict[str, int | None]:
        counts = await asyncio.gather(*(self._work_of(workload) for workload in workloads))
        return {workload.name: count for workload, count in zip(workloads, counts, strict=True)}

    async def _work_of(self, workload: Workload) -> int | None:
        """Requests that run or wait there; None where the engine does not tell."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                load = await self._engines.load(replica_of(workload).url)
        except Exception:  # noqa: BLE001 - an engine that cannot be asked is one that does not tell
            return None
        return load.running + load.waiting

    async def those_that_may_go(self, workloads: Iterable[Workload], most: int) -> list[Workload]:
        """Those that serve nobody, so many at most, of Workloads that are not wanted; so many others are
        marked."""
        unwanted = list(workloads)
        serving = [workload for workload in unwanted if replica_of(workload).ready]
        new = [workload for workload in serving if not replica_of(workload).draining]
        for workload in new[:most]:
            await self._mark(workload, str(self._clock.now_ms()))
        later = {workload.name for workload in new[most:]}
        marked = [workload for workload in serving if workload.name not in later]
        drained = await asyncio.gather(*(self._has_drained(workload) for workload in marked))
        gone = {one.name for one, done in zip(marked, drained, strict=True) if done}
        works = {one.name for one in serving} - gone
        may_go = [workload for workload in unwanted if workload.name not in works][:most]
        for workload in may_go:
            self._drains.pop(workload.metadata.uid, None)
        return may_go

    async def _has_drained(self, workload: Workload) -> bool:
        uid, now = workload.metadata.uid, self._clock.monotonic_seconds()
        drain = self._drains.setdefault(uid, _Drain(now, now))
        if now - drain.since_seconds >= self._limit_seconds:
            _log.warning(
                "an engine is stopped while it works", workload=workload.name, project=workload.project
            )
            return True
        if now - drain.since_seconds < SETTLE_SECONDS or now - drain.looked_seconds < LOOK_SECONDS:
            return False
        drain.looked_seconds = now
        drain.idle = drain.idle + 1 if await self._work_of(workload) == 0 else 0
        return drain.idle >= IDLE_LOOKS

    async def stay(self, workload: Workload) -> None:
        """It is wanted after all: gateways send it requests again."""
        self._drains.pop(workload.metadata.uid, None)
        if DRAINING in workload.metadata.annotations:
            await self._mark(workload, None)

    async def _mark(self, workload: Workload, since_ms: str | None) -> None:
        marked = workload.model_copy(deep=True)
        marked.metadata.annotations.pop(DRAINING, None)
        if since_ms is not None:
            marked.metadata.annotations[DRAINING] = since_ms
        await self._store.apply(marked)
        what = "an engine leaves when it has nothing to do" if since_ms else "an engine stays after all"
        _log.info(what, workload=workload.name, project=workload.project)

    def forget_all_but(self, uids: Container[str]) -> None:
        """Keep only what is known of these Workloads."""
        for uid in [uid for uid in self._drains if uid not in uids]:
            del self._drains[uid]


def is_starved(workload: Workload, rollout: EndpointRollout, now_ms: int) -> bool:
    """Whether a new engine has waited for a place for so long that an old one is to make room for it. One
    that would not fit then either waits on."""
    status = workload.status
    if rollout.when_full == "wait" or status.phase != "Pending" or status.attempt or status.never_fits:
        return False
    return now_ms - workload.metadata.created_ms >= rollout.full_after_seconds * 1000


def _name(endpoint: Endpoint, role: EngineRole, index: int) -> str:
    return workload_name(endpoint, index, role)


def _serves(workload: Workload) -> bool:
    replica = replica_of(workload)
    return replica.ready and not replica.draining


def _candidate(workload: Workload, outdated: bool, in_flight: int | None) -> Candidate:
    replica, index = replica_of(workload), workload.name.rpartition("-")[2]
    return Candidate(
        name=workload.name,
        index=int(index) if index.isascii() and index.isdigit() else 0,
        ready=replica.ready,
        outdated=outdated,
        draining=replica.draining,
        in_flight=in_flight,
    )
