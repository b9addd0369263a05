"""Events of what guards have found: which, how often, in which request and where, and never the text."""

from __future__ import annotations

from common.ids import derived_id
from common.resources import Guardrail
from common.store.port import Event, Store
from common.wire import GuardHits, GuardReport

REASON = "GuardrailHit"
_MINUTE_MS = 60_000
_WHERE = {"input": "requests", "output": "answers"}
_DONE = {"flag": "flagged", "mask": "masked", "block": "blocked"}


async def tell_hits(store: Store, report: GuardReport, now_ms: int) -> None:
    """Record one event at most for each guard, action and direction of a guardrail in a minute, however much
    is found. What guardrails that are gone have found is dropped."""
    events = []
    for hits in report.hits:
        guardrail = await store.find(Guardrail, hits.guardrail)
        if guardrail is not None:
            events.append(_event(guardrail, hits, now_ms))
    if events:
        await store.record(*events)


def _event(guardrail: Guardrail, hits: GuardHits, now_ms: int) -> Event:
    minute = now_ms // _MINUTE_MS
    id_ = derived_id("evt", guardrail.metadata.uid, hits.guard, hits.action, hits.direction, minute)
    return Event(
        id=id_,
        time_ms=now_ms,
        level="warning" if hits.action == "block" else "info",
        reason=REASON,
        message=f"{hits.guard} {_DONE[hits.action]} {hits.count} in {_WHERE[hits.direction]}, "
        f"as in {hits.request_id} at {hits.path}",
        kind=Guardrail.__name__,
        name=guardrail.name,
        data={
            "guard": hits.guard,
            "action": hits.action,
            "direction": hits.direction,
            "count": hits.count,
            "requestId": hits.request_id,
            "path": hits.path,
        },
    )
