"""price dry-run as people see it, against a control that is played by a function."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from control.console.tables.price_table import print_dry_run
from tests.unit.control.cli.test_commands import control, run
from tests.unit.control.cli.test_pool_commands import printed

__all__ = ["control"]

BOOK = """apiVersion: computility.io/v1alpha1
kind: Price
metadata: {name: winter}
spec:
  items: [{meter: prompt_tokens, microcreditsPerMillion: 5}]
"""


def sums(charged: int, now: int, events: int = 3) -> dict[str, int]:
    return {
        "events": events,
        "charged_microcredits": charged,
        "microcredits": now,
        "unpriced_lines": 0,
        "difference_microcredits": now - charged,
    }


ANSWER: dict[str, Any] = {
    "tenants": [{"tenant": "acme", **sums(8_000_000, 7_000_000)}, {"tenant": "new", **sums(0, 500_000)}],
    "total": sums(8_000_000, 7_500_000, 6),
    "unpriced": ["completion_tokens of p/m"],
    "warnings": ["spec.items: from then on there is no price"],
}


def test_each_tenant_has_its_difference() -> None:
    rows = [line.split() for line in printed(print_dry_run, ANSWER).splitlines()]
    assert ["acme", "3", "8.000000", "7.000000", "-1.000000", "-12.5%"] in rows
    assert ["new", "3", "0.000000", "0.500000", "+0.500000", "-"] in rows
    assert ["total", "6", "8.000000", "7.500000", "-0.500000", "-6.2%"] in rows
    text = printed(print_dry_run, ANSWER)
    assert "no price: completion_tokens of p/m" in text
    assert "from then on there is no price" in text


def test_without_usage_it_says_so() -> None:
    nothing = {"tenants": [], "total": sums(0, 0, 0), "unpriced": [], "warnings": []}
    assert "nothing was used" in printed(print_dry_run, nothing)


def test_books_and_span_are_sent(control: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "book.yaml"
    file.write_text(BOOK)
    seen = control(lambda request: httpx.Response(200, json=ANSWER))
    arguments = ["price", "dry-run", "-f", str(file)]
    assert run(*arguments, "--from", "2026-11-01", "--until", "2026-12-01", "--tenant", "acme") == 0
    assert (seen[0].method, seen[0].url.path) == ("POST", "/api/v1/prices/dry-run")
    body = json.loads(seen[0].content)
    assert body["documents"][0]["metadata"]["name"] == "winter"
    assert (body["from"], body["to"], body["tenant"]) == ("2026-11-01", "2026-12-01", "acme")
    assert "-12.5%" in capsys.readouterr().out
    assert run(*arguments, "--since", "30d", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == ANSWER
    assert json.loads(seen[1].content).keys() == {"documents", "from"}


@pytest.mark.parametrize("span", [[], ["--since", "1d", "--from", "2026-11-01"], ["--since", "soon"]])
def test_a_span_has_one_beginning(control: Any, tmp_path: Path, span: list[str]) -> None:
    file = tmp_path / "book.yaml"
    file.write_text(BOOK)
    seen = control(lambda request: httpx.Response(200, json=ANSWER))
    assert run("price", "dry-run", "-f", str(file), *span) != 0
    assert not seen
