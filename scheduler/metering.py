"""Device time of gangs becomes usage events: all of every slot once, whatever crashes between."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from heapq import heappop, heappush
from typing import Any

from billing.core.events import UsageEvent
from billing.core.sink import UsageSink, post_all
from common.clock import Clock
from common.errors import ComputilityError, Unavailable
from common.guard import Fault, Guard, fault_of
from common.ids import derived_id
from common.loop import in_turns
from common.telemetry import get_logger
from common.vocabulary import one_line
from scheduler.core.lifecycle.metering import Span, device_seconds, due_spans
from scheduler.ports import Fabric, GangRecord, NodeObservation, RankRecord, RejectedSink
from scheduler.translate.observed import Observed

BATCH = 200
MARKED = 5
"""A node's agent is told of every fifth span that is posted of a gang. After a restart of control the others
are posted once more: their ids are the same. Of what is kept as not billable it is told at once: that has no
ledger that knows it again."""
_log = get_logger(__name__)
_Key = tuple[str, str, int]
_DueSpan = tuple[RankRecord, Span]
_ODD = re.compile("[\x00-\x1f\ud800-\udfff]")
_PASSING = frozenset(("Unavailable", "EngineFailed"))
"""Reasons of faults that pass by themselves."""


MOST_TRIES = 6
"""What fails so often is no passing trouble: it is set aside for good."""


@dataclass
class _Metered:
    """A gang on a node as last seen, and how many spans of each rank the ledger has. ``seen_ms``: when it was
    seen last; None = at the last look. ``due_ms``: when its next span is over. ``given_up``: its device time
    cannot be told. ``told``: so many spans the node's agent knows of."""

    record: GangRecord
    spans: dict[int, int]
    seen_ms: int | None = None
    due_ms: int | None = None
    given_up: bool = False
    told: int = 0


@dataclass(frozen=True)
class NotBilled:
    """Device time of a workload that is not billed (yet, or ``rejected``: ever) and why. ``id``: of the usage
    event that there is not."""

    uid: str
    fault: Fault
    id: str = ""
    rejected: bool = False


