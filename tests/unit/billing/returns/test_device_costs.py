"""What devices cost by the hour, and margins, checked by hand and against exact fractions."""

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core.device_costs import HOURS_PER_YEAR, CostTable, DeviceCost, Margin, Power, rounded, shares
from billing.margins import margin_report
from billing.store import Ledger, UsageFilter
from common.errors import InvalidInput
from tests.contract.test_ledger import DAY_MS, NOON, chat, ledger, prices
from tests.unit.billing.test_ledger_store import database, migrated

__all__ = ["database", "ledger", "migrated", "prices"]

H100 = DeviceCost(HOURS_PER_YEAR * 5 * 3_000_000, 5, busy_watts=1000, idle_watts=200)
TABLE = CostTable({"nvidia/H100": H100}, Power(kwh_microcredits=100_000, pue_millis=1500))
"""3 credits an hour for the purchase; 0.15 more where it is busy, 0.03 where it is idle."""


def test_an_hour_checked_by_hand() -> None:
    assert TABLE.hour_microcredits("nvidia/H100", busy=True) == 3_150_000
    assert TABLE.hour_microcredits("nvidia/H100", busy=False) == 3_030_000
    assert TABLE.made_microcredits("NVIDIA/h100", 7200) == 6_300_000
    assert TABLE.made_microcredits("amd/MI300X", 7200) is None


