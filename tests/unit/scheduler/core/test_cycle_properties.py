"""What holds for every pool and every set of workloads."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.cycle import run_cycle
from scheduler.core.model.types import (
    Admit,
    Assignment,
    Decision,
    Defer,
    DeviceView,
    Migrate,
    NodeView,
    Placement,
    Policy,
    Preempt,
    QueueView,
    Request,
    Resize,
    RoleView,
    RunningView,
    WorkloadView,
)
from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.snapshot import Snapshot, take_snapshot
from scheduler.core.placement.trial import Trial, keep_books
from tests.unit.scheduler.random_pools import CATALOGUE, NOW_MS, snapshots
from tests.unit.scheduler.worlds import World, fingerprint, worlds

POLICY = Policy(min_run_seconds=0)


def decide(snapshot: Snapshot) -> list[Decision]:
    return run_cycle(snapshot, POLICY, NOW_MS)


def held_after(snapshot: Snapshot, decisions: list[Decision]) -> dict[str, tuple[WorkloadView, Placement]]:
    """Who holds what once everything decided has been done."""
    held = {r.workload.uid: (r.workload, r.placement) for r in snapshot.running}
    pending = {w.uid: w for w in snapshot.pending}
    for decision in decisions:
        if isinstance(decision, Preempt):
            del held[decision.uid]
        elif isinstance(decision, Resize | Migrate):
            held[decision.uid] = held[decision.uid][0], decision.placement
    for decision in decisions:
        if isinstance(decision, Admit):
            held[decision.uid] = pending[decision.uid], decision.placement
    return held


def no_device_is_given_twice(snapshot: Snapshot, decisions: list[Decision]) -> None:
    devices = {device.id: device for node in snapshot.pool.nodes for device in node.devices}
    hosts = {node.name: node.cpu_millis for node in snapshot.pool.nodes}
    millis: Counter[str] = Counter()
    memory: Counter[str] = Counter()
    cpu: Counter[str] = Counter()
    for _, placement in held_after(snapshot, decisions).values():
        for assignment in placement:
            cpu[assignment.node] += assignment.cpu_millis
            for share in assignment.shares:
                millis[share.device] += share.millis
                memory[share.device] += share.memory_bytes
    assert all(millis[id_] <= device.capacity_millis for id_, device in devices.items())
    assert all(memory[id_] <= device.memory_bytes for id_, device in devices.items())
    assert all(not capacity or cpu[name] <= capacity for name, capacity in hosts.items())


def every_rank_gets_what_it_asked_for(snapshot: Snapshot, decisions: list[Decision]) -> None:
    nodes = {node.name: node for node in snapshot.pool.nodes}
    devices = {device.id: (device, node) for node in nodes.values() for device in node.devices}
    wanted = {(w.uid, role.name): role.request for w in snapshot.pending for role in w.roles}
    for admit in (d for d in decisions if isinstance(d, Admit)):
        for assignment in admit.placement:
            request = wanted[(admit.uid, assignment.role)]
            assert len(assignment.shares) == request.count
            assert len({(s.vendor, s.model) for s in assignment.shares}) <= 1
            assert not nodes[assignment.node].cordoned
            for share in assignment.shares:
                device, node = devices[share.device]
                assert (node.name, device.healthy) == (assignment.node, True)
                assert share.millis == min(request.share_millis, 1000)
                assert not request.vendors or device.vendor in request.vendors
                assert device.vendor not in request.not_vendors
                assert device.memory_bytes >= request.memory_bytes
            assert rings_are_kept(assignment, snapshot)


def rings_are_kept(assignment: Assignment, snapshot: Snapshot) -> bool:
    """What the vendor's rule says about the devices of one rank."""
    nodes = {node.name: node for node in snapshot.pool.nodes}
    islands = {d.id: d.island for d in nodes[assignment.node].devices}
    whole = [s for s in assignment.shares if s.millis == 1000 and s.vendor == "ascend"]
    if not whole:
        return True
    sizes = Counter(islands[share.device] for share in whole)
    if whole[0].model == "ascend-1":
        return len(whole) == 1 or all(size == 2 for size in sizes.values())
    return len(sizes) == 1 if len(whole) <= 2 else set(sizes.values()) == {2}


def gangs_are_whole(snapshot: Snapshot, decisions: list[Decision]) -> None:
    for workload, placement in held_after(snapshot, decisions).values():
        ranks = Counter(assignment.role for assignment in placement)
        assert all(role.least <= ranks[role.name] <= role.replicas for role in workload.roles)
        assert [assignment.rank for assignment in placement] == list(range(len(placement)))


def wishes_that_are_musts_are_kept(snapshot: Snapshot, decisions: list[Decision]) -> None:
    racks = {node.name: node.label("rack") for node in snapshot.pool.nodes}
    admitted = {d.uid for d in decisions if isinstance(d, Admit)}
    held = held_after(snapshot, decisions)
    databases = [uid for uid, (w, _) in held.items() if ("app", "db") in w.labels]
    for uid in admitted:
        workload, placement = held[uid]
        if workload.affinity.same:
            assert len({racks[assignment.node] for assignment in placement}) == 1
        if workload.affinity.apart:
            mine = {assignment.node for assignment in placement}
            others = {a.node for other in databases if other != uid for a in held[other][1]}
            assert not mine & others


