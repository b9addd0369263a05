"""Who is admitted, in which order, and where."""

from typing import Any

import pytest

from scheduler.core.model.types import Admit, Defer, Preempt, QueueView, RoleView
from tests.unit.scheduler.build import (
    GIB,
    admitted,
    cpu,
    cycle,
    deferred,
    gpu,
    holding,
    node,
    places,
    role,
    workload,
)


def test_priority_comes_before_age_and_age_before_name() -> None:
    pool = [node("a", *(gpu(i) for i in range(4)))]
    decisions = cycle(
        pool,
        workload("z-old", created_ms=1),
        workload("b-young", created_ms=2),
        workload("a-young", created_ms=2),
        workload("urgent", priority=5, created_ms=9),
    )
    assert admitted(decisions) == ["urgent", "z-old", "a-young", "b-young"]


def test_a_workload_that_does_not_fit_does_not_hold_up_those_behind_it() -> None:
    big, small = workload("big", role(count=8), priority=9), workload("small")
    decisions = cycle([node("a", gpu(0))], big, small)
    assert admitted(decisions) == ["small"]
    assert deferred(decisions[0]).position == 1


@pytest.mark.parametrize(
    ("request_", "fits"),
    [
        ({"vendors": ("ascend",)}, "c"),
        ({"vendors": ("ascend", "amd")}, "c"),
        ({"not_vendors": ("nvidia", "cpu")}, "c"),
        ({"models": ("h200",)}, "b"),
        ({"models": ("H200", "MI300X")}, "b"),
        ({"vendors": ("nvidia",), "not_models": ("h200",)}, "a"),
        ({"vendors": ("nvidia",), "memory_bytes": 100 * GIB}, "b"),
        ({"vendors": ("cpu",)}, "d"),
        ({"vendors": ("nvidia",), "count": 2}, "a"),
        ({"count": 0, "vendors": ("nvidia",)}, "d"),
    ],
)
def test_filters_choose_the_node(request_: dict[str, Any], fits: str) -> None:
    pool = [
        node("a", gpu(0), gpu(1)),
        node("b", gpu(0, model="H200", gib=141)),
        node("c", gpu(0, vendor="ascend", model="910B", gib=64)),
        node("d", cpu("d")),
    ]
    assert places(cycle(pool, workload("w", role(**request_)))[0]) == [fits]


def test_accelerators_are_preferred_and_gaps_are_filled_first() -> None:
    pool = [
        node("cpu-only", cpu("x")),
        node("empty", *(gpu(i) for i in range(4))),
        node("half", *(gpu(i) for i in range(4))),
    ]
    running = [holding("there", pool[2], 0, 1)]
    assert places(cycle(pool, workload("w"), running=running)[0]) == ["half"]


def test_a_small_request_leaves_the_large_device_alone() -> None:
    pool = [node("a", gpu(0, model="H200", gib=141), gpu(1, model="L20", gib=48))]
    decision = cycle(pool, workload("w", role(memory_bytes=40 * GIB)))[0]
    assert isinstance(decision, Admit)
    assert decision.placement[0].shares[0].model == "L20"


def test_broken_cordoned_and_lost_nodes_get_nothing() -> None:
    pool = [
        node("broken", gpu(0, healthy=False)),
        node("cordoned", gpu(0), cordoned=True),
        node("lost", gpu(0), alive=False),
        node("ok", gpu(0)),
    ]
    decisions = cycle(pool, workload("w1"), workload("w2"))
    assert places(decisions[0]) == ["ok"]
    assert len(deferred(decisions[1]).reasons) == 5


def test_the_devices_of_a_rank_are_of_one_model_and_on_one_node() -> None:
    pool = [node("mixed", gpu(0), gpu(1, model="A100")), node("pair", gpu(0), gpu(1))]
    decision = cycle(pool, workload("w", role(count=2)))[0]
    assert places(decision) == ["pair"]
    assert isinstance(decision, Admit)
    assert len({share.device for share in decision.placement[0].shares}) == 2


