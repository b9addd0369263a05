"""What a cascade saves, as the bill shows it: the gateway's events, priced by a book on a real ledger."""

from pathlib import Path
from typing import Any

import pytest

from billing.core.events import UsageEvent
from billing.store import Ledger
from common.clock import SYSTEM_CLOCK, VirtualClock
from common.db import Database
from common.resources import Metadata, Price
from common.resources.money import PriceItem, PriceSpec
from common.store.memory import MemoryStore
from tests.fixtures.doors import PROJECT, door, doors, own
from tests.fixtures.gateway import serving
from tests.integration.inference.one_door.test_own_candidates import ask, engines

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

SMALL, LARGE = 1_000_000, 20_000_000
"""Micro-credits for a million tokens, of prompts as of answers."""
EASY, HARD = 8, 2
OBJECT: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
"""What neither stand-in engine gives: the small one's answer fails the check, the large one is the last."""


def prices() -> Price:
    items = [
        PriceItem(meter=meter, model=f"{PROJECT}/{model}", microcredits_per_million=price)
        for meter in ("prompt_tokens", "cached_tokens", "completion_tokens")
        for model, price in (("small", SMALL), ("large", LARGE))
    ]
    spec = PriceSpec(effective_from="2026-01-01T00:00:00Z", items=items)
    return Price(metadata=Metadata(name="book"), spec=spec)


async def priced(events: list[dict[str, Any]], folder: Path) -> dict[str, int]:
    """Micro-credits by model, after posting."""
    store = MemoryStore(VirtualClock())
    await store.apply(prices())
    database = Database(f"sqlite+aiosqlite:///{folder / 'ledger.db'}")
    try:
        await database.migrate()
        ledger = Ledger(database, store, SYSTEM_CLOCK)
        posted = await ledger.post([UsageEvent.from_dict(event) for event in events])
        assert posted.accepted == len(events)
        return {row.group["model"]: row.microcredits for row in await ledger.usage(["model"])}
    finally:
        await database.close()


def tokens(event: dict[str, Any]) -> int:
    """Those read and those made; cached ones are among the former, at the same price here."""
    used = event["quantities"]
    return int(used["prompt_tokens"] + used["completion_tokens"])


async def test_a_cascade_costs_less_than_its_large_model_for_all(tmp_path: Path) -> None:
    async with engines(2) as (one, two):
        cascade = door("smart", "small", "large", checks=("format",))
        table = doors(own("small", one.url), own("large", two.url), cascade)
        async with serving(tmp_path, table) as front:
            for _ in range(EASY):
                await ask(front)
            for _ in range(HARD):
                _, told = await ask(front, response_format=OBJECT)
                assert told == {"route": "smart", "model": "large", "tried": "small:format"}
            events = await front.billed(EASY + 2 * HARD)
    paid = await priced(events, tmp_path)
    small = [event for event in events if event["model"] == "small"]
    large = [event for event in events if event["model"] == "large"]
    assert (len(small), len(large)) == (EASY + HARD, HARD)
    assert [event["labels"].get("route_check") for event in small].count("format") == HARD
    assert paid == {
        "small": sum(map(tokens, small)) * SMALL // 1_000_000,
        "large": sum(map(tokens, large)) * LARGE // 1_000_000,
    }
    answered = [event for event in events if "route_check" not in event["labels"]]
    assert sum(paid.values()) < sum(map(tokens, answered)) * LARGE // 1_000_000 // 3
