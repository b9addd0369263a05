"""margin as people see it, and what devices cost by the settings."""

import io
import json
from typing import Any

import httpx
import pytest
from rich.console import Console

from common.errors import InvalidInput
from common.settings import load_settings
from control.api.routes.margins import cost_table
from control.console.tables.margin_table import print_margins
from tests.unit.control.cli.test_commands import control, run

__all__ = ["control"]

H100 = {
    "purchase_microcredits": 30_000_000_000,
    "depreciation_years": 5,
    "busy_watts": 1100,
    "idle_watts": 350,
}
COSTS = {"kwh_microcredits": 120_000, "pue_millis": 1300, "devices": {"nvidia/H100": H100}}
SUMS: dict[str, Any] = {
    "tokens": 5_000_000_000,
    "device_seconds": 4 * 720 * 3600,
    "uncosted_device_seconds": 0,
    "charged_microcredits": 4_000_000_000,
    "made_microcredits": 2_465_460_567,
    "margin_microcredits": 1_534_539_433,
    "margin_millis": 384,
    "charged_per_million_tokens_microcredits": 800_000,
    "made_per_million_tokens_microcredits": 493_092,
}
NOTHING = {name: None if "per_million" in name or name == "margin_millis" else 0 for name in SUMS}
REPORT: dict[str, Any] = {
    "group_by": ["model_identity"],
    "rows": [
        {"model_identity": "", **NOTHING, "uncosted_device_seconds": 1800},
        {"model_identity": "lab/chat", **SUMS},
    ],
    "total": {**SUMS, "uncosted_device_seconds": 1800},
    "devices": [
        {
            "device_class": "nvidia/H100",
            "busy_hour_microcredits": 856_063,
            "idle_hour_microcredits": 739_063,
        }
    ],
}


def printed(report: dict[str, Any]) -> str:
    out = io.StringIO()
    print_margins(Console(file=out, width=160), report)
    return out.getvalue()


def test_what_was_made_stands_beside_what_was_charged() -> None:
    lines = [line.split() for line in printed(REPORT).splitlines()]
    amounts = ["4000.000000", "2465.460567", "1534.539433", "+38.4%", "0.800000", "0.493092"]
    assert ["lab/chat", "5,000,000,000", "2,880.00", *amounts] in lines
    assert ["total", "5,000,000,000", "2,880.00", *amounts] in lines
    assert ["nvidia/H100", "0.856063", "0.739063"] in lines
    assert "0.50 device-hours are of classes without a cost" in printed(REPORT)
    bare = printed({**REPORT, "group_by": [], "rows": [], "devices": [], "total": SUMS})
    assert "total" not in bare
    assert "without a cost" not in bare


def test_it_is_asked_for(control: Any, capsys: pytest.CaptureFixture[str]) -> None:
    seen = control(lambda request: httpx.Response(200, json=REPORT))
    assert run("margin", "--by", "month", "--until", "2026-12-01", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == REPORT
    assert seen[0].url.path == "/api/v1/margins"
    assert dict(seen[0].url.params) == {"group_by": "month", "to": "2026-12-01"}


def test_the_settings_of_the_documented_example_give_its_hours() -> None:
    table = cost_table(load_settings(costs=COSTS).costs)
    hours = [table.hour_microcredits("nvidia/H100", busy=busy) for busy in (True, False)]
    assert hours == [856_063, 739_063]
    made = table.made_microcredits("nvidia/H100", SUMS["device_seconds"])
    assert made is not None
    assert round(made) == SUMS["made_microcredits"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"pue_millis": 999}, "costs.pue_millis"),
        ({"kwh_microcredits": -1}, "costs.kwh_microcredits"),
        ({"kwh_microcredits": 0.12}, "costs.kwh_microcredits"),
        ({"devices": {"H100": H100}}, "vendor/model"),
        ({"devices": {"nvidia/H100": H100, "nvidia/h100": H100}}, "twice"),
        ({"devices": {"nvidia/H100": {**H100, "depreciation_years": 0}}}, "depreciation_years"),
        ({"devices": {"nvidia/H100": {**H100, "idle_watts": 1101}}}, "idle_watts"),
        ({"devices": {"nvidia/H100": {**H100, "price": 1}}}, "price"),
        ({"devices": {"nvidia/H100": {"depreciation_years": 3}}}, "purchase_microcredits"),
    ],
)
def test_costs_that_cannot_be_are_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        load_settings(costs={**COSTS, **change})
