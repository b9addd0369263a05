"""What holds whoever makes room in whatever world."""

import random
from dataclasses import replace

from hypothesis import example, given, settings

from scheduler.core.model.types import Placement, RunningView, WorkloadView
from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.placing import Bounds, Stuck
from scheduler.core.placement.trial import Trial
from scheduler.core.preemption.nominations import Seating
from scheduler.core.preemption.preemption import PreemptionPlan, find_room
from scheduler.core.quota.quota import QuotaRefusal
from tests.unit.scheduler.worlds import World, fingerprint, make_world, overused, ranks_of, worlds

Attempt = tuple[Trial, WorkloadView, Bounds | QuotaRefusal, PreemptionPlan | None, object]


def attempt(world: World) -> list[Attempt]:
    """Each pending workload on a trial of its own, when it does not fit as things are."""
    found = []
    for workload in world.pending:
        trial = world.trial()
        bounds = trial.bounds_for(workload)
        if isinstance(bounds, Bounds):
            mark = trial.mark()
            fits = not isinstance(trial.place(workload, bounds), Stuck)
            trial.rollback(mark)
            if fits:
                continue
        before = fingerprint(trial, world.queues)
        found.append((trial, workload, bounds, find_room(trial, workload, bounds), before))
    return found


def least(workload: WorkloadView) -> WorkloadView:
    return replace(
        workload,
        roles=tuple(replace(role, replicas=role.least, min_replicas=None) for role in workload.roles),
    )


def taken(world: World, room: PreemptionPlan) -> dict[str, RunningView]:
    uids = {one.uid for one in room.victims} | {one.uid for one in room.resizes}
    return {one.workload.uid: one for one in world.running if one.workload.uid in uids}


def what_fails_changes_nothing_and_what_works_gives_nothing_out_twice(
    world: World, attempts: list[Attempt]
) -> None:
    for trial, workload, _, room, before in attempts:
        if room is None:
            assert fingerprint(trial, world.queues) == before
            continue
        gone = {victim.uid for victim in room.victims}
        left = {resize.uid: resize.placement for resize in room.resizes}
        staying = [
            left.get(one.workload.uid, one.placement)
            for one in world.running
            if one.workload.uid not in gone and not one.leaving
        ]
        assert overused(world.nodes, [room.placement, *staying]) == []
        for role in workload.roles:
            assert ranks_of(room.placement, role.name) == role.least
        assert trial.running[workload.uid].placement == room.placement
        assert not gone & trial.running.keys()


def nobody_gives_way_who_need_not(world: World, attempts: list[Attempt]) -> None:
    for _, workload, _, room, _ in attempts:
        if room is None:
            continue
        tree = world.trial().tree
        for uid, one in taken(world, room).items():
            assert one.workload.preemptible, uid
            assert not one.leaving, uid
            if one.workload.priority < workload.priority:
                continue
            assert one.workload.queue != workload.queue, uid
            assert world.now_ms - one.started_ms >= world.policy.min_run_seconds * 1000, uid
            assert any(
                tree.may_reclaim(workload.queue, one.workload.queue, model, 1)
                for model in millis_by_model(one.placement)
            ), uid
        for resize in room.resizes:
            before = taken(world, room)[resize.uid]
            places = {(a.role, a.replica): (a.node, a.shares) for a in before.placement}
            assert len(resize.placement) < len(before.placement)
            for role in before.workload.roles:
                assert ranks_of(resize.placement, role.name) >= role.least
            for rank, assignment in enumerate(resize.placement):
                assert assignment.rank == rank
                assert places[assignment.role, assignment.replica] == (assignment.node, assignment.shares)


def fits_without(
    world: World,
    workload: WorkloadView,
    gone: set[str],
    left: dict[str, Placement],
    places: Placement = (),
) -> bool:
    """Whether the least of the gang fits once these have gone or shrunk, in these places or anywhere."""
    trial = world.trial()
    for one in world.running:
        uid = one.workload.uid
        if uid in gone or (one.leaving and one.ends_ms is not None):
            trial.evict(uid)
        elif uid in left:
            trial.resize(uid, left[uid])
    if places and Seating(trial).seat(replace(least(workload), nominated=places)) == 0:
        return True
    bounds = trial.bounds_for(least(workload))
    return isinstance(bounds, Bounds) and not isinstance(trial.place(least(workload), bounds), Stuck)


def is_title(world: World, workload: WorkloadView, uid: str, others: set[str]) -> bool:
    """Whether it is of the claimant's queue and makes way, or shrinks, so that the queue may take back from
    others."""
    queues = {one.workload.uid: one.workload.queue for one in world.running}
    return queues[uid] == workload.queue and any(queues[other] != workload.queue for other in others)


def the_gang_fits_without_the_victims_and_with_any_of_them_it_does_not(
    world: World, attempts: list[Attempt]
) -> None:
    for _, workload, _, room, _ in attempts:
        if room is None:
            continue
        gone = {victim.uid for victim in room.victims}
        left = {resize.uid: resize.placement for resize in room.resizes}
        assert fits_without(world, workload, gone, left, room.placement)
        for uid in gone:
            needed = not fits_without(world, workload, gone - {uid}, left)
            assert needed or is_title(world, workload, uid, gone | left.keys()), uid
        for uid in left:
            kept = {other: placement for other, placement in left.items() if other != uid}
            needed = not fits_without(world, workload, gone, kept)
            assert needed or is_title(world, workload, uid, gone | left.keys()), uid


PROMISES = (
    what_fails_changes_nothing_and_what_works_gives_nothing_out_twice,
    nobody_gives_way_who_need_not,
    the_gang_fits_without_the_victims_and_with_any_of_them_it_does_not,
)


@settings(max_examples=150, deadline=None)
@given(worlds())
@example(make_world(random.Random(7119)))
@example(make_world(random.Random(2898)))
@example(make_world(random.Random(26988)))
@example(make_world(random.Random(6568974)))
@example(make_world(random.Random(2134535772)))
def test_who_makes_room_keeps_every_promise(world: World) -> None:
    """All of one world: to make it and to look for room is what takes time."""
    attempts = attempt(world)
    for promise in PROMISES:
        promise(world, attempts)


@settings(max_examples=60, deadline=None)
@given(worlds())
@example(make_world(random.Random(3663), 6, 1.2, 4))
def test_the_same_world_gives_the_same_victims(world: World) -> None:
    backwards = replace(world, nodes=world.nodes[::-1], running=world.running[::-1])
    first = [room for _, _, _, room, _ in attempt(world)]
    assert first == [room for _, _, _, room, _ in attempt(backwards)]
