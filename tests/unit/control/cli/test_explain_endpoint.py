"""explain endpoint/x as people see it."""

import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from rich.console import Console

from control.console.tables.tables import resource_table
from control.console.told.endpoint_explained import print_endpoint
from control.console.told.scaling import print_scaling
from tests.unit.control.cli.test_commands import Answer, control, items, run

__all__ = ["control"]
NOW = 1_700_000_000_000
ENDPOINT: dict[str, Any] = {
    "metadata": {"name": "chat", "project": "lab"},
    "spec": {"model": "big", "mode": "auto"},
    "status": {
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "Ready", "message": "2 of 2 replicas answer"}
        ],
        "auto": {
            "mode": "disaggregated",
            "deviceClass": "nvidia/H100",
            "devicesPerEngine": 2,
            "readers": [{"deviceClass": "nvidia/H100", "engines": 1}],
            "minPromptTokens": 2048,
            "sinceMs": NOW - 60_000,
            "reasons": ["seen: 100 % against 51 % now [x]"],
        },
        "replicas": [
            {"workload": "chat-0", "duty": "prefill", "phase": "Ready", "deviceClass": "nvidia/H100"},
            {"workload": "chat-1", "duty": "decode", "phase": "Ready", "deviceClass": "nvidia/H100"},
        ],
    },
}

SCALING: dict[str, Any] = {
    "name": "chat",
    "project": "lab",
    "roles": [
        {
            "role": "",
            "wanted": 2,
            "ready": 1,
            "starting": 1,
            "draining": 0,
            "least": 1,
            "most": 4,
            "followsLoad": True,
            "asked": 2,
            "now": "33 requests for a target of 32 on each engine: 2 of 2 engines",
            "why": "40 requests for a target of 32 on each engine: 2 engines",
            "sinceMs": NOW - 120_000,
            "signals": [{"name": "Requests", "replicas": 1.03, "text": "33 requests for a target of 32"}],
            "held": 3,
        }
    ],
}


def test_how_many_engines_there_are_and_why() -> None:
    out = io.StringIO()
    print_scaling(Console(file=out, width=120), SCALING, NOW)
    for said in (
        "engines:    2 wanted, between 1 and 4 by load; 1 answer, 1 starting",
        "now:        33 requests for a target of 32 on each engine: 2 of 2 engines",
        "2 min ago: 40 requests for a target of 32 on each engine: 2 engines",
        "waiting:    3 for an engine",
        "Requests",
        "1.03",
    ):
        assert said in out.getvalue()
    assert "idle:" not in out.getvalue()


def test_one_that_sleeps_says_when_and_one_with_a_fixed_number_says_that() -> None:
    asleep = {**SCALING["roles"][0], "idleSeconds": 70, "sleepsAfterSeconds": 900, "role": "decode"}
    fixed = {"role": "", "wanted": 2, "ready": 0, "starting": 0, "draining": 0, "followsLoad": False}
    out = io.StringIO()
    print_scaling(Console(file=out, width=120), {"roles": [asleep, {**fixed, "least": 2, "most": 2}]}, NOW)
    assert "2 decode wanted" in out.getvalue()
    assert "70 s without a request; after 900 s there is no engine" in out.getvalue()
    assert "2 wanted; none there" in out.getvalue()


@pytest.mark.parametrize(
    ("spec", "status", "told"),
    [
        ({}, {"readyReplicas": 1}, "1/1"),
        ({"replicas": 3}, {}, "0/3"),
        ({"autoscaling": {}}, {"scaling": [{"wanted": 2}], "readyReplicas": 1}, "1/2 (1-4)"),
        ({"autoscaling": {"minReplicas": 0}}, {}, "0/0 (0-4)"),
        ({"mode": "auto"}, {"scaling": [{"wanted": 3}]}, "0/3 (1-4)"),
        (
            {"prefill": {"replicas": 2}, "decode": {"autoscaling": {"maxReplicas": 3}}},
            {"scaling": [{"role": "decode", "wanted": 2}]},
            "0/4 (3-5)",
        ),
    ],
)
def test_the_table_says_how_many_of_how_many(spec: dict[str, Any], status: dict[str, Any], told: str) -> None:
    document = {"metadata": {"name": "chat"}, "spec": {"model": "big", **spec}, "status": status}
    headers, [row] = resource_table("Endpoint", [document], wide=False)
    assert row[headers.index("REPLICAS")] == told


def printed(endpoint: dict[str, Any]) -> str:
    out = io.StringIO()
    print_endpoint(Console(file=out, width=120), endpoint, NOW)
    return out.getvalue()


def test_each_role_says_where_its_engines_are_and_may_be() -> None:
    devices = {"vendors": ["nvidia"], "models": ["H100", "H200"], "nodeLabels": {"zone": "east"}}
    roles = {"prefill": {"devices": devices}, "decode": {"devices": {"vendors": ["nvidia"]}}}
    engine = {"role": "prefill", "workload": "chat-prefill-0", "deviceClass": "nvidia/H100", "ready": True}
    text = printed(
        {
            "metadata": {"name": "chat", "project": "lab"},
            "spec": {"model": "big", "mode": "disaggregated", **roles},
            "status": {"replicas": [engine, {**engine, "workload": "chat-prefill-1"}]},
        }
    )
    assert "prefill:    2 x nvidia/H100; may be on nvidia H100, H200, zone=east" in text
    assert "decode:     none answers; may be on nvidia any model" in text


def test_the_mode_the_devices_and_the_reasons_are_told() -> None:
    text = printed(ENDPOINT)
    for said in (
        "lab/chat mode auto, now disaggregated",
        "True: 2 of 2 replicas answer",
        "nvidia/H100, 2 an engine",
        "1 x nvidia/H100; shorter than 2,048 tokens: by the others",
        "60 s ago",
        "- seen: 100 % against 51 % now [x]",
    ):
        assert said in text
    assert "prefill" in text.splitlines()[-2]


@pytest.mark.parametrize(
    ("spec", "mode"), [({}, "single"), ({"replicas": 2}, "replicated"), ({"mode": "single"}, "single")]
)
def test_an_endpoint_of_another_mode_says_that_alone(spec: dict[str, Any], mode: str) -> None:
    text = printed({"metadata": {"name": "chat"}, "spec": {"model": "big", **spec}})
    assert text.strip() == f"/chat mode {mode}"


def test_the_command_finds_it_among_the_endpoints(
    control: Callable[[Answer], list[httpx.Request]], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = control(
        lambda request: (
            httpx.Response(200, json=SCALING) if request.url.path.endswith("/explain") else items(ENDPOINT)
        )
    )
    assert run("explain", "endpoint/chat", "--json") == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["status"]["auto"]["mode"] == "disaggregated"
    assert seen[0].url.path == "/api/v1/endpoints"
    assert run("explain", "endpoint/chat") == 0
    text = capsys.readouterr().out
    assert "now disaggregated" in text
    assert "2 wanted, between 1 and 4 by load; 1 answer, 1 starting" in text
    assert run("explain", "endpoint/other") != 0
    assert "no endpoint other" in capsys.readouterr().err
    assert run("explain", "queue/chat") != 0
    assert "write endpoint/NAME" in capsys.readouterr().err