@given(st.integers(0, 10**15), st.integers(1, 20), st.integers(0, 10**5), st.integers(0, 10**15))
def test_parts_of_a_time_cost_what_the_whole_does(
    purchase: int, years: int, watts: int, seconds: int
) -> None:
    table = CostTable({"a/b": DeviceCost(purchase, years, watts)}, Power(123_457, 1337))
    whole, part = table.made_microcredits("a/b", seconds), table.made_microcredits("a/b", seconds // 3)
    rest = table.made_microcredits("a/b", seconds - seconds // 3)
    assert whole is not None
    assert part is not None
    assert rest is not None
    assert whole == part + rest >= 0
    life = table.made_microcredits("a/b", years * HOURS_PER_YEAR * 3600)
    assert life is not None
    assert life >= purchase


@given(st.fractions(max_denominator=10**9))
def test_rounding_is_half_up(amount: Fraction) -> None:
    assert Fraction(-1, 2) < rounded(amount) - amount <= Fraction(1, 2)


@given(
    st.fractions(0, 10**15, max_denominator=10**12),
    st.lists(st.integers(0, 10**12), min_size=1, max_size=8).filter(any),
)
def test_shares_add_up_and_keep_to_few_denominators(amount: Fraction, weights: list[int]) -> None:
    parts = shares(amount, weights)
    assert sum(parts) == amount
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - amount * weight / sum(weights)) < Fraction(1, 10**6)
        assert amount.denominator * 10**6 % part.denominator == 0


def test_nothing_has_no_ratios() -> None:
    assert [name for name, value in Margin().to_dict().items() if value is None] == [
        "margin_millis",
        "charged_per_million_tokens_microcredits",
        "made_per_million_tokens_microcredits",
    ]


async def test_a_report_checked_by_hand(ledger: Ledger) -> None:
    """Two requests of 17 tokens for 56 micro-credits each, whose engine held an H100 for an hour (at 900
    micro-credits a second) and a device without a cost for a minute; and a job of no model."""
    engine = {"kind": "device", "model_identity": "platform/tiny", "device_class": "nvidia/H100"}
    job = {**engine, "model_identity": "", "model": "", "tenant": "umbrella"}
    await ledger.post(
        [
            chat("a", device_class="nvidia/H100"),
            chat("b", device_class="nvidia/H100", tenant="umbrella"),
            chat("gpu", quantities={"device_seconds": 3600}, **engine),
            chat("cpu", quantities={"device_seconds": 60}, **{**engine, "device_class": "cpu/x"}),
            chat("job", quantities={"device_seconds": 7200}, ended_ms=NOON + 31 * DAY_MS, **job),
        ]
    )
    report = await margin_report(ledger, TABLE, ["model_identity", "month"], UsageFilter())
    assert list(report.rows) == [("", "2026-04"), ("platform/tiny", "2026-03")]
    charged = 2 * 56 + 3600 * 900
    assert report.rows["platform/tiny", "2026-03"].to_dict() == {
        "tokens": 34,
        "device_seconds": 3660,
        "uncosted_device_seconds": 60,
        "charged_microcredits": charged,
        "made_microcredits": 3_150_000,
        "margin_microcredits": charged - 3_150_000,
        "margin_millis": rounded(Fraction(1000 * (charged - 3_150_000), charged)),
        "charged_per_million_tokens_microcredits": rounded(Fraction(112 * 10**6, 34)),
        "made_per_million_tokens_microcredits": rounded(Fraction(3_150_000 * 10**6, 34)),
    }
    whole = (await margin_report(ledger, TABLE, [], UsageFilter())).to_dict()
    assert whole["total"] == report.total.to_dict()
    assert whole["devices"] == [
        {
            "device_class": "nvidia/H100",
            "busy_hour_microcredits": 3_150_000,
            "idle_hour_microcredits": 3_030_000,
        }
    ]
    by_class = await margin_report(ledger, TABLE, ["device_class"], UsageFilter())
    assert (list(by_class.rows), by_class.total) == ([("cpu/x",), ("nvidia/H100",)], report.total)


async def test_what_a_model_cost_is_shared_out_by_tokens(ledger: Ledger) -> None:
    """acme holds the devices of a Model that umbrella's searchers use for two thirds of the tokens, and those
    of one that nobody uses."""
    engine = {"kind": "device", "model_identity": "platform/tiny", "device_class": "nvidia/H100"}
    idle = {**engine, "model_identity": "platform/idle"}
    await ledger.post(
        [
            chat("a"),
            *(chat(f"u-{n}", tenant="umbrella", tags={"team": "search"}) for n in range(2)),
            chat("gpu", quantities={"device_seconds": 3600}, **engine),
            chat("idle", quantities={"device_seconds": 7200}, **idle),
        ]
    )
    report = await margin_report(ledger, TABLE, ["tenant"], UsageFilter())
    found = {key: (row.made_microcredits, row.device_seconds) for key, row in report.rows.items()}
    assert found == {("acme",): (1_050_000 + 6_300_000, 10_800), ("umbrella",): (2_100_000, 0)}
    teams = await margin_report(ledger, TABLE, ["tag:team", "model_identity"], UsageFilter())
    assert {key: row.made_microcredits for key, row in teams.rows.items()} == {
        ("", "platform/idle"): 6_300_000,
        ("", "platform/tiny"): 1_050_000,
        ("search", "platform/tiny"): 2_100_000,
    }


@pytest.mark.parametrize("seed", range(3))
async def test_every_grouping_has_the_same_sums(ledger: Ledger, seed: int) -> None:
    chance = random.Random(seed)
    events = []
    for number in range(120):
        whose = {
            "tenant": chance.choice(["acme", "umbrella"]),
            "ended_ms": NOON + chance.randrange(9) * DAY_MS,
        }
        model = chance.choice(["", "lab/a", "lab/b"])
        device = chance.choice(["nvidia/H100", "cpu/x"])
        if chance.random() < 0.3:
            held = {"quantities": {"device_seconds": chance.randrange(1, 10**6)}, "kind": "device"}
            events.append(chat(f"u-{number}", model_identity=model, device_class=device, **whose, **held))
        else:
            tags = {"team": chance.choice(["search", "ads"])}
            tokens = {"completion_tokens": chance.randrange(9)}
            made = {"model_identity": model, "device_class": device, "tags": tags, "quantities": tokens}
            events.append(chat(f"u-{number}", **whose, **made))
    await ledger.post(events)
    whole = (await margin_report(ledger, TABLE, [], UsageFilter())).total
    assert whole.made_microcredits > 0
    for group_by in (["tenant"], ["tag:team", "day"], ["device_class", "tenant", "project"], ["month"]):
        report = await margin_report(ledger, TABLE, group_by, UsageFilter())
        assert sum(report.rows.values(), start=Margin()) == report.total == whole


async def test_a_wrong_question_is_refused_by_name(ledger: Ledger) -> None:
    for group_by in (["key"], ["tag:"], ["day", "day"], [f"tag:{n}" for n in range(9)]):
        with pytest.raises(InvalidInput, match="group_by"):
            await margin_report(ledger, TABLE, group_by, UsageFilter())
    with pytest.raises(InvalidInput, match="after from"):
        await margin_report(ledger, TABLE, [], UsageFilter(from_ms=2, to_ms=1))
