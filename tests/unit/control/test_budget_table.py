"""Budgets as people see them in a terminal."""

import io
from typing import Any

import pytest
from rich.console import Console

from common.clock import parse_rfc3339
from control.console.tables.budget_table import bar, print_binding, print_budgets, scope_text

NOW = parse_rfc3339("2026-11-30T12:00:00Z")


def one(**changes: Any) -> dict[str, Any]:
    return {
        "name": "cap",
        "scope": {"tenant": "acme", "project": "bots", "tags": {"team": "search"}},
        "enforcement": "hard",
        "period": "2026-11-30",
        "unit": "microcredits",
        "limit": 2_000_000,
        "spent": 1_000_000,
        "held": 250_000,
        "left": 750_000,
        "inForce": True,
        "resetsAt": "2026-12-01T00:00:00Z",
        **changes,
    }


def shown(*items: dict[str, Any]) -> str:
    out = io.StringIO()
    print_budgets(Console(file=out, width=200), items, NOW)
    return out.getvalue()


def test_a_row_says_what_is_spent_held_left_and_for_how_long() -> None:
    text = shown(one(), one(name="total", unit="tokens", period="total", resetsAt=None))
    for part in ("acme, project bots, team=search", "2.000000", "0.250000", "0.750000", "12h", "never"):
        assert part in text
    assert "1,000,000 tokens" in text
    assert "not in force" in shown(one(inForce=False))
    assert "1.50 h" in shown(one(unit="device_seconds", spent=5400))
    assert "no budgets" in shown()


@pytest.mark.parametrize(
    ("spent", "held", "expected"),
    [
        (0, 0, "·" * 20),
        (10, 0, "██" + "·" * 18),
        (50, 10, "█" * 10 + "▒▒" + "·" * 8),
        (99, 1, "█" * 19 + "▒"),
        (150, 30, "█" * 20),
    ],
)
def test_a_bar_is_as_long_as_the_limit(spent: int, held: int, expected: str) -> None:
    assert bar(spent, held, 100) == expected


def test_a_scope_in_words() -> None:
    assert scope_text({"tenant": "acme"}) == "acme"
    assert scope_text({"tenant": "acme", "key": "ci", "user": "u-1"}) == "acme, key ci, user u-1"


def test_each_budget_that_binds_a_key_has_a_line() -> None:
    out = io.StringIO()
    endless = one(name="total", enforcement="soft", unit="tokens", resetsAt=None)
    print_binding(Console(file=out, width=200), [one(), endless], NOW)
    assert out.getvalue().splitlines() == [
        "budget   cap: 1.000000 of 2.000000 spent, 0.750000 left, begins anew in 12h",
        "budget   total: 1,000,000 tokens of 2,000,000 tokens spent, 750,000 tokens left (told only)",
    ]
