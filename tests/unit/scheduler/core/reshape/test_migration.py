"""Few moves that make something fit, or free whole nodes; nothing is given out twice on the way."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.model.types import (
    Affinity,
    Assignment,
    DeviceView,
    Migrate,
    NodeView,
    Placement,
    Policy,
    QueueView,
    RunningView,
    Share,
    WorkloadView,
)
from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.placing import ANYWHERE, Bounds, Stuck
from scheduler.core.placement.snapshot import take_snapshot
from scheduler.core.placement.trial import Trial
from scheduler.core.reshape.consolidation import MOVES_PER_NODE
from scheduler.core.reshape.migration import consolidate, plan_moves
from tests.unit.scheduler.build import NOW_MS, cycle, deferred, gpu, holding, node, role, workload
from tests.unit.scheduler.worlds import World, worlds

A, B, C = (node(name, *(gpu(i) for i in range(4))) for name in "abc")


def runs(name: str, at: NodeView, *positions: int, **more: object) -> RunningView:
    return holding(name, at, *positions, movable=True, **more)


def trial_of(nodes: list[NodeView], *running: RunningView, **policy: int) -> Trial:
    snapshot, rules = take_snapshot(nodes, [QueueView("default")], [], running), Policy(**policy)  # type: ignore[arg-type]
    snapshot.pool.use(rules, snapshot.workload_mix)
    return Trial(snapshot, rules, NOW_MS)


def wants(count: int, ranks: int = 1, **more: object) -> WorkloadView:
    return workload("head", role(ranks, count=count, vendors=("nvidia",)), **more)  # type: ignore[arg-type]


def targets(moves: tuple[Migrate, ...] | None) -> dict[str, list[str]]:
    return {m.uid.removeprefix("uid-"): [a.node for a in m.placement] for m in moves or ()}


def test_the_cheapest_node_is_cleared_for_what_does_not_fit() -> None:
    trial = trial_of([A, B, C], runs("x", A, 0), runs("y", B, 0, 1), runs("z", C, 0), holding("s", C, 1))
    moves = plan_moves(trial, wants(4), ANYWHERE)
    assert targets(moves) == {"x": ["b"]}
    assert moves is not None
    assert moves[0].beneficiary == "uid-head"
    assert [place.node for place in trial.running["uid-head"].placement] == ["a"]
    assert [place.node for place in trial.running["uid-x"].placement] == ["b"]


def test_a_gang_may_need_several_nodes_cleared_and_the_number_of_moves_is_limited() -> None:
    running = [runs("x", A, 0), runs("y", B, 0)]
    both = [*running, holding("z", C, 0, 1)]
    assert targets(plan_moves(trial_of([A, B, C], *both), wants(4, ranks=2), ANYWHERE)) == {
        "x": ["c"],
        "y": ["c"],
    }
    assert plan_moves(trial_of([A, B], *running), wants(4, ranks=2), ANYWHERE) is None
    halves = [runs("x", A, 0), runs("y", A, 1), holding("s", B, 0), holding("t", B, 1)]
    assert len(plan_moves(trial_of([A, B], *halves), wants(4), ANYWHERE) or ()) == 2
    assert plan_moves(trial_of([A, B], *halves, max_moves=1), wants(4), ANYWHERE) is None


def test_only_what_may_be_moved_is() -> None:
    for stays in (
        holding("x", A, 0),
        runs("x", A, 0, started_ms=NOW_MS - 10_000),
        runs("x", A, 0, expected_seconds=NOW_MS // 1000 + 60),
        replace(runs("x", A, 0), leaving=True, ends_ms=NOW_MS + 10_000),
    ):
        assert plan_moves(trial_of([A, B], stays, holding("y", B, 0)), wants(4), ANYWHERE) is None
    trial = trial_of([A, B], runs("x", A, 0), holding("y", B, 0))
    assert plan_moves(trial, wants(4), ANYWHERE) is not None
    assert plan_moves(trial, wants(4), ANYWHERE) is None, "nobody is moved twice"


def test_what_starts_in_this_cycle_is_not_moved() -> None:
    trial = trial_of([A, B], holding("y", B, 0), min_run_seconds=0)
    new = workload("new", role(count=1, vendors=("nvidia",)), movable=True)
    placement = trial.place(new, Bounds(only=(0,)))
    assert not isinstance(placement, Stuck)
    trial.admit(new, placement)
    assert trial.running[new.uid].placement[0].node == "a"
    assert plan_moves(trial, wants(4), ANYWHERE) is None
    assert consolidate(trial) == ()


def test_what_was_tried_and_undone_may_be_moved() -> None:
    trial = trial_of([A, B], runs("x", A, 0), holding("y", B, 0))
    mark = trial.mark()
    trial.evict("uid-x")
    trial.rollback(mark)
    assert targets(plan_moves(trial, wants(4), ANYWHERE)) == {"x": ["b"]}


def test_shares_are_put_together_for_a_whole_device() -> None:
    def half(name: str, at: NodeView) -> RunningView:
        view = runs(name, at, 0)
        share = view.placement[0].shares[0]
        placement = (view.placement[0]._replace(shares=(share._replace(millis=500, memory_bytes=1 << 30),)),)
        asks = role(share_millis=500, memory_bytes=1 << 30, vendors=("nvidia",))
        return replace(view, placement=placement, workload=replace(view.workload, roles=(asks,)))

    one, two = node("one", gpu(0)), node("two", gpu(0))
    trial = trial_of([one, two], half("x", one), half("y", two))
    assert len(plan_moves(trial, wants(1), ANYWHERE) or ()) == 1


def test_the_moved_go_to_devices_of_the_models_that_they_have() -> None:
    other = node("other", *(gpu(i, model="A100") for i in range(4)))
    trial = trial_of([A, other], runs("x", A, 0))
    h100 = Bounds(models=(("nvidia", "H100"),))
    assert plan_moves(trial, wants(4), h100) is None


def test_all_ranks_in_one_domain() -> None:
    racks = [replace(one, labels=(("rack", rack),)) for one, rack in zip((A, B, C), "rrq", strict=True)]
    running = [runs("x", racks[0], 0), holding("y", racks[2], 0)]
    gang = wants(4, ranks=2, affinity=Affinity(same="rack"))
    trial = trial_of(racks, *running)
    assert targets(plan_moves(trial, gang, ANYWHERE)) == {"x": ["c"]}


def test_what_the_moved_leave_is_taken_until_they_have_moved() -> None:
    pool = [A, B]
    running = [runs("x", A, 0, 1), holding("y", B, 0)]
    decisions = cycle(pool, wants(4), workload("small", created_ms=1), running=running)
    moves = [d for d in decisions if isinstance(d, Migrate)]
    assert targets(tuple(moves)) == {"x": ["b"]}
    head = next(d for d in decisions if d.uid == "uid-head")
    assert deferred(head).reasons[0].code
    small = next(d for d in decisions if d.uid == "uid-small")
    assert small.placement[0].node == "b"  # type: ignore[union-attr]


def test_for_whom_others_move_is_told_so_and_nobody_else() -> None:
    running = [runs("x", A, 0), holding("y", B, 0), holding("z", C, 0)]
    like_it = replace(wants(4), uid="uid-like-it", name="like-it", created_ms=1)
    decisions = {d.uid: d for d in cycle([A, B, C], wants(4), like_it, running=running)}
    assert targets(tuple(d for d in decisions.values() if isinstance(d, Migrate))) == {"x": ["b"]}
    told = [deferred(decisions[uid]).reasons[0].code for uid in ("uid-head", "uid-like-it")]
    assert told[0] == "Migrating" != told[1]


def test_a_node_with_little_on_it_is_emptied_where_no_node_is_idle() -> None:
    running = [runs("x", A, 0), holding("y", B, 0, 1), holding("z", C, 0, 1, 2)]
    trial = trial_of([A, B, C], *running)
    assert targets(consolidate(trial)) == {"x": ["c"]}
    idle = node("idle", *(gpu(i) for i in range(4)))
    assert consolidate(trial_of([A, B, C, idle], *running)) == ()
    assert consolidate(trial_of([A, B, C], *running, max_moves=0)) == ()
    busy = [runs("x", A, 0, 1, 2), holding("y", B, 0)]
    assert consolidate(trial_of([A, B], *busy)) == ()


@pytest.mark.parametrize("most", [0, 1, 2, 3, 8])
def test_no_more_move_in_a_cycle_than_the_policy_says(most: int) -> None:
    """Two kinds of nodes, of each one with a little on it and one with room for that."""
    nodes, running = [], []
    for model in ("H100", "A100"):
        for name, count in (("few", 1), ("many", 2)):
            made = node(f"{model}-{name}", *(gpu(index, model=model) for index in range(4)))
            nodes.append(made)
            maker = runs if name == "few" else holding
            running.append(maker(f"{model}-{name}", made, *range(count)))
    moves = consolidate(trial_of(nodes, *running, max_moves=most))
    assert len(moves) == min(2, most)


# -- properties


def _held(placements: list[Placement]) -> Counter[str]:
    return Counter(
        {
            device: sum(s.millis for p in placements for a in p for s in a.shares if s.device == device)
            for device in {s.device for p in placements for a in p for s in a.shares}
        }
    )


def _check_moves(world: World, trial: Trial, moves: tuple[Migrate, ...]) -> None:
    before = {view.workload.uid: view for view in world.running}
    capacity = {d.id: d.capacity_millis for n in world.nodes for d in n.devices}
    assert len({move.uid for move in moves}) == len(moves) <= world.policy.max_moves
    for move in moves:
        old = before[move.uid]
        assert old.workload.movable
        assert not old.leaving
        assert millis_by_model(move.placement) == millis_by_model(old.placement)
        ranks = Counter(a.role for a in old.placement)
        assert Counter(a.role for a in move.placement) == ranks
        assert sorted(a.rank for a in move.placement) == list(range(len(old.placement)))
        assert trial.running[move.uid].placement == move.placement
    both: Counter[str] = Counter()
    for view in world.running:
        both += _held([view.placement]) | _held([trial.running[view.workload.uid].placement])
    assert all(millis <= capacity[device] for device, millis in both.items()), (
        "a target is neither free before its source is given up nor its own"
    )
    after = _held([view.placement for view in trial.running.values()])
    assert all(millis <= capacity[device] for device, millis in after.items())


def scattered(seed: int) -> World:
    """Nodes of two models; workloads of one or two whole devices, gangs of two and halves on random devices,
    most of them movable."""
    rng = random.Random(seed)
    models = [rng.choice(("H100", "H100", "A100")) for _ in range(rng.randint(2, 6))]
    nodes = tuple(node(f"n{n}", *(gpu(i, model=m) for i in range(4))) for n, m in enumerate(models))
    spots = [(one, position) for one in nodes for position in range(4)]
    rng.shuffle(spots)
    running: list[RunningView] = []
    for number in range(rng.randint(1, len(spots) * 2 // 3)):
        if spots:
            running.append(_somewhere(rng, f"r{number}", spots))
    asks = [role(rng.randint(1, 2), count=rng.choice((1, 2, 4)), vendors=("nvidia",)) for _ in range(3)]
    same = [Affinity(), Affinity(same="rack")]
    pending = [workload(f"p{n}", ask, affinity=rng.choice(same)) for n, ask in enumerate(asks)]
    nodes = tuple(replace(one, labels=(("rack", f"k{n // 2}"),)) for n, one in enumerate(nodes))
    return World(nodes, (QueueView("default"),), tuple(running), tuple(pending), Policy(), NOW_MS)


def _somewhere(rng: random.Random, name: str, spots: list[tuple[NodeView, int]]) -> RunningView:
    at, position = spots.pop()
    share_millis = rng.choice((500, 1000, 1000))
    asks = role(share_millis=share_millis, models=(at.devices[0].model,))
    places = [(at, position)]
    if rng.random() < 0.3 and spots and spots[-1][0].devices[0].model == at.devices[0].model:
        places.append(spots.pop())
        asks = replace(asks, replicas=2)
    view = holding(name, at, position, movable=rng.random() < 0.8, priority=rng.randint(0, 2))
    placement = tuple(
        Assignment("main", rank, rank, where.name, (_share(where.devices[spot], share_millis),))
        for rank, (where, spot) in enumerate(places)
    )
    return replace(view, placement=placement, workload=replace(view.workload, roles=(asks,)))


def _share(device: DeviceView, millis: int) -> Share:
    memory = device.memory_bytes * millis // 1000
    return Share(device.id, device.index, device.vendor, device.model, memory, millis)


def _settled(world: World) -> World:
    """All of it runs for long and without end; every other workload may be moved."""
    running = (
        replace(
            view,
            started_ms=0,
            workload=replace(view.workload, movable=number % 2 == 0, expected_seconds=None),
        )
        for number, view in enumerate(world.running)
    )
    return replace(world, running=tuple(running))


WORLDS = st.one_of(st.integers(0, 2**32).map(scattered), worlds(busy=0.8).map(_settled))


@settings(max_examples=100, deadline=None)
@given(WORLDS)
def test_moves_make_the_workload_fit_and_nothing_is_given_out_twice(world: World) -> None:
    for pending in world.pending:
        trial, again = world.trial(), world.trial()
        bounds = trial.bounds_for(pending)
        if not isinstance(bounds, Bounds) or not isinstance(trial.place(pending, bounds), Stuck):
            continue
        before = list(trial.pool.state_of), dict(trial.running), bytes(trial.pool.listed), trial.mark()
        used = {queue.name: trial.tree.usage(queue.name) for queue in world.queues}
        moves = plan_moves(trial, pending, bounds)
        assert moves == plan_moves(again, pending, bounds)
        if moves is None:
            after = list(trial.pool.state_of), dict(trial.running), bytes(trial.pool.listed), trial.mark()
            assert before == after
            continue
        _check_moves(world, trial, moves)
        placement = trial.running[pending.uid].placement
        ranks = Counter(a.role for a in placement)
        assert all(role.least <= ranks[role.name] <= role.replicas for role in pending.roles)
        trial.rollback((0, 0))
        assert {queue.name: trial.tree.usage(queue.name) for queue in world.queues} == used


@settings(max_examples=70, deadline=None)
@given(WORLDS)
def test_consolidation_frees_nodes_and_comes_to_an_end(world: World) -> None:
    for _ in range(len(world.nodes) + 1):
        trial = world.trial()
        moves = consolidate(trial)
        if not moves:
            return
        _check_moves(world, trial, moves)
        moved = tuple(trial.running[view.workload.uid] for view in world.running)
        after = replace(world, running=moved)
        gained = _idle(after) - _idle(world)
        assert gained >= 1
        assert len(moves) <= gained * MOVES_PER_NODE
        world = after
    raise AssertionError("it goes on for ever")


def _idle(world: World) -> int:
    pool = world.snapshot().pool
    states = (pool.states.all[number] for number in pool.state_of)
    return sum(state is pool.states.idle(state.layout) for state in states)