class DeviceMeter:
    """Derives spans from the agents' records. An id follows from (uid, attempt, rank, span), so repeating
    is harmless.

    Looks at gangs that have changed and at those of which a span is over. A gang whose record vanished
    (node lost, agent restarted) is charged until it was last seen. What cannot be billed is kept in
    ``rejected``, and holds up nothing else.
    """

    def __init__(
        self,
        fabric: Fabric,
        usage: UsageSink,
        rejected: RejectedSink,
        clock: Clock,
        guard: Guard | None = None,
    ) -> None:
        self._fabric = fabric
        self._usage = usage
        self._rejected = rejected
        self._guard = guard or Guard("meter", clock)
        self._known: dict[_Key, _Metered] = {}
        self._not_billed: list[NotBilled] = []
        self._on_node: dict[str, set[_Key]] = {}
        self._spans: list[tuple[int, _Key]] = []
        self._again: dict[_Key, None] = {}
        self._last_ms = clock.now_ms()

    def due_seconds(self, now_ms: int) -> float:
        """Until the next span of device time is over."""
        return max(0, self._spans[0][0] - now_ms) / 1000 if self._spans else math.inf

    async def meter(
        self, observed: Observed, now_ms: int, moved: Iterable[str] | None = None
    ) -> list[NotBilled]:
        """Post what is due. Returns what could not be. ``moved``: the nodes of which something has changed
        since the last look; None = look at all. Raises ``Unavailable`` where the database is away."""
        self._not_billed = []
        names = {*observed.nodes, *self._on_node} if moved is None else moved
        again, self._again = self._again, {}
        on_nodes = [key async for name in in_turns(names) for key in self._look(observed, name)]
        looked_at = [*again, *on_nodes, *self._over(now_ms)]
        await self._post_together(dict.fromkeys(looked_at), now_ms)
        for key in looked_at:
            metered = self._known.get(key)
            if metered is not None and key not in self._again:
                await self._settle(key, metered, observed, now_ms)
        self._last_ms = now_ms
        return self._not_billed

    async def _post_together(self, keys: Iterable[_Key], now_ms: int) -> None:
        """Post what is due of gangs that are there and in no trouble, many at once. What is refused is left
        due: it is posted gang by gang then."""
        batch: list[tuple[_Key, list[_DueSpan]]] = []
        events: list[UsageEvent] = []
        for key in keys:
            metered = self._known.get(key)
            in_trouble = self._guard.tries_of(("meter", key[1], key[0], key[2])) > 0
            if metered is None or metered.seen_ms is not None or metered.given_up or in_trouble:
                continue
            try:
                due = list(_due(metered.record, now_ms, metered.spans))
                told = [_event(metered.record, rank, span) for rank, span in due]
            except Exception:  # noqa: BLE001 - found out, and told, when it is posted alone
                continue
            if len(told) > BATCH:
                continue
            if len(events) + len(told) > BATCH:
                await self._post_of_many(batch, events)
                batch, events = [], []
            if told:
                batch.append((key, due))
                events += told
        if events:
            await self._post_of_many(batch, events)

    async def _post_of_many(
        self, batch: Sequence[tuple[_Key, list[_DueSpan]]], events: Sequence[UsageEvent]
    ) -> None:
        try:
            await post_all(self._usage, events)
        except Exception as error:  # noqa: BLE001 - found out, and told, when they are posted gang by gang
            _log.debug("device time is posted gang by gang", error=type(error).__name__)
            return
        for key, due in batch:
            self._known[key].spans.update({rank.rank: span.index + 1 for rank, span in due})
        await asyncio.gather(*(self._mark(key) for key, _ in batch))

    async def _mark(self, key: _Key, unknown: int = MARKED) -> None:
        """Tell the node's agent how many spans are posted, where there are ``unknown`` of which it does not
        know."""
        metered, (node, uid, attempt) = self._known[key], key
        posted = max(metered.spans.values(), default=0)
        if posted - metered.told < unknown:
            return
        try:
            await self._fabric.mark_metered(node, uid, attempt, metered.spans)
            metered.told = posted
        except Exception as error:  # noqa: BLE001 - it only saves work after a restart
            _log.info("metering mark not kept", node=node, error=str(error))

    def _look(self, observed: Observed, name: str) -> list[_Key]:
        """Take note of what is on a node now. Returns the gangs of which something may be due."""
        node = observed.nodes.get(name)
        known = self._on_node.get(name, set())
        if node is None or node.state != "Alive":
            for key in known:
                self._miss(key)
            return sorted(known)
        present = set()
        for gang in node.gangs:
            key = (name, gang.uid, gang.attempt)
            present.add(key)
            metered = self._known.get(key)
            if metered is None:
                told = max((rank.metered_spans for rank in gang.ranks), default=0)
                metered = self._known[key] = _Metered(gang, {}, told=told)
            metered.record, metered.seen_ms = gang, None
        gone = known - present
        for key in gone:
            self._miss(key)
        if present or gone:
            self._on_node[name] = present | gone
        return sorted(present | gone)

    def _miss(self, key: _Key) -> None:
        """It is not there any more: it was until the last look."""
        if self._known[key].seen_ms is None:
            self._known[key].seen_ms = self._last_ms

    def _over(self, now_ms: int) -> list[_Key]:
        """The gangs of which a span is over by now."""
        keys = []
        while self._spans and self._spans[0][0] <= now_ms:
            due_ms, key = heappop(self._spans)
            if key in self._known and self._known[key].due_ms == due_ms:
                keys.append(key)
        return keys

    async def _settle(self, key: _Key, metered: _Metered, observed: Observed, now_ms: int) -> None:
        """Post what is due of one gang, and remember when more will be."""
        if metered.seen_ms is None:
            if await self._try(key, metered.record, now_ms):
                self._expect(key, metered)
            else:
                self._again[key] = None
        elif _is_gone(observed.nodes.get(key[0])):
            ended_ms = metered.seen_ms
            if await self._try(key, _closed(metered.record, ended_ms), ended_ms):
                self._forget(key)
            else:
                self._again[key] = None

    def _expect(self, key: _Key, metered: _Metered) -> None:
        due_ms = _next_due_ms(metered)
        if due_ms is not None and due_ms != metered.due_ms:
            heappush(self._spans, (due_ms, key))
        metered.due_ms = due_ms

    def _forget(self, key: _Key) -> None:
        self._known.pop(key, None)
        keys = self._on_node.get(key[0], set())
        keys.discard(key)
        if not keys:
            self._on_node.pop(key[0], None)

    def is_settled(self, node: str, gang: GangRecord) -> bool:
        """Whether all of an ended gang's device time is posted, or kept as what cannot be."""
        metered = self._known.get((node, gang.uid, gang.attempt))
        if metered is None or gang.alive:
            return False
        return metered.given_up or not list(_due(gang, 0, metered.spans))

    def drop(self, node: str, gang: GangRecord) -> None:
        """The node has forgotten the gang, as it was told to."""
        self._forget((node, gang.uid, gang.attempt))

    async def _try(self, key: _Key, gang: GangRecord, now_ms: int) -> bool:
        """Post what is due of one gang. Returns whether that is done with."""
        node, uid, attempt = key
        name = ("meter", uid, node, attempt)
        if self._known[key].given_up:
            return True
        if not self._guard.may_try(name):
            return False
        with self._guard.item("Gang", name) as tried:
            await self._post(key, gang, now_ms)
        if tried.fault is None:
            return tried.worked
        if self._guard.tries_of(name) < MOST_TRIES or tried.fault.reason in _PASSING:
            self._not_billed.append(NotBilled(uid, tried.fault))
            return False
        return await self._give_up(key, gang, tried.fault)

    async def _give_up(self, key: _Key, gang: GangRecord, fault: Fault) -> bool:
        """Keep the whole record of a gang whose spans cannot be told. Returns whether it is kept."""
        node, uid, attempt = key
        record = {"id": derived_id("use", "gang", uid, attempt, node), "kind": "device", "gang": asdict(gang)}
        with self._guard.item("Gang", ("give up", uid, node, attempt)) as tried:
            await self._reject(uid, record, fault)
            self._known[key].given_up = True
            self._guard.handled(("meter", uid, node, attempt))
        return tried.worked

    async def _post(self, key: _Key, gang: GangRecord, now_ms: int) -> None:
        spans = self._known[key].spans
        due = list(_due(gang, now_ms, spans))
        if not due:
            return
        taken = [
            await self._post_batch(key, gang, due[start : start + BATCH])
            for start in range(0, len(due), BATCH)
        ]
        await self._mark(key, MARKED if all(taken) else 1)

    async def _post_batch(self, key: _Key, gang: GangRecord, batch: Sequence[_DueSpan]) -> bool:
        """All at once, or, where that is refused, one by one. Returns whether the ledger took all."""
        spans = self._known[key].spans
        try:
            await post_all(self._usage, [_event(gang, rank, span) for rank, span in batch])
        except Exception as error:
            if isinstance(error, Unavailable):
                raise
            taken = []
            for rank, span in batch:
                taken.append(await self._post_one(key, gang, rank, span))
                spans[rank.rank] = span.index + 1
            return all(taken)
        spans.update({rank.rank: span.index + 1 for rank, span in batch})
        return True

    async def _post_one(self, key: _Key, gang: GangRecord, rank: RankRecord, span: Span) -> bool:
        """Post it, or keep it as what cannot be billed. Returns whether it is posted. Raises what may
        pass."""
        try:
            await post_all(self._usage, [_event(gang, rank, span)])
            return True
        except Exception as error:
            tries = self._guard.tries_of(("meter", gang.uid, key[0], gang.attempt))
            refused = isinstance(error, ComputilityError) and not isinstance(error, Unavailable)
            if not refused and (isinstance(error, Unavailable) or tries < MOST_TRIES - 1):
                raise
            await self._reject(gang.uid, _fields(gang, rank, span), fault_of(error))
            return False

    async def _reject(self, uid: str, record: Mapping[str, Any], fault: Fault) -> None:
        await self._rejected.keep(record, fault.message)
        self._not_billed.append(NotBilled(uid, fault, str(record["id"]), rejected=True))


