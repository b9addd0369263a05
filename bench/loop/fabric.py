"""Nodes whose agents answer at once: the fabric of ``bench.loop``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from common.clock import SYSTEM_CLOCK
from common.errors import NotFound
from scheduler.ports import DeviceSample, GangOrder, GangRecord, LogChunk, NodeObservation, RankRecord
from scheduler.sessions import SessionAnswer, SessionAsk


class InstantFabric:
    """Implements ``scheduler.ports.Fabric`` in memory. ``started``: when each gang began, by uid, in seconds
    of ``time.perf_counter``."""

    def __init__(self, nodes: Sequence[NodeObservation]) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._all: list[NodeObservation] | None = None
        self._homes: dict[str, set[str]] = {}
        self.started: dict[str, float] = {}

    async def nodes(self) -> Sequence[NodeObservation]:
        if self._all is None:
            self._all = list(self._nodes.values())
        return self._all

    def put(self, name: str, gang: GangRecord | None, uid: str, attempt: int) -> None:
        """What the node knows of a gang from now on; None = nothing."""
        node = self._nodes.get(name)
        if node is None:
            raise NotFound(f"no node {name}")
        others = tuple(one for one in node.gangs if (one.uid, one.attempt) != (uid, attempt))
        gangs = others if gang is None else (*others, gang)
        self._nodes[name], self._all = replace(node, gangs=gangs), None
        if gang is not None:
            self._homes.setdefault(uid, set()).add(name)

    def put_all(self, records: Mapping[str, Sequence[GangRecord]]) -> None:
        """What runs on each node from the beginning."""
        for name, gangs in records.items():
            self._nodes[name] = replace(self._nodes[name], gangs=tuple(gangs))
            for gang in gangs:
                self._homes.setdefault(gang.uid, set()).add(name)
        self._all = None

    def end(self, uid: str) -> None:
        """Every process of it ends well."""
        for name in self._homes.pop(uid, ()):
            for gang in self._nodes[name].gangs:
                if gang.uid == uid:
                    self.put(name, _ended(gang, 0), uid, gang.attempt)

    def _find(self, node: str, uid: str, attempt: int) -> GangRecord | None:
        gangs = self._nodes[node].gangs if node in self._nodes else ()
        return next((gang for gang in gangs if (gang.uid, gang.attempt) == (uid, attempt)), None)

    async def ensure_gang(self, node: str, order: GangOrder) -> GangRecord:
        known = self._find(node, order.uid, order.attempt)
        if known is not None:
            return known
        now_ms = SYSTEM_CLOCK.now_ms()
        ranks = tuple(
            RankRecord(
                one.rank, one.role, one.replica, "Running", "127.0.0.1", now_ms, grants=one.grants, pid=1
            )
            for one in order.ranks
        )
        gang = GangRecord(order.uid, order.attempt, order.digest, order.billing, ranks)
        self.put(node, gang, order.uid, order.attempt)
        self.started.setdefault(order.uid, time.perf_counter())
        return gang

    async def stop_gang(self, node: str, uid: str, attempt: int, grace_seconds: float) -> None:
        gang = self._find(node, uid, attempt)
        if gang is not None:
            self.put(node, replace(_ended(gang, 143), stopping=True), uid, attempt)

    async def forget_gang(self, node: str, uid: str, attempt: int) -> None:
        self.put(node, None, uid, attempt)

    async def mark_metered(self, node: str, uid: str, attempt: int, spans: Mapping[int, int]) -> None:
        gang = self._find(node, uid, attempt)
        if gang is not None:
            ranks = (replace(r, metered_spans=spans.get(r.rank, r.metered_spans)) for r in gang.ranks)
            self.put(node, replace(gang, ranks=tuple(ranks)), uid, attempt)

    async def read_log(
        self, node: str, uid: str, attempt: int, rank: int, offset_bytes: int, limit_bytes: int
    ) -> LogChunk:
        raise NotFound("there are no logs here")

    async def session(self, node: str, uid: str, attempt: int, rank: int, ask: SessionAsk) -> SessionAnswer:
        raise NotFound(f"{uid} has no session")

    async def series(self, node: str) -> Mapping[str, Sequence[DeviceSample]]:
        return {}

    async def lead(self, epoch: int) -> None:
        return None

    async def news(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def dismiss_agents(self) -> None:
        self._nodes, self._all = {}, None

    async def close(self) -> None:
        return None


def _ended(gang: GangRecord, code: int) -> GangRecord:
    now_ms = SYSTEM_CLOCK.now_ms()
    ranks = (replace(rank, state="Exited", exit_code=code, finished_ms=now_ms) for rank in gang.ranks)
    return replace(gang, ranks=tuple(ranks))