def test_a_cpu_is_shared_by_slots_and_its_memory_set_aside() -> None:
    pool = [node("a", cpu("a", slots=4, gib=10))]
    want = role(memory_bytes=4 * GIB)
    decisions = cycle(pool, workload("one", want), workload("three", want), workload("two", want))
    assert admitted(decisions) == ["one", "three"]
    assert "at most 0 free" in deferred(decisions[2]).reasons[0].message


def test_gangs_are_whole_or_not_at_all() -> None:
    pool = [node("a", gpu(0), gpu(1)), node("b", gpu(0))]
    decisions = cycle(pool, workload("four", role(replicas=4)), workload("three", role(replicas=3)))
    assert admitted(decisions) == ["three"]
    assert sorted(places(decisions[1])) == ["a", "a", "b"]


def test_a_picky_role_is_not_robbed_by_one_that_could_go_anywhere() -> None:
    pool = [node("a", gpu(0, vendor="ascend", model="910B", gib=64)), node("b", gpu(0))]
    roles: tuple[RoleView, ...] = (role(name="any"), role(name="picky", vendors=("ascend",)))
    decision = cycle(pool, workload("w", *roles))[0]
    assert isinstance(decision, Admit)
    assert [(a.rank, a.role, a.node) for a in decision.placement] == [(0, "any", "b"), (1, "picky", "a")]


def test_queue_limits_count_what_runs_and_what_this_cycle_admits() -> None:
    pool = [node("a", *(gpu(i) for i in range(8)))]
    queues, running = [QueueView("default", max_devices=4)], [holding("there", pool[0], 0)]
    two = [workload(f"w{i}", role(count=2)) for i in range(2)]
    decisions = cycle(pool, *two, queues=queues, running=running)
    assert admitted(decisions) == ["w0"]
    assert deferred(decisions[1]).reasons[0].code == "QueueLimit"
    assert "3 of maxDevices 4" in deferred(decisions[1]).reasons[0].message


def test_a_limit_counts_all_roles_of_a_gang_whatever_models_they_are_on() -> None:
    pool = [node("a", gpu(0), gpu(1), cpu("a"))]
    mixed = workload("w", role(2, name="gpus", vendors=("nvidia",)), role(1, name="cpu", vendors=("cpu",)))
    (decision,) = cycle(pool, mixed, queues=[QueueView("default", max_devices=2)])
    assert deferred(decision).reasons[0].code == "QueueLimit"
    assert admitted(cycle(pool, mixed, queues=[QueueView("default", max_devices=3)])) == ["w"]


def test_unknown_and_forbidden_queues_are_named() -> None:
    pool, queues = [node("a", gpu(0))], [QueueView("night")]
    decisions = cycle(
        pool,
        workload("w1", queue="day"),
        workload("w2", queue="night", allowed_queues=("day",)),
        queues=queues,
    )
    codes = {d.uid: deferred(d).reasons[0].code for d in decisions}
    assert codes == {"uid-w1": "QueueUnknown", "uid-w2": "QueueNotAllowed"}


def test_an_elastic_gang_starts_with_what_its_quota_leaves() -> None:
    pool = [node("a", *(gpu(i) for i in range(8)))]
    wants = workload("w", role(replicas=6, min_replicas=2))
    decision = cycle(pool, wants, queues=[QueueView("default", max_devices=3)])[0]
    assert len(places(decision)) == 3


def test_equal_workloads_are_made_room_for_in_one_cycle() -> None:
    pool = [node("a", *(gpu(i) for i in range(4)))]
    running = [holding(f"low{i}", pool[0], i) for i in range(4)]
    decisions = cycle(pool, *(workload(f"high{i}", priority=5) for i in range(3)), running=running)
    assert len([d for d in decisions if isinstance(d, Preempt)]) == 3
    assert [deferred(d).reasons[0].code for d in decisions if isinstance(d, Defer)] == ["Preempting"] * 3
