"""explain and top as people see them, against a control that is played by a function."""

import io
import json
from typing import Any

import httpx
import pytest
from rich.console import Console

from control.cli import pool
from control.console.tables.bars import bar, devices, sparkline
from control.console.tables.pool_tables import PoolView
from control.console.told.explanations import print_explanation
from control.console.told.moments import clock_time, expected, since, span
from tests.unit.control.cli.test_commands import control, run

__all__ = ["control"]

NOW = 1_700_000_000_000
MINUTE = 60_000
GIB = 1024**3
OVERVIEW: dict[str, Any] = {
    "atMs": NOW,
    "pool": [
        {
            "vendor": "nvidia",
            "model": "H100",
            "nodes": 2,
            "devices": 8,
            "unhealthy": 1,
            "unavailable": 0,
            "capacityMillis": 8000,
            "allocatedMillis": 5500,
            "idleMillis": 1500,
            "utilisationPercent": 50,
            "memoryBytes": 640 * GIB,
            "memoryUsedBytes": 160 * GIB,
            "powerWatts": 2400,
        }
    ],
    "totals": {"nodes": 12, "ready": 11, "freeMillis": 1500, "strandedMillis": 500},
    "nodes": [
        {
            "name": "node-a",
            "state": "Cordoned",
            "models": ["4x nvidia/H100"],
            "capacityMillis": 4000,
            "freeMillis": 1500,
            "strandedMillis": 500,
            "devices": [
                {"index": 0, "heldPercent": 100, "utilisationPercent": 93, "healthy": True},
                {"index": 1, "heldPercent": 50, "healthy": True},
                {"index": 2, "heldPercent": 0, "utilisationPercent": 0, "healthy": False},
            ],
        }
    ],
    "queues": [
        {
            "name": name,
            "cohort": cohort,
            "parent": parent,
            "weight": 1,
            "share": 0.25,
            "nominalMillis": nominal,
            "usedMillis": 5500,
            "borrowedMillis": borrowed,
            "pending": 3,
            "pendingMillis": 12000,
            "running": 2,
            "quotas": [],
            "budgets": budgets,
        }
        for name, cohort, parent, nominal, borrowed, budgets in (
            (
                "research",
                False,
                "company",
                4000,
                1500,
                [
                    {
                        "deviceClass": "*",
                        "limitDeviceSeconds": 36000,
                        "spentDeviceSeconds": 7200,
                        "renewsMs": NOW + 7_200_000,
                    }
                ],
            ),
            ("company", True, "", 8000, 0, []),
        )
    ],
    "workloads": [
        {
            "project": "p",
            "name": "train",
            "queue": "research",
            "phase": "Running",
            "ranks": 4,
            "millis": 4000,
            "models": ["nvidia/H100"],
            "nodes": 1,
            "sinceMs": NOW - 35 * MINUTE,
            "expectedEndMs": NOW + 20 * MINUTE,
        }
    ],
}
WAITS: dict[str, Any] = {
    "name": "train",
    "project": "p",
    "queue": "research",
    "phase": "Pending",
    "message": "waits for running workloads to end",
    "attempt": 1,
    "restarts": 0,
    "ranks": [],
    "reasons": [
        {"code": "DevicesBusy", "message": "waits for running workloads to end", "nodes": 2},
        {"code": "VendorMismatch", "message": "3 of 5 nodes: no nvidia device", "nodes": 3},
    ],
    "remedy": "2 more devices come free",
    "neverFits": False,
    "position": 2,
    "waiting": 5,
    "queueNumbers": OVERVIEW["queues"][0],
    "etaMs": NOW + 35 * MINUTE,
    "reservedMs": NOW + 35 * MINUTE,
    "sizes": [],
}


def printed(draw: Any, *arguments: Any) -> str:
    out = Console(file=io.StringIO(), width=100, highlight=False, force_terminal=True, color_system=None)
    draw(out, *arguments)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    assert all(len(line) <= 100 for line in text.splitlines())
    return text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (42, "42 s"),
        (35 * 60, "35 min"),
        (-35 * 60, "35 min"),
        (2 * 3600, "2 h"),
        (130 * 60, "2 h 10 min"),
        (3 * 86_400, "3 days"),
    ],
)
def test_spans_are_short(seconds: int, text: str) -> None:
    assert span(seconds) == text


