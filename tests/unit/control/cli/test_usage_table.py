"""The bill as a table: shares as bars, tags by their names."""

import io
from typing import Any

from rich.console import Console

from control.console.tables.usage_table import print_usage

SUMS = dict.fromkeys(("prompt_tokens", "cached_tokens", "completion_tokens", "trained_tokens"), 0)


def row(microcredits: int, **group: str) -> dict[str, Any]:
    sums = {**SUMS, "prompt_tokens": 9, "device_seconds": 0, "unpriced_lines": 0}
    return {**group, **sums, "events": 1, "microcredits": microcredits}


def printed(rows: list[dict[str, Any]], groups: list[str]) -> list[str]:
    out = io.StringIO()
    total = row(sum(one["microcredits"] for one in rows))
    print_usage(Console(file=out, width=120), {"group_by": groups, "rows": rows, "total": total})
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_each_row_has_its_share_of_the_credits() -> None:
    lines = printed([row(3, **{"tag:team": "search"}), row(1, **{"tag:team": "lab"})], ["tag:team"])
    assert lines[0].split() == ["tag:team", "PROMPT", "CREDITS", "SHARE"]
    assert [line.split()[-1] for line in lines[1:]] == ["75%", "25%", "-"]
    assert "████░░" in lines[1]


def test_one_row_and_what_costs_nothing_have_no_shares() -> None:
    for rows in ([row(5, user="ann")], [row(0, user="ann"), row(0, user="bob")]):
        assert "SHARE" not in printed(rows, ["user"])[0]


def test_device_time_is_told_in_card_hours_of_the_reference_device() -> None:
    out, unit = io.StringIO(), {"compute_unit_millis": 1234, "uncounted_device_seconds": 0}
    rows = [{**row(5, user="ann"), **unit}]
    report = {"group_by": ["user"], "rows": rows, "total": {**row(5), **unit}, "compute_unit": "nvidia/A100"}
    print_usage(Console(file=out, width=120), report)
    lines = out.getvalue().splitlines()
    assert "CARD-HOURS (nvidia/A100)" in lines[0]
    assert ["1.234" in line for line in lines[1:]].count(True) == 2
