"""What engines have to have counted by the events, and sums of the ledger that agree, on both databases."""

import sqlalchemy as sa

from billing.core.reconciliation import CLOCKS_APART_MS, EventGroup
from billing.store import Ledger
from billing.store.schema import usage_totals
from common.clock import rfc3339
from common.db import Database
from common.store.memory import MemoryStore
from tests.contract.test_ledger import NOON, chat, ledger, many_events, prices

__all__ = ["ledger", "prices"]

FROM, TO = NOON - 60_000, NOON + 60_000
ENGINE = ("lab/chat", "chat-0")


async def test_events_are_added_up_by_the_engines_that_they_name(ledger: Ledger) -> None:
    here = {"endpoint": "lab/chat", "resource": "chat-0"}
    await ledger.post(
        [
            chat("use-1", **here),
            chat("use-2", **here),
            chat("use-3", **here, labels={"choices": "3", "prompts": "2"}),
            chat("use-4", **here, outcome="gateway_lost"),
            chat("use-5", **here, started_ms=FROM + CLOCKS_APART_MS, ended_ms=NOON),
            chat("use-6", **here, ended_ms=TO - CLOCKS_APART_MS),
            chat(
                "use-b", **here, ended_ms=TO - CLOCKS_APART_MS, labels={"choices": "1e9; drop", "prompts": ""}
            ),
            chat("use-7", **here, started_ms=TO + CLOCKS_APART_MS + 1, ended_ms=TO + 9_000),
            chat("use-8", **here, started_ms=FROM - 90_000, ended_ms=FROM - CLOCKS_APART_MS - 1),
            chat("use-9", endpoint="lab/other", resource="chat-0"),
            chat("use-a", kind="device", **here),
        ]
    )
    await ledger.reverse("use-2", "a test")
    used = await ledger.engine_use(FROM, TO)
    assert set(used) == {ENGINE, ("lab/other", "chat-0")}
    assert sorted(used[ENGINE], key=str) == sorted(
        [
            EventGroup("completed", 3, 30, 21, prompt_counted=50, sequences=8),
            EventGroup("gateway_lost", 1, 10, 7, prompt_counted=10, sequences=1),
            EventGroup("completed", 3, 30, 21, prompt_counted=30, sequences=3, edge=True),
        ],
        key=str,
    )


async def test_engines_that_shared_the_work_each_have_a_part(ledger: Ledger) -> None:
    here = {"endpoint": "lab/chat", "resource": "chat-0"}
    read = chat("use-1", **here, labels={"read_by": "chat-prefill-1"})
    await ledger.post([read, chat("use-2", **here, labels={"continued_by": "chat-1 chat-2"})])
    used = await ledger.engine_use(FROM, TO)
    parts = {(name, group.part) for (_, name), groups in used.items() for group in groups}
    assert parts == {
        ("chat-0", "answering"),
        ("chat-prefill-1", "reading"),
        ("chat-0", "beginning"),
        ("chat-1", "rest"),
        ("chat-2", "rest"),
    }


async def test_sums_that_agree_and_sums_that_do_not(
    ledger: Ledger, database: Database, prices: MemoryStore
) -> None:
    await ledger.post(many_events())
    await ledger.reverse(
        "use-0001" if await ledger.transactions("use-0001") else many_events()[0].id, "a test"
    )
    days = rfc3339(NOON - 10 * 86_400_000)[:10], rfc3339(NOON + 10 * 86_400_000)[:10]
    assert await ledger.days_apart(*days) == {}
    async with database.write() as connection:
        await connection.execute(
            sa.update(usage_totals).values(completion_tokens=usage_totals.c.completion_tokens + 1)
        )
    apart = await ledger.days_apart(*days)
    assert set(apart) == {"completion_tokens"}
    assert apart["completion_tokens"] < 0
