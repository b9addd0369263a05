"""Device time of gangs becomes usage events: every second of every slot once, whatever crashes between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from billing.core.events import UsageEvent
from common.errors import ComputilityError
from common.ids import derived_id
from common.resources.pool import WHOLE_MILLIS
from common.telemetry import get_logger
from scheduler.core.metering import Span, due_spans
from scheduler.observed import Observed
from scheduler.ports import Fabric, GangRecord, NodeObservation, RankRecord, UsageSink

BATCH = 200
_log = get_logger(__name__)
_Key = tuple[str, str, int]


@dataclass
class _Metered:
    """A gang on a node as last seen, and how many spans of each rank the ledger has."""

    record: GangRecord
    seen_ms: int
    spans: dict[int, int]


class DeviceMeter:
    """Derives spans from the agents' records. An id follows from (uid, attempt, rank, span), so repeating
    is harmless.

    A gang whose record vanished (node lost, agent restarted) is charged until it was last seen.
    """

    def __init__(self, fabric: Fabric, usage: UsageSink) -> None:
        self._fabric = fabric
        self._usage = usage
        self._known: dict[_Key, _Metered] = {}

    async def meter(self, observed: Observed, now_ms: int) -> None:
        """Post what is due."""
        present = set()
        for node, gang in observed.gangs():
            key = (node.name, gang.uid, gang.attempt)
            present.add(key)
            spans = self._known[key].spans if key in self._known else {}
            self._known[key] = _Metered(gang, now_ms, spans)
            await self._post(key, gang, now_ms)
        for key in [
            key for key in self._known if key not in present and _is_gone(observed.nodes.get(key[0]))
        ]:
            metered = self._known[key]
            await self._post(key, _closed(metered.record, metered.seen_ms), metered.seen_ms)
            del self._known[key]

    def is_settled(self, node: str, gang: GangRecord) -> bool:
        """Whether all of an ended gang's device time is posted."""
        metered = self._known.get((node, gang.uid, gang.attempt))
        return metered is not None and not gang.alive and not list(_due(gang, 0, metered.spans))

    def drop(self, node: str, gang: GangRecord) -> None:
        """The node has forgotten the gang, as it was told to."""
        self._known.pop((node, gang.uid, gang.attempt), None)

    async def _post(self, key: _Key, gang: GangRecord, now_ms: int) -> None:
        spans = self._known[key].spans
        due = list(_due(gang, now_ms, spans))
        if not due:
            return
        for start in range(0, len(due), BATCH):
            batch = due[start : start + BATCH]
            await self._usage.post([_event(gang, rank, span) for rank, span in batch])
            spans.update({rank.rank: span.index + 1 for rank, span in batch})
        try:
            await self._fabric.mark_metered(key[0], gang.uid, gang.attempt, spans)
        except ComputilityError as error:  # only saves work after a restart
            _log.info("metering mark not kept", node=key[0], error=error.message)


def _is_gone(node: NodeObservation | None) -> bool:
    return node is None or node.state != "Silent"


def _closed(gang: GangRecord, ended_ms: int) -> GangRecord:
    """The record as if every process had ended then."""
    ranks = (
        rank if rank.finished_ms is not None else replace(rank, state="Exited", finished_ms=ended_ms)
        for rank in gang.ranks
    )
    return replace(gang, ranks=tuple(ranks))


def _due(gang: GangRecord, now_ms: int, spans: dict[int, int]) -> Iterator[tuple[RankRecord, Span]]:
    for rank in gang.ranks:
        if rank.grants:
            first = max(rank.metered_spans, spans.get(rank.rank, 0))
            interval = gang.billing.interval_seconds
            for span in due_spans(rank.started_ms, rank.finished_ms, now_ms, interval, first):
                yield rank, span


def _event(gang: GangRecord, rank: RankRecord, span: Span) -> UsageEvent:
    billing, grant = gang.billing, rank.grants[0]
    millis = sum(grant.millis for grant in rank.grants)
    before = span.index * billing.interval_seconds
    device_seconds = millis * (before + span.seconds) // WHOLE_MILLIS - millis * before // WHOLE_MILLIS
    return UsageEvent(
        id=derived_id("use", "device", gang.uid, gang.attempt, rank.rank, span.index),
        kind="device",
        tenant=billing.tenant,
        project=billing.project,
        key=billing.key,
        model=billing.model,
        model_identity=billing.model_identity,
        device_class=f"{grant.vendor}/{grant.model}",
        resource=billing.workload,
        started_ms=span.started_ms,
        ended_ms=span.ended_ms,
        quantities={"device_seconds": device_seconds},
    )
