"""Which fields of a status each decision changes, and that it leaves all others as they were."""

from typing import Any

import pytest

from common.resources import Workload
from common.resources.workload import NextGang, Nomination, PendingReason, RankPlacement, WorkloadStatus
from scheduler.core.lifecycle.lifecycle import Note, State, Step
from scheduler.core.model.types import Admit, Defer, Migrate, Preempt, Reason, Resize
from scheduler.translate.observed import Observed
from scheduler.translate.placements import rank_placement
from scheduler.translate.transitions import (
    after_admit,
    after_defer,
    after_move,
    after_preempt,
    after_step,
    after_summary,
    after_surge,
    after_surge_deferred,
    exit_notes,
)
from scheduler.translate.views import roles_digest
from tests.unit.scheduler.translate.test_transitions import DEFER, PLACEMENT, rank, written

NOW_MS = 90_000
PLACED = [rank_placement(one).model_dump() for one in PLACEMENT]
WAITS = [{"code": "NoRoom", "message": "no room", "nodes": 0}]
NOMINATED = {"generation": 1, "ranks": PLACED}


def full(**update: Any) -> Workload:
    """A workload of whose status every field says something."""
    workload = written()
    workload.metadata.generation = 1
    workload.status = workload.status.model_copy(
        update={
            "restarts": 4,
            "backoff_step": 2,
            "preemptions": 1,
            "next_start_ms": 1,
            "leaves_by_ms": 2,
            "admitted_ms": 3,
            "resized_ms": 4,
            "placed_digest": "before",
            "message": "as before",
            "pending": [PendingReason(code="Old", message="old")],
            "nominated": Nomination(generation=1, ranks=[]),
            "next": NextGang(cause="Update", beside=True, attempt=3, digest="next", ranks=[rank()]),
            **update,
        }
    )
    return workload


def changes(workload: Workload, status: WorkloadStatus) -> dict[str, Any]:
    before, after = workload.status.model_dump(), status.model_dump()
    left_out = {"conditions", "observed_generation"}
    return {name: after[name] for name in after if name not in left_out and after[name] != before[name]}


def conditions(status: WorkloadStatus) -> dict[str, tuple[str, str]]:
    return {one.type: (one.status, one.reason) for one in status.conditions}


def gang(cause: str, beside: bool, digest: str, message: str) -> dict[str, Any]:
    return {
        "cause": cause,
        "beside": beside,
        "attempt": 3,
        "digest": digest,
        "ranks": PLACED,
        "message": message,
    }


def test_who_is_admitted_starts_with_nothing_of_before() -> None:
    workload = full()
    status = after_admit(workload, Admit("u", PLACEMENT), NOW_MS)
    assert changes(workload, status) == {
        "phase": "Starting",
        "attempt": 3,
        "ranks": PLACED,
        "placed_digest": roles_digest(workload.spec.roles),
        "next": None,
        "admitted_ms": NOW_MS,
        "next_start_ms": None,
        "resized_ms": None,
        "leaves_by_ms": None,
        "nominated": None,
        "pending": [],
        "message": "",
    }
    assert conditions(status) == {"Admitted": ("True", "Placed"), "Ready": ("False", "Starting")}
    assert status.observed_generation == 1


def test_who_is_preempted_leaves_in_time_and_that_costs_no_restart() -> None:
    workload = full()
    status = after_preempt(workload, Preempt("u", "v", "gives way"), 2.5, NOW_MS)
    assert changes(workload, status) == {
        "phase": "Preempting",
        "next": None,
        "message": "gives way",
        "preemptions": 2,
        "last_preemption": {
            "attempt": 2,
            "nodes": sorted({rank.node for rank in workload.status.ranks}),
            "by": "",
            "by_uid": "",
            "message": "gives way",
            "time_ms": NOW_MS,
        },
        "leaves_by_ms": NOW_MS + 2500,
    }
    assert conditions(status)["Ready"] == ("False", "Preempting")


@pytest.mark.parametrize(
    ("decision", "cause", "phase"),
    [
        (Resize("u", PLACEMENT, "grows"), "Resize", "Resizing"),
        (Migrate("u", PLACEMENT, "grows"), "Migrate", "Migrating"),
    ],
)
def test_who_moves_ends_first_or_is_followed_by_a_gang_beside_it(
    decision: Resize | Migrate, cause: str, phase: str
) -> None:
    workload = full()
    beside = after_move(workload, decision, True, 2.5, NOW_MS)
    assert changes(workload, beside) == {"next": gang(cause, True, "before", "grows")}
    ends = after_move(workload, decision, False, 2.5, NOW_MS)
    assert changes(workload, ends) == {
        "next": gang(cause, False, "before", "grows"),
        "phase": phase,
        "message": "grows",
        "leaves_by_ms": NOW_MS + 2500,
    }


@pytest.mark.parametrize(
    ("cause", "message"), [("Update", "spec.roles changed"), ("Drain", "its node is drained")]
)
def test_a_gang_that_starts_beside_waits_for_nothing_any_more(cause: Any, message: str) -> None:
    workload = full()
    status = after_surge(workload, PLACEMENT, cause, NOW_MS)
    assert changes(workload, status) == {
        "next": gang(cause, True, roles_digest(workload.spec.roles), message),
        "pending": [],
        "nominated": None,
        "next_start_ms": None,
    }


