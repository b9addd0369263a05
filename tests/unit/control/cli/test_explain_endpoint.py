"""explain endpoint/x as people see it."""

import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from rich.console import Console

from control.console.endpoint_explained import print_endpoint
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
        "scaling": [{"role": "", "wanted": 2, "message": "33 requests run or wait"}],
        "replicas": [
            {"workload": "chat-0", "duty": "prefill", "phase": "Ready", "deviceClass": "nvidia/H100"},
            {"workload": "chat-1", "duty": "decode", "phase": "Ready", "deviceClass": "nvidia/H100"},
        ],
    },
}


def printed(endpoint: dict[str, Any]) -> str:
    out = io.StringIO()
    print_endpoint(Console(file=out, width=120), endpoint, NOW)
    return out.getvalue()


def test_the_mode_the_devices_and_the_reasons_are_told() -> None:
    text = printed(ENDPOINT)
    for said in (
        "lab/chat mode auto, now disaggregated",
        "True: 2 of 2 replicas answer",
        "nvidia/H100, 2 an engine",
        "1 x nvidia/H100; shorter than 2,048 tokens: by the others",
        "60 s ago",
        "- seen: 100 % against 51 % now [x]",
        "2: 33 requests run or wait",
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
    seen = control(lambda request: items(ENDPOINT))
    assert run("explain", "endpoint/chat", "--json") == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["status"]["auto"]["mode"] == "disaggregated"
    assert seen[0].url.path == "/api/v1/endpoints"
    assert run("explain", "endpoint/chat") == 0
    assert "now disaggregated" in capsys.readouterr().out
    assert run("explain", "endpoint/other") != 0
    assert "no endpoint other" in capsys.readouterr().err
    assert run("explain", "queue/chat") != 0
    assert "write endpoint/NAME" in capsys.readouterr().err
