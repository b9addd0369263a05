"""outcomes as people see and type it, against a control that is played by a function."""

import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from rich.console import Console

from common.units import format_credits, parse_fixed
from control.console.tables.returns_table import print_outcomes, print_returns
from tests.unit.control.cli.test_commands import control, run

__all__ = ["control"]

RECORDED: dict[str, Any] = {
    "id": "T-42:ticket_resolved",
    "tenant": "acme",
    "project": "web",
    "tags": {"task": "T-42"},
    "work": "task=T-42",
    "name": "ticket_resolved",
    "count": 2,
    "value_microcredits": 12_500_000,
    "quality_millis": 900,
    "at": "2026-11-30T10:00:00Z",
    "recorded": "2026-11-30T10:00:00Z",
    "withdrawn": None,
    "repeated": False,
}


def printed(show: Callable[[Console, Any], None], content: Any) -> str:
    out = io.StringIO()
    show(Console(file=out, width=140), content)
    return out.getvalue()


def sums(cost: int, outcomes: int, value: int, roi: int | None, each: int | None) -> dict[str, Any]:
    return {
        "cost_microcredits": cost,
        "outcomes": outcomes,
        "value_microcredits": value,
        "net_microcredits": value - cost,
        "roi_millis": roi,
        "cost_per_outcome_microcredits": each,
        "quality_millis": 900 if outcomes else None,
    }


REPORT: dict[str, Any] = {
    "group_by": ["tag:team", "month"],
    "rows": [
        {"tag:team": "", "month": "2026-11", **sums(1_000_000, 0, 0, -1000, None)},
        {"tag:team": "search", "month": "2026-11", **sums(4_000_000, 2, 10_000_000, 1500, 2_000_000)},
    ],
    "total": sums(5_000_000, 2, 10_000_000, 1000, 2_500_000),
}


def test_value_stands_beside_cost() -> None:
    lines = [line.split() for line in printed(print_returns, REPORT).splitlines()]
    assert lines[0][:4] == ["tag:team", "MONTH", "COST", "OUTCOMES"]
    assert lines[1][2:7] == ["1.000000", "0", "0.000000", "-1.000000", "-100.0%"]
    assert lines[2][2:9] == ["4.000000", "2", "10.000000", "6.000000", "+150.0%", "2.000000", "0.900"], lines[
        2
    ]
    assert lines[2][9:] == ["██████", "100%"]
    assert lines[3][:3] == ["total", "-", "5.000000"]
    nothing = {"group_by": [], "rows": [], "total": sums(0, 0, 0, None, None)}
    assert "nothing was used" in printed(print_returns, nothing)
    alone = printed(print_returns, {**nothing, "total": REPORT["total"]})
    assert "SHARE" not in alone
    assert "+100.0%" in alone


def test_withdrawn_outcomes_are_marked() -> None:
    gone = {**RECORDED, "id": "o-2", "withdrawn": "2026-11-30T11:00:00Z", "quality_millis": None}
    text = printed(print_outcomes, [RECORDED, gone])
    assert text.count("withdrawn") == 1
    assert "12.500000" in text


def test_what_is_typed_is_sent_exactly(control: Any, capsys: pytest.CaptureFixture[str]) -> None:
    seen = control(lambda request: httpx.Response(201, json=RECORDED))
    words = ("ticket_resolved", "--task", "T-42", "--value", "12.5", "--quality", "0.9", "--count", "2")
    assert run("outcomes", "add", *words) == 0
    assert json.loads(seen[0].content) == {
        "name": "ticket_resolved",
        "task": "T-42",
        "count": 2,
        "value_microcredits": 12_500_000,
        "quality_millis": 900,
    }
    shown = " ".join(capsys.readouterr().out.split())
    assert "recorded T-42:ticket_resolved: 2 × ticket_resolved of task=T-42, worth 12.500000 credits" in shown
    assert run("outcomes", "add", "sale", "--tag", "team=a=b", "--id", "o/1", "--value", "-0.000001") == 0
    loss = json.loads(seen[1].content)
    assert (loss["tag"], loss["value_microcredits"]) == ({"team": "a=b"}, -1)
    assert run("outcomes", "withdraw", "o/1") == 0
    assert (seen[2].method, seen[2].url.raw_path) == ("DELETE", b"/api/v1/outcomes/o%2F1")


@pytest.mark.parametrize(
    "words",
    [
        ("add", "sale", "--tag", "team"),
        ("add", "sale", "--task", "T", "--value", "1,5"),
        ("add", "sale", "--task", "T", "--value", "0.1234567"),
        ("add", "sale", "--task", "T", "--quality", "90%"),
        ("report", "--since", "1d", "--from", "2026-11-01"),
    ],
)
def test_what_cannot_be_is_refused_here(control: Any, words: tuple[str, ...]) -> None:
    seen = control(lambda request: httpx.Response(500))
    assert run("outcomes", *words) == 2
    assert seen == []


def test_a_report_and_a_list_are_asked_for(control: Any, capsys: pytest.CaptureFixture[str]) -> None:
    seen = control(
        lambda request: httpx.Response(200, json=REPORT if "returns" in request.url.path else {"items": []})
    )
    assert run("outcomes", "report", "--by", "tag:team,month", "--from", "2026-11-01", "-o", "json") == 0
    assert dict(seen[0].url.params) == {"group_by": "tag:team,month", "from": "2026-11-01"}
    assert json.loads(capsys.readouterr().out) == REPORT
    assert run("outcomes", "list", "--outcome", "sale", "--tenant", "acme") == 0
    assert dict(seen[1].url.params) == {"name": "sale", "limit": "100", "tenant": "acme"}
    assert "no outcomes" in capsys.readouterr().out


@pytest.mark.parametrize("amount", [0, 1, -1, 12_500_000, -(10**15), 999_999])
def test_credits_are_read_as_they_are_written(amount: int) -> None:
    assert parse_fixed(format_credits(amount), 6) == amount
