"""Moves that make room or lessen waste: each plan is carried out here on plain dictionaries and must hold."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.fragmentation.board import Move, Need, PackedNode, PackedTask
from bench.fragmentation.planner import Plan, defragment, make_room
from scheduler.core.fragmentation import UNTRACKED, Fragmentation, TypicalTask

pytestmark = pytest.mark.unit

JUDGE = Fragmentation(
    (TypicalTask(0.5, 8000, 1, 1000), TypicalTask(0.4, 4000, 1, 500), TypicalTask(0.1, 16000, 2, 1000))
)
HALF = Need(4000, 1024, 1, 500)
WHOLE = Need(8000, 1024, 1, 1000)
PAIR = Need(16000, 1024, 2, 1000)
HOST = Need(10000, 1024, 0, 0)
CPU, MEMORY = 32000, 65536


def node(name: str, *tasks: PackedTask, model: str = "A100", gpus: int = 2, cpu: int = CPU) -> PackedNode:
    free = [1000] * gpus
    for task in tasks:
        for index in task.indexes:
            free[index] -= task.need.share_millis
    return PackedNode(
        name,
        model,
        cpu - sum(task.need.cpu_millis for task in tasks),
        MEMORY - sum(task.need.memory_mebibytes for task in tasks),
        tuple(free),
        tasks,
    )


def carried_out(nodes: list[PackedNode], moves: tuple[Move, ...]) -> list[PackedNode]:
    """The nodes after the moves, one by one; fails where one does not fit or is not allowed."""
    now = {one.name: one for one in nodes}
    for move in moves:
        source, target = now[move.source], now[move.target]
        task = next(task for task in source.tasks if task.id == move.task)
        assert task.movable
        assert move.source != move.target
        assert not task.need.models or target.model in task.need.models
        now[move.source] = _rebuilt(source, tuple(other for other in source.tasks if other is not task))
        moved = PackedTask(task.id, task.need, move.indexes)
        now[move.target] = _rebuilt(target, (*target.tasks, moved))
        assert len(set(move.indexes)) == task.need.devices
        assert all(free >= 0 for free in now[move.target].free_millis)
        assert now[move.target].cpu_free_millis >= 0
        assert now[move.target].memory_free_mebibytes >= 0
    return list(now.values())


def _rebuilt(old: PackedNode, tasks: tuple[PackedTask, ...]) -> PackedNode:
    cpu = old.cpu_free_millis + sum(task.need.cpu_millis for task in old.tasks)
    return node(old.name, *tasks, model=old.model, gpus=len(old.free_millis), cpu=cpu)


def check(nodes: list[PackedNode], need: Need, plan: Plan) -> None:
    after = carried_out(nodes, plan.moves)
    chosen = next(one for one in after if one.name == plan.node)
    assert len(set(plan.indexes)) == need.devices
    assert all(chosen.free_millis[index] >= need.share_millis for index in plan.indexes)
    assert chosen.cpu_free_millis >= need.cpu_millis
    assert chosen.memory_free_mebibytes >= need.memory_mebibytes


def waste(nodes: list[PackedNode]) -> float:
    return sum(
        JUDGE.wasted_millis(one.model, one.cpu_free_millis, tuple(sorted(one.free_millis))) for one in nodes
    )


def test_what_fits_needs_no_moves() -> None:
    plan = make_room([node("a"), node("b")], PAIR, JUDGE)
    assert plan == Plan((), "a", (0, 1))


def test_two_halves_are_put_together() -> None:
    nodes = [
        node("a", PackedTask("x", HALF, (0,)), PackedTask("y", WHOLE, (1,))),
        node("b", PackedTask("z", HALF, (0,)), PackedTask("w", WHOLE, (1,))),
    ]
    plan = make_room(nodes, WHOLE, JUDGE)
    assert plan == Plan((Move("x", "a", "b", (0,)),), "a", (0,))
    check(nodes, WHOLE, plan)


def test_a_node_is_freed_for_a_pair_by_two_moves() -> None:
    nodes = [
        node("a", PackedTask("x", HALF, (0,)), PackedTask("y", HALF, (1,))),
        node("b", PackedTask("z", HALF, (0,))),
    ]
    plan = make_room(nodes, PAIR, JUDGE)
    assert plan is not None
    assert len(plan.moves) == 1, "emptying b takes one move, emptying a two"
    check(nodes, PAIR, plan)


def test_cpu_is_freed_by_moving_a_task_without_devices() -> None:
    nodes = [node("a", PackedTask("host", HOST, ()), cpu=12000), node("b", gpus=0)]
    plan = make_room(nodes, WHOLE, JUDGE)
    assert plan is not None
    assert [move.task for move in plan.moves] == ["host"]
    check(nodes, WHOLE, plan)


@pytest.mark.parametrize(
    ("nodes", "need"),
    [
        pytest.param(
            [node("a", PackedTask("x", HALF, (0,), movable=False), gpus=1)], WHOLE, id="not-movable"
        ),
        pytest.param([node("a", PackedTask("x", HALF, (0,)), gpus=1)], WHOLE, id="nowhere-to-go"),
        pytest.param([node("a"), node("b")], Need(1000, 1, 1, 500, ("H100",)), id="other-model"),
        pytest.param([node("a")], Need(1000, 1, 3, 1000), id="node-too-small"),
        pytest.param([], WHOLE, id="no-nodes"),
    ],
)
def test_there_is_no_plan_where_moving_does_not_help(nodes: list[PackedNode], need: Need) -> None:
    assert make_room(nodes, need, JUDGE) is None


def test_no_more_moves_than_allowed() -> None:
    quarter = Need(1000, 1, 1, 250)
    full = node("a", *(PackedTask(f"t{i}", quarter, (0,)) for i in range(4)), gpus=1)
    nodes = [full, _gap()]
    assert make_room(nodes, WHOLE, JUDGE, max_moves=3) is None
    plan = make_room(nodes, WHOLE, JUDGE, max_moves=4)
    assert plan is not None
    check(nodes, WHOLE, plan)


def _gap() -> PackedNode:
    """Four quarters go here, a whole one does not: its CPU is too small for that."""
    return node("gap", gpus=1, cpu=4000)


def test_untracked_cpu_is_no_limit() -> None:
    nodes = [
        node("a", PackedTask("x", HALF, (0,)), gpus=1, cpu=UNTRACKED),
        node("b", PackedTask("y", HALF, (0,)), gpus=1, cpu=UNTRACKED),
    ]
    plan = make_room(nodes, WHOLE, JUDGE)
    assert plan is not None
    assert len(plan.moves) == 1


def test_waste_is_lessened_and_small_gains_are_left_alone() -> None:
    nodes = [
        node("a", PackedTask("x", HALF, (0,)), PackedTask("y", WHOLE, (1,))),
        node("b", PackedTask("z", HALF, (0,)), PackedTask("w", WHOLE, (1,))),
    ]
    moves = defragment(nodes, JUDGE, threshold_millis=1.0)
    assert len(moves) == 1
    assert waste(carried_out(nodes, moves)) < waste(nodes) - 1.0
    assert defragment(nodes, JUDGE, threshold_millis=5000.0) == ()


needs = st.sampled_from((HALF, WHOLE, PAIR, HOST, Need(2000, 2048, 1, 250), Need(1000, 512, 1, 750)))


@st.composite
def pools(draw: st.DrawFn) -> list[PackedNode]:
    made = []
    for number in range(draw(st.integers(1, 4))):
        gpus = draw(st.integers(1, 4))
        tasks: list[PackedTask] = []
        for count in range(draw(st.integers(0, 5))):
            need, now = draw(needs), node("", *tasks, gpus=gpus)
            fitting = [i for i, free in enumerate(now.free_millis) if free >= need.share_millis]
            if len(fitting) >= need.devices and now.cpu_free_millis >= need.cpu_millis:
                indexes = tuple(fitting[: need.devices])
                tasks.append(PackedTask(f"n{number}t{count}", need, indexes, draw(st.booleans())))
        made.append(node(f"n{number}", *tasks, gpus=gpus))
    return made


@settings(max_examples=150)
@given(pools(), needs)
def test_every_plan_holds_when_it_is_carried_out(nodes: list[PackedNode], need: Need) -> None:
    plan = make_room(nodes, need, JUDGE, max_moves=3)
    if plan is not None:
        assert len(plan.moves) <= 3
        check(nodes, need, plan)
    assert plan == make_room(nodes, need, JUDGE, max_moves=3)


@settings(max_examples=75)
@given(pools())
def test_every_defragmentation_lessens_the_waste(nodes: list[PackedNode]) -> None:
    moves = defragment(nodes, JUDGE, threshold_millis=10.0, max_moves=4)
    assert waste(carried_out(nodes, moves)) <= waste(nodes) - 10.0 * len(moves) + 1e-6
