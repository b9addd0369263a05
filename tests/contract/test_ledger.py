"""What the ledger must do, on SQLite and PostgreSQL."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from billing.core.events import METERS, UsageEvent
from billing.core.rating import RatedLine, Rates, rate
from billing.reports import usage_report
from billing.store import Ledger, PostResult, UsageFilter
from billing.store.books import book_of
from billing.store.bulk import Row
from billing.store.rows import event_row
from billing.store.schema import usage_events
from common.clock import VirtualClock, parse_rfc3339
from common.db import Database
from common.errors import InvalidInput, NotFound
from common.resources import Metadata, Price
from common.resources.money import PriceItem, PriceSpec
from common.store.memory import MemoryStore

NOON = parse_rfc3339("2026-03-01T12:00:00Z")
DAY_MS = 24 * 3600 * 1000


def price_book(
    name: str = "standard", prompt: int = 2_000_000, effective_from: str = "2026-01-01T00:00:00Z"
) -> Price:
    items = [
        PriceItem(meter="prompt_tokens", microcredits_per_million=prompt),
        PriceItem(meter="cached_tokens", microcredits_per_million=500_000),
        PriceItem(meter="completion_tokens", model="tiny", microcredits_per_million=6_000_000),
        PriceItem(meter="device_seconds", device_class="nvidia/H100", microcredits_per_million=900_000_000),
    ]
    return Price(metadata=Metadata(name=name), spec=PriceSpec(effective_from=effective_from, items=items))


def chat(id_: str = "use-1", **changes: object) -> UsageEvent:
    event = UsageEvent(
        id=id_,
        kind="inference",
        tenant="acme",
        project="web",
        started_ms=NOON - 900,
        ended_ms=NOON,
        quantities={"prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 7},
        key="key-1",
        model="tiny",
        model_identity="platform/tiny",
        model_shared=True,
    )
    return replace(event, **changes)  # type: ignore[arg-type]


@pytest.fixture
async def prices() -> MemoryStore:
    """A store that holds the standard price book."""
    store = MemoryStore(VirtualClock())
    await store.apply(price_book())
    return store


@pytest.fixture
def ledger(database: Database, prices: MemoryStore) -> Ledger:
    return Ledger(database, prices, VirtualClock())


class TestPost:
    async def test_an_event_is_rated_and_posted(self, ledger: Ledger) -> None:
        assert await ledger.post([chat()]) == PostResult(1, 0)
        (posted,) = await ledger.transactions("use-1")
        assert [(entry.account, entry.microcredits) for entry in posted.entries] == [
            ("receivable:acme/web", 12 + 2 + 42),
            ("revenue:prompt_tokens", -12),
            ("revenue:cached_tokens", -2),
            ("revenue:completion_tokens", -42),
        ]
        assert dict((await ledger.trial_balance()).accounts) == {
            "receivable:acme/web": 56,
            "revenue:cached_tokens": -2,
            "revenue:completion_tokens": -42,
            "revenue:prompt_tokens": -12,
        }

    async def test_nothing_posted_is_nothing_done(self, ledger: Ledger) -> None:
        assert await ledger.post([]) == PostResult(0, 0)
        assert (await usage_report(ledger)).total.events == 0

    async def test_an_id_is_posted_once(self, ledger: Ledger) -> None:
        await ledger.post([chat()])
        assert await ledger.post([chat(), chat("use-2"), chat("use-2")]) == PostResult(1, 2)
        assert (await usage_report(ledger)).total.microcredits == 2 * 56

    async def test_an_id_with_another_content_is_refused_and_the_rest_posted(self, ledger: Ledger) -> None:
        await ledger.post([chat()])
        more = chat(quantities={"prompt_tokens": 99})
        assert await ledger.post([more, chat("use-2")]) == PostResult(1, 0, ("use-1",))
        assert await ledger.post([chat("use-3"), chat("use-3", model="other")]) == PostResult(
            1, 0, ("use-3",)
        )
        assert (await usage_report(ledger)).total.prompt_tokens == 30

    async def test_many_posters_of_the_same_events_post_each_once(
        self, database: Database, prices: MemoryStore
    ) -> None:
        events = [chat(f"use-{n:03}") for n in range(250)]
        posters = []
        for seed in range(6):
            order = events[:]
            random.Random(seed).shuffle(order)
            posters.append(Ledger(database, prices, VirtualClock()).post(order))
        results = await asyncio.gather(*posters)
        assert sum(result.accepted for result in results) == 250
        assert sum(result.duplicates for result in results) == 5 * 250
        ledger = Ledger(database, prices)
        assert (await usage_report(ledger)).total.microcredits == 250 * 56
        assert (await ledger.trial_balance()).accounts["receivable:acme/web"] == 250 * 56

    async def test_the_price_is_pinned_when_posted(self, ledger: Ledger, prices: MemoryStore) -> None:
        await ledger.post([chat("before")])
        await prices.apply(price_book(prompt=50_000_000))
        assert await ledger.post([chat("before")]) == PostResult(0, 1), "what is posted stays as it was rated"
        await ledger.post([chat("after")])
        pinned = []
        for id_ in ("before", "after"):
            line = (await ledger.transactions(id_))[0].entries[1].line
            assert line is not None
            assert line.price is not None
            item = line.price.item
            pinned.append(
                (line.price.book, line.price.version, item.microcredits_per_million, line.microcredits)
            )
        assert pinned == [("standard", 1, 2_000_000, 12), ("standard", 2, 50_000_000, 300)]

    async def test_the_book_in_force_when_the_event_ended_counts(
        self, ledger: Ledger, prices: MemoryStore
    ) -> None:
        await prices.apply(price_book("spring", 7_000_000, "2026-03-01T12:00:00Z"))
        await ledger.post([chat("old", ended_ms=NOON - 1), chat("new", ended_ms=NOON)])
        books = []
        for id_ in ("old", "new"):
            line = (await ledger.transactions(id_))[0].entries[1].line
            books.append(line and line.price and line.price.book)
        assert books == ["standard", "spring"]

    async def test_a_served_name_chooses_no_price(self, ledger: Ledger) -> None:
        names = ("tiny", "small", "*", "platform/tiny")
        await ledger.post([chat(f"use-{n}", model=name) for n, name in enumerate(names)])
        report = await usage_report(ledger, ["model", "model_identity"])
        assert {row.group["model"] for row in report.rows} == set(names)
        assert {(row.group["model_identity"], row.microcredits) for row in report.rows} == {
            ("platform/tiny", 56)
        }
        assert (await usage_report(ledger, where=UsageFilter(model_identity="x/y"))).total.events == 0

    async def test_what_an_older_gateway_left_is_posted_at_the_price_of_its_name(
        self, ledger: Ledger
    ) -> None:
        old = {name: value for name, value in chat().to_dict().items() if not name.startswith("model_")}
        assert await ledger.post([UsageEvent.from_dict(old)]) == PostResult(1, 0)
        assert (await usage_report(ledger)).total.microcredits == 56

    async def test_what_has_no_price_is_posted_and_shown(self, ledger: Ledger) -> None:
        await ledger.post([chat(model_identity="lab/tiny", model_shared=False), chat("use-2", quantities={})])
        total = (await usage_report(ledger)).total
        assert (total.events, total.completion_tokens, total.unpriced_lines, total.microcredits) == (
            2,
            7,
            1,
            14,
        )

    async def test_the_counters_count_what_was_posted(self, ledger: Ledger) -> None:
        def value(name: str, **labels: str) -> float:
            return REGISTRY.get_sample_value(name, labels) or 0.0

        def now() -> tuple[float, ...]:
            return (
                value("computility_usage_events_total", result="posted"),
                value("computility_usage_events_total", result="duplicate"),
                value("computility_usage_posted_total", meter="completion_tokens"),
                value("computility_usage_microcredits_total", meter="completion_tokens"),
            )

        before = now()
        await ledger.post([chat(), chat(), chat("use-2")])
        assert [b - a for a, b in zip(before, now(), strict=True)] == [2, 1, 14, 84]


class TestReverse:
    async def test_a_reversal_takes_the_event_back(self, ledger: Ledger) -> None:
        await ledger.post([chat(), chat("use-2")])
        reversal = await ledger.reverse("use-1", "counted twice by the engine")
        assert (reversal.microcredits, reversal.repeated) == (56, False)
        assert (await ledger.trial_balance()).accounts["receivable:acme/web"] == 56
        assert (await usage_report(ledger)).total.events == 1
        usage, taken_back = await ledger.transactions("use-1")
        assert taken_back.reason == "counted twice by the engine"
        assert [e.microcredits for e in taken_back.entries] == [-e.microcredits for e in usage.entries]

    async def test_it_happens_once(self, ledger: Ledger) -> None:
        await ledger.post([chat()])
        done = await asyncio.gather(*(ledger.reverse("use-1", "again") for _ in range(5)))
        assert sorted(reversal.repeated for reversal in done) == [False, True, True, True, True]
        assert set((await ledger.trial_balance()).accounts.values()) == {0}
        assert await ledger.post([chat()]) == PostResult(0, 1), "the id stays used"

    async def test_an_unknown_event_cannot_be_reversed(self, ledger: Ledger) -> None:
        with pytest.raises(NotFound, match="use-9"):
            await ledger.reverse("use-9", "?")


def many_events() -> list[UsageEvent]:
    chance = random.Random(7)
    events = []
    for n in range(300):
        prompt = chance.randrange(0, 500)
        kind = chance.choice(["inference", "inference", "device"])
        tokens = {"prompt_tokens": prompt, "cached_tokens": chance.randrange(0, prompt + 1)}
        tokens["completion_tokens"] = chance.randrange(0, 300)
        event = chat(
            f"use-{n:04}",
            kind=kind,
            tenant=chance.choice(["acme", "umbrella"]),
            project=chance.choice(["web", "lab"]),
            key=chance.choice(["key-1", "key-2", ""]),
            model=chance.choice(["tiny", "other"]) if kind == "inference" else "",
            device_class="nvidia/H100" if kind == "device" else "",
            ended_ms=NOON + chance.randrange(0, 3 * DAY_MS),
            quantities=tokens if kind == "inference" else {"device_seconds": chance.randrange(1, 60)},
        )
        events.append(event)
    return events


class TestReport:
    async def test_it_adds_up_exactly_what_was_posted(self, ledger: Ledger, prices: MemoryStore) -> None:
        events = many_events()
        await ledger.post(events)
        books = [book_of(price) for price in await prices.list(Price)]
        groups = ("tenant", "model", "kind")
        expected: dict[tuple[str, ...], Counter[str]] = {}
        for event in events:
            row = expected.setdefault((event.tenant, event.model, event.kind), Counter())
            row.update({meter: event.quantity(meter) for meter in METERS})
            row["events"] += 1
            row["requests"] += event.kind == "inference"
            for line in rate(event, books):
                row["microcredits"] += line.microcredits
                row["unpriced_lines"] += line.unpriced
        report = await usage_report(ledger, groups)
        found = {tuple(row.group[name] for name in groups): row for row in report.rows}
        assert list(found) == sorted(expected)
        for key, sums in expected.items():
            shown = vars(found[key])
            assert {name: shown[name] for name in shown if name != "group"} == {
                name: sums[name] for name in shown if name != "group"
            }
        trial = await ledger.trial_balance()
        assert trial.total_microcredits == 0
        receivable = sum(v for account, v in trial.accounts.items() if account.startswith("receivable:"))
        assert receivable == report.total.microcredits > 0

    @pytest.mark.parametrize(
        "where",
        [
            UsageFilter(tenant="acme"),
            UsageFilter(project="lab", key="key-2"),
            UsageFilter(key=""),
            UsageFilter(model="tiny"),
            UsageFilter(from_ms=NOON + DAY_MS, to_ms=NOON + 2 * DAY_MS),
        ],
    )
    async def test_filters(self, ledger: Ledger, where: UsageFilter) -> None:
        events = many_events()
        await ledger.post(events)
        wanted = [
            e
            for e in events
            if all(
                getattr(where, name) in (None, getattr(e, name))
                for name in ("tenant", "project", "key", "model")
            )
            and (where.from_ms is None or e.ended_ms >= where.from_ms)
            and (where.to_ms is None or e.ended_ms < where.to_ms)
        ]
        report = await usage_report(ledger, ["day", "key", "device_class", "project"], where)
        assert 0 < len(wanted) < len(events)
        assert report.total.events == sum(row.events for row in report.rows) == len(wanted)
        assert report.total.prompt_tokens == sum(e.quantity("prompt_tokens") for e in wanted)

    async def test_days_are_those_of_utc(self, ledger: Ledger) -> None:
        midnight = parse_rfc3339("2026-03-02T00:00:00Z")
        await ledger.post([chat("a", ended_ms=midnight - 1), chat("b", ended_ms=midnight)])
        report = await usage_report(ledger, ["day"])
        assert [(row.group["day"], row.events) for row in report.rows] == [
            ("2026-03-01", 1),
            ("2026-03-02", 1),
        ]
        assert report.to_dict()["rows"][0]["day"] == "2026-03-01"

    @pytest.mark.parametrize(
        ("groups", "where", "param"),
        [
            (["colour"], UsageFilter(), "group_by"),
            (["tenant", "tenant"], UsageFilter(), "group_by"),
            ([], UsageFilter(from_ms=5, to_ms=5), "to"),
        ],
    )
    async def test_a_wrong_question_is_refused(
        self, ledger: Ledger, groups: list[str], where: UsageFilter, param: str
    ) -> None:
        with pytest.raises(InvalidInput) as refused:
            await usage_report(ledger, groups, where)
        assert refused.value.param == param


async def test_an_event_that_cannot_be_posted_is_refused_alone_and_with_its_reason(
    database: Database, prices: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class RatesButOne(Rates):
        def lines(self, event: UsageEvent, used: Mapping[str, int] | None = None) -> tuple[RatedLine, ...]:
            if event.id == "use-odd":
                raise ZeroDivisionError("a price that nobody foresaw")
            return super().lines(event, used)

    def row_but_one(
        event: UsageEvent, lines: Sequence[RatedLine], posted_ms: int, digest: str, series: str
    ) -> Row:
        row = event_row(event, lines, posted_ms, digest, series)
        place = list(usage_events.c.keys()).index("ended_ms")
        return (*row[:place], 10**30, *row[place + 1 :]) if event.id == "use-long" else row

    monkeypatch.setattr("billing.store.ledger.Rates", RatesButOne)
    monkeypatch.setattr("billing.store.ledger.event_row", row_but_one)
    ledger = Ledger(database, prices, VirtualClock(NOON))
    names = ("use-1", "use-odd", "use-2", "use-long", "use-3")
    posted = await ledger.post([chat(name) for name in names])
    assert (posted.accepted, posted.duplicates, posted.refused) == (3, 0, ("use-odd", "use-long"))
    assert "ZeroDivisionError" in posted.reason("use-odd")
    assert posted.reason("use-long")
    assert [row.prompt_tokens for row in await ledger.usage()] == [30]
