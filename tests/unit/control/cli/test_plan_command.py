"""plan as people see it, against a control that is played by a function."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from common.resources import Endpoint, parse_resource
from control.console.tables.plan_table import print_plan
from tests.unit.control.cli.test_commands import control, error, run
from tests.unit.control.cli.test_pool_commands import printed

__all__ = ["control"]

ENDPOINT = """apiVersion: computility.io/v1alpha1
kind: Endpoint
metadata: {name: chat, project: p}
spec:
  model: qwen
  traffic: {promptTokens: 100, outputTokens: 50}
"""


def leg(role: str, engines: int, tensor: int, stages: int = 1) -> dict[str, Any]:
    return {
        "role": role,
        "deviceClass": "nvidia/H200",
        "engines": engines,
        "tensorParallel": tensor,
        "pipelineParallel": stages,
        "devices": engines * tensor * stages,
        "batch": 32,
        "source": "roofline",
    }


def option(mode: str, *legs: dict[str, Any], cost: int | None = None) -> dict[str, Any]:
    told = {
        "mode": mode,
        "legs": list(legs),
        "devices": sum(one["devices"] for one in legs),
        "ttftMilliseconds": 862.4,
        "interTokenMilliseconds": 19.2,
        "capacityRequestsPerSecond": 16.65,
        "outputTokensPerSecondPerDevice": 520.3,
    }
    return told if cost is None else {**told, "microcreditsPerMillionOutputTokens": cost}


PLAN: dict[str, Any] = {
    "plans": [
        {
            "project": "p",
            "name": "chat",
            "model": "p/qwen",
            "parameters": 32_760_000_000,
            "weightBytes": 65_500_000_000,
            "kvBytesPerToken": 262_144,
            "slo": {"ttftMilliseconds": 1000.0},
            "traffic": {"promptTokens": 4000, "outputTokens": 500},
            "trafficAssumed": True,
            "roles": [{"role": "prefill", "deviceClasses": ["nvidia/H200", "nvidia/L40S"]}],
            "options": [
                option("disaggregated", leg("prefill", 8, 1), leg("decode", 2, 4), cost=1_537_000),
                option("replicated", leg("serve", 2, 4, 2)),
            ],
            "taken": 0,
            "reasons": ["disaggregated costs least for a million tokens of answers"],
            "refusals": [{"deviceClass": "cpu/x86", "mode": "any", "message": "no figures of CPUs"}],
        }
    ]
}


def test_a_plan_shows_the_table_the_choice_and_why_not_the_rest() -> None:
    text = printed(print_plan, PLAN)
    for said in (
        "p/chat serves p/qwen: 32.8B parameters, 61.0 GiB of weights, 256.0 KiB of KV cache a token",
        "4,000 tokens in, 500 out, as many as can be served (assumed: spec.traffic is not set)",
        "SLO: TTFT 1,000 ms",
        "prefill may be on: nvidia/H200, nvidia/L40S",
        "8 prefill × tp1 H200",
        "2 decode × tp4",
        "2 × tp4 pp2 H200",
        "862",
        "19.2",
        "520",
        "1.537",
        "roofline",
        "costs least",
        "no figures of CPUs",
        "spec: {mode: disaggregated, prefill: {replicas: 8, devices: {count: 1,",
        "nothing was written",
    ):
        assert said in text


def test_a_plan_without_options_says_so() -> None:
    nothing = {**PLAN["plans"][0], "options": [], "reasons": ["no devices serve this load within its SLO"]}
    del nothing["taken"]
    text = printed(print_plan, {"plans": [nothing]})
    assert "no devices serve this load" in text
    assert "spec: {" not in text


def test_options_stand_in_place_of_what_the_endpoint_says(
    control: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, config = tmp_path / "endpoint.yaml", tmp_path / "config.json"
    file.write_text(ENDPOINT)
    config.write_text('{"hidden_size": 8}')
    seen = control(lambda request: httpx.Response(200, json=PLAN))
    arguments = ["plan", "-f", str(file), "-r", "20", "--prompt-tokens", "4000", "--ttft-ms", "1000"]
    arguments += ["-d", "nvidia/H200=16", "-d", "nvidia/A100=8/4", "--model-config", str(config)]
    assert run(*arguments) == 0
    assert (seen[0].method, seen[0].url.path) == ("POST", "/api/v1/plan")
    body = json.loads(seen[0].content)
    spec = body["documents"][0]["spec"]
    assert spec["traffic"] == {"promptTokens": 4000, "outputTokens": 50, "requestsPerSecond": 20.0}
    assert spec["slo"] == {"ttftMilliseconds": 1000.0}
    assert body["config"] == {"hidden_size": 8}
    assert body["devices"] == [
        {"deviceClass": "nvidia/H200", "count": 16},
        {"deviceClass": "nvidia/A100", "count": 8, "perNode": 4},
    ]
    assert "costs least" in capsys.readouterr().out
    assert run("plan", "-f", str(file), "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == PLAN
    assert json.loads(seen[1].content).keys() == {"documents"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-d", "nvidia/H200"], "vendor/model=count"),
        (["-d", "nvidia/H200=many"], "vendor/model=count"),
        (["-d", "=4"], "vendor/model=count"),
        (["--model-config", "none.json"], "none.json"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_control_is_asked(
    arguments: list[str], said: str, control: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "endpoint.yaml"
    file.write_text(ENDPOINT)
    seen = control(lambda request: httpx.Response(200, json=PLAN))
    assert run("plan", "-f", str(file), *arguments) == 2
    assert seen == []
    assert said in capsys.readouterr().err


def test_a_refusal_names_the_line_of_the_endpoint(
    control: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "endpoint.yaml"
    file.write_text(ENDPOINT)
    control(lambda request: error(400, "invalid_value", "spec.model: is not here", "spec.model"))
    assert run("plan", "-f", str(file)) == 2
    assert "endpoint.yaml:5" in capsys.readouterr().err


@pytest.mark.parametrize("taken", range(3))
def test_the_advice_is_a_spec_that_can_be_applied(taken: int) -> None:
    one = {**PLAN["plans"][0], "taken": taken}
    one["options"] = [*one["options"], option("single", leg("serve", 1, 2))]
    advised = " ".join(printed(print_plan, {"plans": [one]}).split())
    spec = yaml.safe_load(re.search(r"spec: (\{.*\}) \* advised", advised)[1])  # type: ignore[index]
    document = {**yaml.safe_load(ENDPOINT), "spec": {"model": "qwen", **spec}}
    endpoint = parse_resource(document)
    assert isinstance(endpoint, Endpoint)
    assert endpoint.spec.mode == one["options"][taken]["mode"]
