"""Prices that change while work is under way, and gateways whose clocks differ: each event has one price,
that of its own admission, whoever posts it when."""

import random
from zoneinfo import ZoneInfo

import pytest

from billing.core.events import UsageEvent
from billing.months import month_of
from billing.reports import usage_report
from billing.store import Ledger, UsageFilter
from billing.store.invoices import Invoices
from common.clock import VirtualClock, parse_rfc3339
from common.db import Database
from common.resources import Metadata, Price
from common.resources.money import PriceItem, PriceSpec
from common.store.memory import MemoryStore
from tests.contract.test_ledger import chat

ZONE = "Europe/Berlin"
MIDNIGHT = parse_rfc3339("2026-03-31T22:00:00Z")
"""That of the first of April in ``ZONE``, two days after its clocks went forward."""
SUMMER = parse_rfc3339("2026-03-29T01:00:00Z")
"""When they do: 02:00 becomes 03:00."""
SKEW_MS = 5000
STREAM_MS = 40_000
OLD, NEW, CONTRACT, NIGHT = 2_000_000, 5_000_000, 1_000_000, 9_000_000
JUNE = parse_rfc3339("2026-06-01T00:00:00Z")


def book(name: str, price: int, begins: str, hours: str = "", **more: object) -> Price:
    items = [PriceItem(meter="completion_tokens", microcredits_per_million=price)]
    if hours:
        items.append(PriceItem(meter="completion_tokens", hours=hours, microcredits_per_million=NIGHT))
    spec = PriceSpec(effective_from=begins, items=items, time_zone=ZONE, **more)  # type: ignore[arg-type]
    return Price(metadata=Metadata(name=name), spec=spec)


@pytest.fixture
async def ledger(database: Database) -> Ledger:
    """The price for all changes at midnight, and a contract ends then; another one has dear early hours."""
    store = MemoryStore(VirtualClock())
    ends = {"tenant": "acme", "effective_until": "2026-03-31T22:00:00Z"}
    await store.apply(book("old", OLD, "2026-01-01T00:00:00Z"))
    await store.apply(book("new", NEW, "2026-03-31T22:00:00Z"))
    await store.apply(book("contract", CONTRACT, "2026-01-01T00:00:00Z", **ends))
    await store.apply(book("early", CONTRACT, "2026-01-01T00:00:00Z", tenant="early", hours="03:00-04:00"))
    return Ledger(database, store, VirtualClock(JUNE))


def stream(id_: str, tenant: str, admitted_ms: int) -> UsageEvent:
    """A million tokens, so that what it costs is its price."""
    return chat(
        id_,
        tenant=tenant,
        admitted_ms=admitted_ms,
        started_ms=admitted_ms,
        ended_ms=admitted_ms + STREAM_MS,
        quantities={"completion_tokens": 1_000_000},
    )


def expected(tenant: str, admitted_ms: int) -> int:
    if tenant == "acme":
        return CONTRACT if admitted_ms < MIDNIGHT else NEW
    return OLD if admitted_ms < MIDNIGHT else NEW


async def costs(ledger: Ledger) -> dict[str, int]:
    rows = await ledger.usage(["tenant"])
    return {row.group["tenant"]: row.microcredits for row in rows}


@pytest.mark.parametrize("tenant", ["acme", "umbrella"])
async def test_a_price_that_changes_in_mid_stream_is_that_of_admission(ledger: Ledger, tenant: str) -> None:
    """Admitted before midnight and ended after it: the old price, also of a contract that ended meanwhile."""
    moments = [MIDNIGHT - STREAM_MS - 1, MIDNIGHT - STREAM_MS, MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + 1]
    events = [stream(f"use-{number}", tenant, at) for number, at in enumerate(moments)]
    assert (await ledger.post(events)).accepted == len(events)
    for event in events:
        [posted] = await ledger.transactions(event.id)
        assert posted.entries[0].microcredits == expected(tenant, event.admitted_ms)


async def test_clocks_that_are_apart_change_no_price_and_lose_nothing_at_the_month_s_end(
    database: Database, ledger: Ledger
) -> None:
    """Three gateways admit requests at the same moments, each by its own clock, around a month's end at which
    prices change; they post what they have in any order, and some of it twice."""
    chance = random.Random(5)
    events = [
        stream(f"use-{gateway}-{number}", tenant, MIDNIGHT + true_ms + skew_ms)
        for gateway, skew_ms in enumerate((-SKEW_MS, 0, SKEW_MS))
        for tenant in ("acme", "umbrella")
        for number, true_ms in enumerate(range(-60_000, 20_000, 3500), start=100 * len(tenant))
    ]
    posts = [*events, *chance.sample(events, 40)]
    chance.shuffle(posts)
    for start in range(0, len(posts), 17):
        await ledger.post(posts[start : start + 17])
    due = {
        tenant: sum(expected(tenant, one.admitted_ms) for one in events if one.tenant == tenant)
        for tenant in ("acme", "umbrella")
    }
    assert await costs(ledger) == due
    assert (await usage_report(ledger)).total.events == len(events)
    assert (await ledger.trial_balance()).total_microcredits == 0
    invoices = Invoices(database, VirtualClock(JUNE))
    for tenant, amount in due.items():
        billed = [
            await invoices.issue(tenant, tenant, month_of(month, ZONE)) for month in ("2026-03", "2026-04")
        ]
        assert all(one.document is not None for one in billed)
        assert sum(one.document.microcredits for one in billed if one.document) == amount


async def test_the_hour_that_clocks_leave_out_has_no_price_and_the_one_after_it_has(ledger: Ledger) -> None:
    """03:00 to 04:00 there is the hour right after 02:00 that night, and each moment has one price."""
    zone, minute_ms = ZoneInfo(ZONE), 60_000
    assert month_of("2026-03", str(zone)).end_ms == MIDNIGHT
    moments = range(SUMMER - 90 * minute_ms, SUMMER + 90 * minute_ms, 10 * minute_ms)
    await ledger.post([stream(f"use-{at}", "early", at) for at in moments])
    for at in moments:
        [posted] = await ledger.transactions(f"use-{at}")
        dear = SUMMER <= at < SUMMER + 60 * minute_ms
        assert posted.entries[0].microcredits == (NIGHT if dear else CONTRACT)


async def test_a_day_with_23_hours_is_billed_once(database: Database, ledger: Ledger) -> None:
    begin = parse_rfc3339("2026-03-28T23:00:00Z")
    await ledger.post([stream(f"use-{hour}", "umbrella", begin + hour * 3_600_000) for hour in range(48)])
    where = UsageFilter(tenant="umbrella", from_ms=begin, to_ms=begin + 23 * 3_600_000)
    [day] = await ledger.usage([], where)
    assert (day.events, day.microcredits) == (23, 23 * OLD)
    invoices = Invoices(database, VirtualClock(JUNE))
    issued = await invoices.issue("umbrella", "Umbrella", month_of("2026-03", ZONE))
    assert issued.document is not None
    assert issued.document.microcredits == 48 * OLD
