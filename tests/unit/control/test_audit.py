"""The audit log: what was done stands in it, and refusals neither fill it nor keep the store busy."""

from common.clock import VirtualClock
from common.store.memory import MemoryStore
from control.audit import ANONYMOUS, REFUSALS_PER_MINUTE, AuditTrail


def told(entries: object) -> list[tuple[str, str, str, str]]:
    return [(e.principal, e.action, e.target, e.outcome) for e in entries]  # type: ignore[attr-defined]


async def test_strangers_are_counted_and_not_written_down_one_by_one() -> None:
    clock = VirtualClock()
    store = MemoryStore(clock)
    trail = AuditTrail(store, clock)
    await trail.keep("admin", "POST", "/api/v1/apply", "ok")
    for _ in range(500):
        await trail.refuse(ANONYMOUS, "GET", "/api/v1/models", "invalid_api_key")
    assert told(await store.audit_log(limit=1000)) == [("admin", "POST", "/api/v1/apply", "ok")]
    clock.advance(60)
    await trail.refuse(ANONYMOUS, "GET", "/api/v1/models", "invalid_api_key")
    newest = told(await store.audit_log(limit=1000))[0]
    assert newest == (ANONYMOUS, "COUNTED", "500 refused requests", "invalid_api_key")


async def test_a_key_that_is_refused_again_and_again_is_counted_from_some_number_on() -> None:
    clock = VirtualClock()
    store = MemoryStore(clock)
    trail = AuditTrail(store, clock)
    for number in range(REFUSALS_PER_MINUTE + 9):
        await trail.refuse("mallory", "GET", f"/api/v1/projects/p{number}", "not_found", "uid-2")
    await trail.refuse("ada", "GET", "/api/v1/nodes", "forbidden", "uid-1")
    await trail.settle()
    entries = await store.audit_log(limit=1000)
    assert len(entries) == REFUSALS_PER_MINUTE + 2
    assert told(entries)[:2] == [
        ("mallory", "COUNTED", "9 refused requests", "not_found"),
        ("ada", "GET", "/api/v1/nodes", "forbidden"),
    ]
    assert entries[0].tenant == "uid-2"
    await trail.settle()
    assert len(await store.audit_log(limit=1000)) == len(entries)