def quotas_and_lending_limits_are_kept(snapshot: Snapshot, decisions: list[Decision]) -> None:
    """What was above a limit before may stay; nothing goes above it, and nothing above grows."""
    before = used_by_queue((r.workload, r.placement) for r in snapshot.running)
    after = used_by_queue(held_after(snapshot, decisions).values())
    assert after["limited"] <= max(3000, before["limited"])
    assert accelerators(after, "one") <= max(5000, accelerators(before, "one"))
    both = accelerators(after, "one") + accelerators(after, "two")
    assert both <= max(6000, accelerators(before, "one") + accelerators(before, "two"))
    lent_to_two = accelerators(after, "two") - 3000
    assert lent_to_two <= max(1000, accelerators(before, "two") - 3000)


def used_by_queue(held) -> Counter[str]:  # type: ignore[no-untyped-def]
    used: Counter[str] = Counter()
    for workload, placement in held:
        for (vendor, _), millis in millis_by_model(placement).items():
            used[workload.queue] += millis
            if vendor != "cpu":
                used[f"{workload.queue}*"] += millis
    return used


def accelerators(used: Counter[str], queue: str) -> int:
    return used[f"{queue}*"]


def everybody_who_waits_gets_one_answer_with_a_reason(snapshot: Snapshot, decisions: list[Decision]) -> None:
    answers = [d for d in decisions if isinstance(d, Admit | Defer)]
    assert sorted(d.uid for d in answers) == sorted(w.uid for w in snapshot.pending)
    waiting = [d for d in answers if isinstance(d, Defer)]
    assert all(d.reasons[0].message and d.remedy for d in waiting)
    assert [d.position for d in waiting] == list(range(1, len(waiting) + 1))


PROMISES = (
    no_device_is_given_twice,
    every_rank_gets_what_it_asked_for,
    gangs_are_whole,
    wishes_that_are_musts_are_kept,
    quotas_and_lending_limits_are_kept,
    everybody_who_waits_gets_one_answer_with_a_reason,
)


@settings(max_examples=120)
@given(snapshots())
def test_a_cycle_keeps_every_promise(snapshot: Snapshot) -> None:
    """All of one cycle: to draw and decide is what takes time."""
    decisions = decide(snapshot)
    for promise in PROMISES:
        promise(snapshot, decisions)


@pytest.mark.parametrize(
    ("broken", "given_"), [((), [0, 1]), ((0,), [2, 3]), ((0, 3), None), ((0, 2), None), ((2, 3), [0, 1])]
)
def test_a_ring_that_has_lost_devices_is_a_ring_all_the_same(
    broken: tuple[int, ...], given_: list[int] | None
) -> None:
    """Two devices of different rings have no link to each other, however few are left."""
    ring = [
        DeviceView(f"n-{i}", i, "ascend", "ascend-0", 1 << 34, healthy=i not in broken, island=i // 2)
        for i in range(4)
    ]
    wants = WorkloadView("w", "p", "w", "open", 0, 0, (RoleView("a", 1, Request(count=2)),))
    snapshot = take_snapshot(
        [NodeView("n", tuple(ring))], [QueueView("open")], [wants], [], catalogue=CATALOGUE
    )
    [decision] = decide(snapshot)
    placed = decision.placement[0].shares if isinstance(decision, Admit) else None
    assert (placed and [share.index for share in placed]) == given_


@settings(max_examples=80, deadline=None)
@given(snapshots(), st.randoms(use_true_random=False))
def test_the_same_input_gives_the_same_output_and_stays_as_it_was(
    snapshot: Snapshot, shuffler: random.Random
) -> None:
    before = [usage.saved() for usage in snapshot.pool.usage]
    first = decide(snapshot)
    assert [usage.saved() for usage in snapshot.pool.usage] == before
    assert decide(snapshot) == first
    pending, nodes, running = list(snapshot.pending), list(snapshot.pool.nodes), list(snapshot.running)
    for things in (pending, nodes, running):
        shuffler.shuffle(things)
    again = take_snapshot(nodes, snapshot.queues, pending, running, catalogue=CATALOGUE)
    assert decide(again) == first
    books = keep_books(snapshot.queues, again.pool, running)
    assert decide(replace(again, books=books)) == first


@settings(max_examples=80, deadline=None)
@given(worlds(), st.booleans())
def test_what_is_kept_of_a_cycle_is_what_was_admitted(world: World, preempt: bool) -> None:
    policy = replace(world.policy, preempt=preempt, min_run_seconds=0)
    bare = world.snapshot()
    snapshot = replace(bare, books=keep_books(world.queues, bare.pool, world.running))
    decisions = run_cycle(snapshot, policy, NOW_MS, keep=True)
    assert decisions == run_cycle(world.snapshot(), policy, NOW_MS)

    pending = {workload.uid: workload for workload in world.pending}
    admitted = [
        RunningView(pending[each.uid], each.placement, NOW_MS)
        for each in decisions
        if isinstance(each, Admit)
    ]
    after = replace(world, running=(*world.running, *admitted)).trial()
    kept = Trial(replace(snapshot, running=(*world.running, *admitted)), policy, NOW_MS)
    assert fingerprint(kept, world.queues) == fingerprint(after, world.queues)
    assert kept.pool.free_millis() == after.pool.free_millis()
    waiting = tuple(workload for uid, workload in pending.items() if uid not in kept.running)
    again = replace(snapshot, pending=waiting, running=(*world.running, *admitted))
    anew = replace(world, pending=waiting, running=again.running)
    assert run_cycle(again, policy, NOW_MS) == run_cycle(anew.snapshot(), policy, NOW_MS)