@pytest.mark.parametrize("nominated", [True, False])
def test_who_waits_is_told_why_and_what_was_cleared(nominated: bool) -> None:
    workload = full(phase="Pending", next=None)
    decision = DEFER if nominated else Defer("u", (Reason("NoRoom", "no room"),), "another node")
    told = {"pending": WAITS, "nominated": NOMINATED if nominated else None}
    assert changes(workload, after_surge_deferred(workload, decision)) == told
    status = after_defer(workload, decision, NOW_MS)
    assert changes(workload, status) == {**told, "message": "no room. It fits when: another node"}
    assert conditions(status)["Admitted"] == ("False", "NoRoom")


def test_a_group_is_what_its_replicas_are_and_is_placed_nowhere() -> None:
    workload = full()
    pending = [PendingReason(code="NoRoom", message="no room")]
    status = after_summary(workload, "Ready", [rank()], pending, "1 of 2", NOW_MS)
    assert changes(workload, status) == {
        "phase": "Ready",
        "pending": WAITS,
        "message": "1 of 2",
        "next": None,
        "placed_digest": "",
    }
    assert conditions(status) == {"Admitted": ("True", "Placed"), "Ready": ("True", "EveryRankReady")}


RUNS = State("Running", 3)


@pytest.mark.parametrize(
    ("cause", "admitted_ms", "resized_ms"),
    [("Update", NOW_MS, 4), ("Resize", 3, NOW_MS), ("Migrate", 3, 4), ("Drain", 3, 4)],
)
def test_a_successor_takes_over_as_what_it_came_for(cause: Any, admitted_ms: int, resized_ms: int) -> None:
    next_ = NextGang(cause=cause, beside=True, attempt=3, digest="next", ranks=[rank()])
    workload, planned = full(next=next_), [rank_placement(one) for one in PLACEMENT]
    status = after_step(workload, [rank()], planned, Step(RUNS, succeed=True), NOW_MS)
    assert [one.model_dump() for one in status.ranks] == PLACED
    assert (status.next, status.placed_digest, status.pending, status.attempt) == (None, "next", [], 3)
    assert (status.admitted_ms, status.resized_ms) == (admitted_ms, resized_ms)


def test_what_a_step_says_of_ranks_and_the_successor_is_kept() -> None:
    workload, planned = full(), [rank_placement(one) for one in PLACEMENT]
    same = State("Running", 2)
    status = after_step(workload, [rank("Exited")], planned, Step(same), NOW_MS)
    assert status.next is not None
    assert ([one.state for one in status.ranks], status.next.ranks) == (["Exited"], planned)
    assert (status.nominated, status.admitted_ms) == (workload.status.nominated, 3)
    assert status.pending == workload.status.pending
    assert after_step(workload, [rank()], planned, Step(same, drop=True), NOW_MS).next is None
    released = after_step(workload, [rank()], planned, Step(same, release=True), NOW_MS)
    assert (released.admitted_ms, released.placed_digest) == (None, "")


@pytest.mark.parametrize(
    ("phase", "successor", "nominated", "admitted"),
    [
        ("Running", True, True, "True"),
        ("Restarting", True, True, "True"),
        ("Pending", False, True, "False"),
        ("Suspended", False, False, "False"),
        ("Succeeded", False, False, "True"),
        ("Failed", False, False, "True"),
    ],
)
def test_each_phase_keeps_what_belongs_to_it(
    phase: Any, successor: bool, nominated: bool, admitted: str
) -> None:
    workload = full()
    status = after_step(workload, [rank()], [], Step(State(phase, 2)), NOW_MS)
    assert (status.next is not None, status.nominated is not None) == (successor, nominated)
    found = conditions(status)
    assert found["Admitted"] == (admitted, "Placed" if admitted == "True" else phase)
    finished = phase in ("Succeeded", "Failed")
    assert found.get("Finished") == (("True", phase) if finished else None)


@pytest.mark.parametrize(
    ("phase", "states", "ready"),
    [
        ("Ready", ["Running"], True),
        ("Running", ["Running", "Running"], True),
        ("Running", ["Running", "Exited"], False),
        ("Starting", ["Running"], False),
    ],
)
def test_it_is_ready_when_every_rank_is(phase: Any, states: list[str], ready: bool) -> None:
    workload = full()
    status = after_step(workload, [rank(state) for state in states], [], Step(State(phase, 2)), NOW_MS)
    assert conditions(status)["Ready"] == (("True", "EveryRankReady") if ready else ("False", phase))


def test_why_it_waits_is_not_said_anew_by_a_step() -> None:
    waits = after_defer(full(phase="Pending", next=None), DEFER, NOW_MS)
    workload = full()
    workload.status = waits
    status = after_step(workload, [], [], Step(State("Pending", 2)), NOW_MS + 1)
    assert conditions(status)["Admitted"] == ("False", "NoRoom")


def test_each_rank_that_has_ended_since_is_told_once() -> None:
    def ended(code: int) -> RankPlacement:
        return rank("Exited").model_copy(update={"exit_code": code})

    workload = written()
    workload.status.ranks = [rank(), rank(), ended(3), rank()]
    after = [ended(0), ended(7), ended(3), rank()]
    text = "rank 2 (main) on a ended with exit code"
    assert list(exit_notes(workload, after, Observed())) == [
        (Note("RankExited", f"{text} 0", "info"), ""),
        (Note("RankExited", f"{text} 7", "warning"), ""),
    ]
