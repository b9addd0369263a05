"""Elastic workloads grow into what is left over."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from scheduler.core.model.types import Affinity, NodeView, Policy, QueueView, Quota, Resize, RunningView, Tide
from scheduler.core.placement.snapshot import take_snapshot
from scheduler.core.placement.trial import Trial
from scheduler.core.reshape.elastic import grow, spare_ranks, without
from tests.unit.scheduler.build import NOW_MS, gpu, holding, node, role, workload
from tests.unit.scheduler.worlds import World, fingerprint, overused, ranks_of, worlds

LONG_AGO = NOW_MS - 900_000


def elastic(name: str, at: NodeView, position: int, replicas: int = 4, **more: object) -> RunningView:
    """It runs as one rank and could have more."""
    one = holding(name, at, position)
    runs = workload(name, role(replicas, min_replicas=1), **more)  # type: ignore[arg-type]
    return RunningView(runs, one.placement, LONG_AGO)


def grown(
    nodes: list[NodeView],
    running: list[RunningView],
    *queues: QueueView,
    blocked: bool = False,
    **policy: object,
) -> dict[str, Resize]:
    snapshot = take_snapshot(nodes, queues or (QueueView("default"),), (), running)
    trial = Trial(snapshot, Policy(**policy), NOW_MS)  # type: ignore[arg-type]
    return {resize.uid.removeprefix("uid-"): resize for resize in grow(trial, pending_blocked=blocked)}


A = node("a", *(gpu(i) for i in range(6)))


def test_it_grows_to_what_it_asks_for_and_keeps_its_place() -> None:
    (resize,) = grown([A], [elastic("e", A, 0)]).values()
    assert [(one.replica, one.rank) for one in resize.placement] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert [share.index for one in resize.placement for share in one.shares] == [0, 1, 2, 3]
    assert "3 ranks" in resize.message


def test_it_does_not_grow_while_others_wait_for_the_room() -> None:
    assert grown([A], [elastic("e", A, 0)], blocked=True) == {}


def test_what_is_left_over_is_shared_fairly() -> None:
    resizes = grown(
        [A], [elastic("x", A, 0, queue="x"), elastic("y", A, 1, queue="y")], QueueView("x"), QueueView("y")
    )
    assert {name: len(resize.placement) for name, resize in resizes.items()} == {"x": 3, "y": 3}


def test_the_quota_is_kept() -> None:
    (resize,) = grown([A], [elastic("e", A, 0)], QueueView("default", quotas=(Quota("*", 2000),))).values()
    assert len(resize.placement) == 2


def test_training_does_not_grow_above_the_tide() -> None:
    running = [elastic("e", A, 0, kind="training")]
    (resize,) = grown([A], running, tides=(Tide("nvidia", 3000),)).values()
    assert len(resize.placement) == 3


@pytest.mark.parametrize(
    ("change", "grows"),
    [
        ({"started_ms": NOW_MS - 119_000}, False),
        ({"resized_ms": NOW_MS - 119_000}, False),
        ({"resized_ms": NOW_MS - 120_000}, True),
        ({"leaving": True}, False),
    ],
)
def test_it_is_left_alone_for_a_while(change: dict[str, object], grows: bool) -> None:
    one = replace(elastic("e", A, 0), **change)  # type: ignore[arg-type]
    assert bool(grown([A], [one])) is grows


def test_what_was_resized_in_this_cycle_does_not_grow_back() -> None:
    trial = Trial(
        take_snapshot([A], [QueueView("default")], (), [elastic("e", A, 0)]), Policy(resize_seconds=0), NOW_MS
    )
    trial.resize("uid-e", trial.running["uid-e"].placement)
    assert grow(trial, pending_blocked=False) == ()


def test_all_ranks_stay_in_one_rack() -> None:
    nodes = [node(f"n{i}", gpu(0), labels=(("rack", f"r{i // 2}"),)) for i in range(4)]
    running = [elastic("e", nodes[2], 0, affinity=Affinity(same="rack"))]
    (resize,) = grown(nodes, running).values()
    assert [one.node for one in resize.placement] == ["n2", "n3"]


def test_ranks_that_go_leave_the_others_where_they_are() -> None:
    one = elastic("e", A, 0)
    (resize,) = grown([A], [one]).values()
    left = without(resize.placement, [resize.placement[1]])
    assert [(a.replica, a.rank) for a in left] == [(0, 0), (2, 1), (3, 2)]
    assert spare_ranks(replace(one, placement=left)) == {"main": 2}


@settings(max_examples=100, deadline=None)
@given(worlds(busy=0.6))
def test_growth_gives_nothing_out_twice_and_keeps_every_limit(world: World) -> None:
    trial = world.trial()
    mark, before = trial.mark(), fingerprint(trial, world.queues)
    resizes = grow(trial, pending_blocked=False)
    left = {resize.uid: resize.placement for resize in resizes}
    held = {one.workload.uid: one for one in world.running}
    assert overused(world.nodes, [left.get(uid, one.placement) for uid, one in held.items()]) == []
    for uid, placement in left.items():
        assert len(placement) > len(held[uid].placement)
        old = {(a.role, a.replica): (a.node, a.shares) for a in held[uid].placement}
        new = {(a.role, a.replica): (a.node, a.shares) for a in placement}
        assert old.items() <= new.items()
        assert [a.rank for a in placement] == list(range(len(placement)))
        for one in held[uid].workload.roles:
            assert ranks_of(placement, one.name) <= one.replicas
    for queue in world.queues:
        limit = queue.max_devices
        used = sum(trial.tree.usage(queue.name).values())
        assert limit is None or queue.is_cohort or used <= max(limit * 1000, used_before(world, queue.name))
    trial.rollback(mark)
    assert fingerprint(trial, world.queues) == before


def used_before(world: World, queue: str) -> int:
    return sum(world.trial().tree.usage(queue).values())
