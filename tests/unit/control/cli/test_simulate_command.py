"""simulate as people see it, against a control that is played by a function."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from control.console.told.explanations import print_simulation
from tests.unit.control.cli.test_commands import control, error, run
from tests.unit.control.cli.test_pool_commands import MINUTE, NOW, printed

__all__ = ["control"]

SIMULATED: dict[str, Any] = {
    "atMs": NOW,
    "workloads": [
        {
            "name": "train",
            "project": "p",
            "starts": "Now",
            "etaMs": NOW,
            "reasons": [],
            "ranks": [
                {
                    "role": "main",
                    "rank": 0,
                    "node": "node-a",
                    "state": "Assigned",
                    "grants": [{"device": "a/4", "vendor": "nvidia", "model": "H100"}],
                }
            ],
        },
        {
            "name": "huge",
            "project": "p",
            "starts": "Later",
            "etaMs": NOW + 35 * MINUTE,
            "ranks": [],
            "reasons": [{"code": "DevicesBusy", "message": "needs 8 devices", "nodes": 2}],
            "remedy": "4 devices come free",
            "position": 1,
        },
    ],
    "preempts": [{"project": "p", "name": "low", "message": "huge has priority 5 over 0"}],
    "resizes": [{"project": "p", "name": "elastic", "message": "4 -> 2 ranks: gives up 2 ranks"}],
    "moves": [],
    "delays": [{"project": "p", "name": "next", "beforeMs": NOW}],
}
TRAIN = """apiVersion: computility.io/v1alpha1
kind: Workload
metadata: {name: train, project: p}
spec:
  roles:
  - {name: main, command: ["true"]}
"""


def test_a_simulation_says_where_when_and_at_whose_cost() -> None:
    text = printed(print_simulation, SIMULATED)
    for said in (
        "p/train would start now",
        "node-a",
        "nvidia/H100",
        "a/4",
        "p/huge would wait",
        "needs 8 devices",
        "in 35 min",
        "huge has priority 5 over 0",
        "4 -> 2 ranks",
        "not foreseeable",
        "nothing was written",
    ):
        assert said in text


def test_simulate_sends_all_documents_and_may_ask_for_the_head(
    control: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(TRAIN + "---\n" + TRAIN.replace("train", "huge"))
    seen = control(lambda request: httpx.Response(200, json=SIMULATED))
    assert run("simulate", "-f", str(file), "--at-head") == 0
    assert (seen[0].method, seen[0].url.path, seen[0].url.params["atHead"]) == (
        "POST",
        "/api/v1/simulate",
        "true",
    )
    assert "idempotency-key" not in seen[0].headers
    assert [one["metadata"]["name"] for one in json.loads(seen[0].content)] == ["train", "huge"]
    assert "would start now" in capsys.readouterr().out
    assert run("simulate", "-f", str(file), "--json") == 0
    assert json.loads(capsys.readouterr().out) == SIMULATED


ENDPOINT = """apiVersion: computility.io/v1alpha1
kind: Endpoint
metadata: {name: tiny, project: p}
spec: {model: tiny}
"""


def test_simulate_refuses_other_kinds_before_it_asks(
    control: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(TRAIN + "---\n" + ENDPOINT)
    seen = control(lambda request: httpx.Response(200, json=SIMULATED))
    assert run("simulate", "-f", str(file)) == 2
    assert seen == []
    told = capsys.readouterr().err
    assert "only Workloads and Jobs can be simulated, not Endpoint" in told
    assert "train.yaml:" in told


def test_simulate_names_the_line_of_what_control_refuses(
    control: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(TRAIN + "  queue: night\n")
    control(
        lambda request: error(400, "invalid_input", "spec.queue: there is no Queue 'night'", "spec.queue")
    )
    assert run("simulate", "-f", str(file)) == 2
    assert "train.yaml:7 (document 1, Workload/train): spec.queue" in capsys.readouterr().err