def test_moments_say_when_and_how_far_away() -> None:
    soon = NOW + 35 * MINUTE
    assert expected(soon, NOW) == f"about {clock_time(soon, NOW)}, in 35 min"
    assert (expected(None, NOW), expected(NOW - 1, NOW)) == ("", "now")
    assert since(NOW - 35 * MINUTE, NOW) == f"since {clock_time(NOW - 35 * MINUTE, NOW)}, 35 min ago"
    assert len(clock_time(NOW, NOW)) == 5
    assert len(clock_time(NOW + 3 * 86_400_000, NOW)) > 5


def test_bars_and_sparklines() -> None:
    assert sparkline([0, 50, 100, None, 120]) == "▁▅█·█"
    assert bar(1, 2) == "███░░░  50%"
    assert bar(1, 1000).startswith("█░")
    assert (bar(0, 4), bar(1, 0)) == ("░░░░░░   0%", "")
    assert [devices(millis) for millis in (None, 0, 1500, 12_000)] == ["", "0", "1.5", "12"]


def test_a_waiting_workload_is_told_its_place_its_start_and_what_helps() -> None:
    text = printed(print_explanation, WAITS, NOW)
    for said in (
        "p/train Pending waits for running workloads to end",
        "research, place 2 of 5 (5.5 of 4 devices in use, 1.5 of them borrowed, share 0.250)",
        f"about {clock_time(WAITS['etaMs'], NOW)}, in 35 min",
        f"room is held for it from {clock_time(WAITS['reservedMs'], NOW)} on",
        "2 more devices come free",
        "3 of 5 nodes: no nvidia device",
    ):
        assert said in text


def test_without_a_start_it_says_why_there_is_none() -> None:
    unknown = {**WAITS, "etaMs": None, "noEta": "2 of 3 running workloads have no expectedSeconds"}
    on_cpus = {**WAITS, "queueNumbers": {**WAITS["queueNumbers"], "coveredMillis": 1500}}
    shown = printed(print_explanation, on_cpus, NOW)
    assert "1.5 of " in shown
    assert "devices in use and 4 that no quota counts" in shown
    assert "not foreseeable: 2 of 3 running workloads have no" in printed(print_explanation, unknown, NOW)
    later = {**unknown, "notBeforeMs": NOW + MINUTE, "noEta": "its budget is spent"}
    assert f"not before {clock_time(NOW + MINUTE, NOW)}: its budget" in printed(print_explanation, later, NOW)
    overdue = {**WAITS, "etaMs": NOW}
    assert "any moment: what it waits for is overdue" in printed(print_explanation, overdue, NOW)
    never = {**unknown, "neverFits": True}
    assert "starts:" not in printed(print_explanation, never, NOW)


def test_a_running_workload_says_since_when_until_when_and_its_size() -> None:
    rank = {"role": "main", "rank": 0, "node": "node-a", "state": "Ready", "grants": [{"device": "d0"}]}
    runs = {
        **WAITS,
        "phase": "Running",
        "reasons": [],
        "position": None,
        "etaMs": None,
        "reservedMs": None,
        "ranks": [rank],
        "sinceMs": NOW - 35 * MINUTE,
        "expectedEndMs": NOW + 20 * MINUTE,
        "sizes": [{"role": "main", "ranks": 2, "least": 1, "most": 4}],
    }
    text = printed(print_explanation, runs, NOW)
    assert "35 min ago; ends about" in text
    assert "main has 2 of 4 ranks, runs with 1 or more" in text
    assert "node-a" in text
    overdue = printed(print_explanation, {**runs, "expectedEndMs": NOW - MINUTE}, NOW)
    assert "should have ended" in overdue
    leaving = printed(print_explanation, {**runs, "leavesByMs": NOW + 10_000}, NOW)
    assert "gives up its places by" in leaving


def test_the_pool_is_drawn_within_a_hundred_columns() -> None:
    view = PoolView()
    view.draw({**OVERVIEW, "atMs": NOW - 5 * MINUTE})
    text = printed(lambda out: out.print(view.draw(OVERVIEW)))
    for said in (
        "8 devices, 69 % allocated, 1 unhealthy",
        "5.5/8",
        "████░░  69%",
        "▅▅ 50%",
        "25% of 640.0 GiB",
        "2400 W",
        "  research",
        "3 (12)",
        "2/10 h, new in 2 h",
        "11 of 12 in use, 0.5 of 1.5 free devices of no use",
        "(1 shown)",
        "█▅✗",
        "█·▁   ··········▄▄",
        "35 min",
        "20 min",
    ):
        assert said in text
    lines = text.splitlines()
    order = [line.split()[0] for line in lines if line.split()[:1] in (["company"], ["research"])]
    assert order == ["company", "research"]


