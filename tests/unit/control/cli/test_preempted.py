"""A workload that was stopped for another one says so wherever one looks."""

import io
from typing import Any

from rich.console import Console

from control.console.tables.tables import COLUMNS
from control.console.told.explanations import print_explanation

RANK = {"role": "main", "replica": 0, "rank": 0, "node": "vm", "state": "Exited", "exitCode": 143}
LAST = {"attempt": 1, "nodes": ["vm"], "by": "high", "byUid": "uid-1", "message": "it is urgent", "timeMs": 0}


def row(**status: Any) -> dict[str, object]:
    document = {"metadata": {"name": "w"}, "spec": {"queue": "q"}, "status": {"attempt": 1, **status}}
    return {column.title: column.value(document) for column in COLUMNS["Workload"]}


def test_who_waits_is_nowhere_and_says_for_whom_it_made_way() -> None:
    waiting = row(phase="Pending", ranks=[RANK], lastPreemption=LAST, message="no room")
    assert waiting["NODE"] == ""
    assert waiting["MESSAGE"] == "no room — preempted for high on vm: it is urgent"
    other = row(phase="Pending", ranks=[RANK], lastPreemption={**LAST, "by": ""})
    assert other["MESSAGE"] == "preempted on vm: it is urgent"


def test_that_is_not_said_of_who_runs_again_or_waits_for_another_reason() -> None:
    assert row(phase="Running", attempt=2, ranks=[RANK], lastPreemption=LAST)["MESSAGE"] == ""
    assert row(phase="Running", attempt=2, ranks=[RANK], lastPreemption=LAST)["NODE"] == "vm"
    assert row(phase="Pending", attempt=2, ranks=[RANK], lastPreemption=LAST)["MESSAGE"] == ""
    assert row(phase="Failed", ranks=[RANK])["NODE"] == "vm"


def test_explain_says_when_where_and_for_whom() -> None:
    answer = {
        "name": "w",
        "project": "p",
        "queue": "q",
        "phase": "Pending",
        "attempt": 1,
        "restarts": 0,
        "lastPreemption": {**LAST, "timeMs": 1_700_000_000_000},
        "preemptedFor": "p/high",
        "ranks": [RANK],
    }
    out = io.StringIO()
    print_explanation(Console(file=out, width=200), answer, 1_700_000_100_000)
    lines = [line.strip() for line in out.getvalue().splitlines()]
    (told,) = [line for line in lines if line.startswith("preempted:")]
    assert told.endswith("on vm for p/high: it is urgent")
    assert "its last start:" in lines
