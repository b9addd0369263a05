"""What is written about a workload says all that was decided, and leaves what was read as it was."""

from collections.abc import Callable
from dataclasses import fields

import pytest

from common.resources import Metadata, Workload
from common.resources.workload import (
    Grant,
    NextGang,
    RankPlacement,
    WorkloadRole,
    WorkloadSpec,
    WorkloadStatus,
)
from scheduler.core.lifecycle.lifecycle import State, Step
from scheduler.core.model.types import Admit, Assignment, Defer, Migrate, Preempt, Reason, Resize, Share
from scheduler.translate.placements import rank_placement
from scheduler.translate.transitions import (
    _NESTED,
    after_admit,
    after_defer,
    after_move,
    after_preempt,
    after_step,
    after_surge,
    after_surge_deferred,
)
from scheduler.translate.views import roles_digest, state_view

PLACEMENT = (Assignment("main", 0, 0, "b", (Share("b/0", 0, "nvidia", "H100", 80, 1000),), 4000, 1 << 30),)
DEFER = Defer("u", (Reason("NoRoom", "no room"),), "another node", nominated=PLACEMENT)
STATE = State("Restarting", 7, 3, 2, 5_000, 6_000, "rank 0 ended with exit code 9", 2)


def rank(state: str = "Running") -> RankPlacement:
    grant = Grant(device="a/0", index=0, vendor="nvidia", model="H100", memory_bytes=80, millis=1000)
    return RankPlacement.model_validate(
        {"role": "main", "replica": 1, "rank": 2, "node": "a", "grants": [grant.to_dict()]}
        | {"cpuMillis": 4000, "hostMemoryBytes": 1 << 30, "state": state, "pid": 5, "exitCode": 1}
    )


def written() -> Workload:
    """It runs, and something has been said about it before."""
    spec = WorkloadSpec(roles=[WorkloadRole(name="main", command=["x"])])
    status = WorkloadStatus(phase="Running", attempt=2, ranks=[rank()], message="as before")
    status.set_condition("Admitted", True, "Placed", now_ms=1, generation=1)
    status.set_condition("Ready", True, "Ready", now_ms=1, generation=1)
    return Workload(metadata=Metadata(name="w", project="p"), spec=spec, status=status)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: after_admit(w, Admit("u", PLACEMENT), 9),
        lambda w: after_defer(w, DEFER, 9),
        lambda w: after_preempt(w, Preempt("u", "v", "gives way"), 1.0, 9),
        lambda w: after_move(w, Resize("u", PLACEMENT, "grows"), False, 1.0, 9),
        lambda w: after_move(w, Migrate("u", PLACEMENT, "moves"), True, 1.0, 9),
        lambda w: after_surge(w, PLACEMENT, "Update", 9),
        lambda w: after_surge_deferred(w, DEFER),
        lambda w: after_step(w, [rank()], [], Step(STATE), 9),
        lambda w: after_step(w, [rank()], [], Step(State("Failed", 2), release=True), 9),
    ],
)
def test_a_new_status_shares_nothing_with_the_one_that_was_read(
    change: Callable[[Workload], WorkloadStatus],
) -> None:
    """Else a write that another writer wins has changed what all others see."""
    workload = written()
    before = workload.to_dict()
    status = change(workload)
    assert workload.to_dict() == before
    assert status != workload.status
    for condition in status.conditions:
        condition.reason = "Changed"
    for placed in status.ranks:
        placed.grants.clear()
    assert workload.to_dict() == before


def test_every_field_that_could_be_shared_is_known() -> None:
    status = WorkloadStatus(phase="Pending")
    scalars = {name for name, value in status if isinstance(value, str | int)} | {"never_fits"}
    numbers = {name for name in WorkloadStatus.model_fields if name.endswith("_ms")}
    assert WorkloadStatus.model_fields.keys() - scalars - numbers == {*_NESTED, "conditions"}


def test_a_successor_says_why_it_comes_and_where_it_goes() -> None:
    workload = written()
    workload.status.placed_digest = "now"
    ranks = [rank_placement(one) for one in PLACEMENT]
    moved = after_move(workload, Migrate("u", PLACEMENT, "moves"), True, 1.0, 9).next
    assert moved == NextGang(
        cause="Migrate", beside=True, attempt=3, digest="now", ranks=ranks, message="moves"
    )
    surged = after_surge(workload, PLACEMENT, "Drain", 9).next
    digest = roles_digest(workload.spec.roles)
    assert surged == NextGang(
        cause="Drain", beside=True, attempt=3, digest=digest, ranks=ranks, message="its node is drained"
    )


def test_the_whole_state_is_written_and_read_back() -> None:
    workload = written()
    workload.status = after_step(workload, workload.status.ranks, [], Step(STATE), 9)
    assert state_view(workload) == STATE
    assert all(getattr(STATE, field.name) != field.default for field in fields(State))


def test_the_next_attempt_has_the_same_places_and_nothing_of_the_last() -> None:
    workload = written()
    (placed,) = after_step(workload, workload.status.ranks, [], Step(STATE), 9).ranks
    same = {"role", "replica", "rank", "node", "grants", "cpu_millis", "host_memory_bytes"}
    assert placed.model_dump(include=same) == rank().model_dump(include=same)
    fresh = RankPlacement(role="", replica=0, rank=0, node="")
    assert placed.model_dump(exclude=same) == fresh.model_dump(exclude=same)