def test_parts_that_may_not_be_seen_are_not_drawn() -> None:
    text = printed(lambda out: out.print(PoolView().draw({"atMs": NOW, "workloads": []})))
    assert text.split() == ["Workloads", "none", "runs"]


def test_top_shows_once_where_there_is_no_terminal(control: Any, capsys: pytest.CaptureFixture[str]) -> None:
    seen = control(pool_of_one)
    assert run("top", "-n", "3") == 0
    assert seen[0].url.path == "/api/v1/overview"
    assert seen[0].url.params["limit"] == "3"
    assert "nvidia/H100" in capsys.readouterr().out
    assert run("top", "--json") == 0
    assert json.loads(capsys.readouterr().out) == OVERVIEW
    assert run("top", "--watch", "--once") == 2


def test_top_goes_on_until_it_is_interrupted(
    control: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) % 3 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(pool.time, "sleep", pause)
    seen = control(pool_of_one)
    assert run("top", "--watch", "--json", "--interval", "1.5") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["atMs"] for line in lines] == [NOW] * 3
    assert pauses == [1.5] * 3
    assert run("top", "--watch") == 0
    asked = [request.url.path for request in seen[3:]]
    assert asked.count("/api/v1/nodes/node-a/series") == 1, "a node is asked once what it remembers"
    assert asked.count("/api/v1/overview") == 4, "three looks, and one for the names of all nodes"
    assert "▅ 50%" in capsys.readouterr().out


def remembered(percents: dict[int, int]) -> dict[str, Any]:
    """What node-a remembers of its first device: percent by minutes ago."""
    points = [
        {"timeMs": NOW - ago * MINUTE, "samples": 60, "healthy": True, "utilisationPercent": percent}
        for ago, percent in percents.items()
    ]
    device = {"device": "gpu-0", "index": 0, "vendor": "nvidia", "model": "H100", "points": points}
    return {"node": "node-a", "atMs": NOW, "windowSeconds": 3600, "stepSeconds": 300, "devices": [device]}


def pool_of_one(request: httpx.Request, nodes: int = 12) -> httpx.Response:
    if request.url.path.endswith("/series"):
        return httpx.Response(200, json=remembered({55: 0, 10: 100, 5: 50}))
    return httpx.Response(200, json={**OVERVIEW, "totals": {**OVERVIEW["totals"], "nodes": nodes}})


def test_the_first_frame_shows_the_last_hour(control: Any, capsys: pytest.CaptureFixture[str]) -> None:
    seen = control(pool_of_one)
    assert run("top", "--once") == 0
    series = next(request for request in seen if request.url.path == "/api/v1/nodes/node-a/series")
    assert dict(series.url.params) == {"window_seconds": "3600", "step_seconds": "300"}
    text = capsys.readouterr().out
    assert "▁········█▅▅ 50%" in text, "of the model: remembered, and now"
    assert "▁········█▅▄" in text, "of the node"


def test_of_a_large_pool_only_nodes_that_are_shown_have_a_past(
    control: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = control(lambda request: pool_of_one(request, nodes=1000))
    assert run("top", "--once") == 0
    assert [request.url.path for request in seen] == ["/api/v1/overview", "/api/v1/nodes/node-a/series"]
    text = capsys.readouterr().out
    assert "···········▅ 50%" in text
    assert "▁········█▅▄" in text


def test_a_node_that_does_not_answer_has_no_past_and_top_goes_on(
    control: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/series"):
            return httpx.Response(503, json={"error": {"message": "away", "code": "unavailable"}})
        return pool_of_one(request)

    control(answer)
    assert run("top", "--once") == 0
    assert "···········▄" in capsys.readouterr().out


def test_ends_and_starts_that_past_runs_let_expect_are_marked() -> None:
    rows = [{**OVERVIEW["workloads"][0], "endPredicted": True}]
    assert "~20 min" in printed(lambda out: out.print(PoolView().draw({**OVERVIEW, "workloads": rows})))
    waits = printed(print_explanation, {**WAITS, "etaPredicted": True}, NOW)
    assert "in 35 min, as past runs let expect" in waits
    runs = {**WAITS, "phase": "Running", "etaMs": None, "reservedMs": None, "sinceMs": NOW - 35 * MINUTE}
    runs |= {"expectedEndMs": NOW + 20 * MINUTE, "endPredictedBy": "its last 7 runs"}
    assert "in 20 min, expected by its last 7 runs" in printed(print_explanation, runs, NOW)
    late = printed(print_explanation, {**runs, "expectedEndMs": NOW - MINUTE}, NOW)
    assert "runs longer than its last 7 runs let expect" in late