def _is_gone(node: NodeObservation | None) -> bool:
    return node is None or node.state != "Silent"


def _closed(gang: GangRecord, ended_ms: int) -> GangRecord:
    """The record as if every process had ended then."""
    ranks = (
        rank if rank.finished_ms is not None else replace(rank, state="Exited", finished_ms=ended_ms)
        for rank in gang.ranks
    )
    return replace(gang, ranks=tuple(ranks))


def _due(gang: GangRecord, now_ms: int, spans: dict[int, int]) -> Iterator[_DueSpan]:
    for rank in gang.ranks:
        if rank.grants:
            first = max(rank.metered_spans, spans.get(rank.rank, 0))
            interval = gang.billing.interval_seconds
            for span in due_spans(rank.started_ms, rank.finished_ms, now_ms, interval, first):
                yield rank, span


def _next_due_ms(metered: _Metered) -> int | None:
    """When the next span of any of its ranks is over; None where none will be."""
    interval_ms = metered.record.billing.interval_seconds * 1000
    ends = (
        rank.started_ms + (max(rank.metered_spans, metered.spans.get(rank.rank, 0)) + 1) * interval_ms
        for rank in metered.record.ranks
        if rank.grants and rank.finished_ms is None
    )
    return min(ends, default=None)


def _event(gang: GangRecord, rank: RankRecord, span: Span) -> UsageEvent:
    return UsageEvent(**_fields(gang, rank, span))


def _fields(gang: GangRecord, rank: RankRecord, span: Span) -> dict[str, Any]:
    """The event that bills a span. Names are for reports: an odd character in one makes nothing free."""
    billing, grant = gang.billing, rank.grants[0]
    millis = sum(grant.millis for grant in rank.grants)
    return {
        "id": derived_id("use", "device", gang.uid, gang.attempt, rank.rank, span.index),
        "kind": "device",
        "tenant": billing.tenant,
        "project": billing.project,
        "key": one_line(billing.key),
        "model": one_line(billing.model),
        "model_identity": billing.model_identity,
        "device_class": f"{grant.vendor}/{grant.model}",
        "resource": one_line(billing.workload),
        "started_ms": span.started_ms,
        "ended_ms": span.ended_ms,
        "quantities": {"device_seconds": device_seconds(rank.started_ms, span, millis)},
    }
