"""What holds for every pool and every set of workloads."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.cycle import order, run_cycle
from scheduler.core.types import (
    Admit,
    DeviceView,
    NodeView,
    Policy,
    QueueView,
    Request,
    RoleView,
    Snapshot,
    WorkloadView,
)

VENDORS = ("nvidia", "ascend", "cpu")


@st.composite
def nodes(draw: st.DrawFn) -> tuple[NodeView, ...]:
    found = []
    for n in range(draw(st.integers(0, 4))):
        devices = []
        for i in range(draw(st.integers(0, 4))):
            vendor = draw(st.sampled_from(VENDORS))
            slots = draw(st.integers(1, 6)) if vendor == "cpu" else 1
            memory = draw(st.integers(0, 64))
            devices.append(
                DeviceView(
                    id=f"{n}-{i}",
                    index=i,
                    vendor=vendor,
                    model=f"{vendor}-{draw(st.integers(0, 1))}",
                    memory_bytes=memory,
                    slots=slots,
                    healthy=draw(st.booleans()) or draw(st.booleans()),
                    used_slots=draw(st.integers(0, slots)),
                    used_memory_bytes=draw(st.integers(0, memory)),
                )
            )
        found.append(NodeView(f"n{n}", tuple(devices), cordoned=draw(st.integers(0, 5)) == 0))
    return tuple(found)


requests = st.builds(
    Request,
    count=st.integers(0, 4),
    vendors=st.lists(st.sampled_from(VENDORS), max_size=2).map(tuple),
    not_vendors=st.lists(st.sampled_from(VENDORS), max_size=1).map(tuple),
    memory_bytes=st.integers(0, 48),
)
roles = st.lists(
    st.builds(RoleView, name=st.sampled_from("abc"), replicas=st.integers(1, 4), request=requests),
    min_size=1,
    max_size=2,
    unique_by=lambda role: role.name,
).map(tuple)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    pending = [
        WorkloadView(
            uid=f"u{i}",
            project="p",
            name=draw(st.sampled_from("xyz")),
            queue=draw(st.sampled_from(("q", "open"))),
            priority=draw(st.integers(-1, 1)),
            created_ms=draw(st.integers(0, 3)),
            roles=draw(roles),
        )
        for i in range(draw(st.integers(0, 6)))
    ]
    queues = (QueueView("q", draw(st.integers(0, 8)), draw(st.integers(0, 4))), QueueView("open"))
    return Snapshot(draw(nodes()), queues, tuple(pending))


def decide(snapshot: Snapshot) -> list[Admit]:
    return [d for d in run_cycle(snapshot, Policy(), 10) if isinstance(d, Admit)]


@settings(max_examples=200, deadline=None)
@given(snapshots())
def test_nothing_is_given_twice_or_against_a_request(snapshot: Snapshot) -> None:
    devices = {device.id: (device, node) for node in snapshot.nodes for device in node.devices}
    wanted = {(w.uid, r.name): r.request for w in snapshot.pending for r in w.roles}
    slots: Counter[str] = Counter()
    memory: Counter[str] = Counter()
    for admit in decide(snapshot):
        for assignment in admit.placement:
            request = wanted[(admit.uid, assignment.role)]
            assert len(assignment.shares) == request.count
            assert len({(s.vendor, s.model) for s in assignment.shares}) <= 1
            for share in assignment.shares:
                device, node = devices[share.device]
                assert node.name == assignment.node
                assert device.healthy
                assert not node.cordoned
                assert not request.vendors or device.vendor in request.vendors
                assert device.vendor not in request.not_vendors
                assert device.memory_bytes >= request.memory_bytes
                slots[device.id] += 1
                memory[device.id] += share.memory_bytes
    for id_, (device, _) in devices.items():
        assert slots[id_] == 0 or device.used_slots + slots[id_] <= device.slots
        shared_use = device.used_memory_bytes + memory[id_]
        assert not device.shared or memory[id_] == 0 or shared_use <= device.memory_bytes


@settings(max_examples=150, deadline=None)
@given(snapshots())
def test_gangs_are_whole_and_queues_keep_their_limits(snapshot: Snapshot) -> None:
    workloads = {w.uid: w for w in snapshot.pending}
    held = {queue.name: queue.devices_in_use for queue in snapshot.queues}
    for admit in decide(snapshot):
        workload = workloads[admit.uid]
        expected = [(r.name, i) for r in workload.roles for i in range(r.replicas)]
        assert [(a.role, a.replica) for a in admit.placement] == expected
        assert [a.rank for a in admit.placement] == list(range(len(expected)))
        held[workload.queue] += workload.device_count
        limit = next(q.max_devices for q in snapshot.queues if q.name == workload.queue)
        assert limit is None or held[workload.queue] <= limit


@settings(max_examples=100, deadline=None)
@given(snapshots(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_changes_nothing(snapshot: Snapshot, shuffler: random.Random) -> None:
    pending, pool = list(snapshot.pending), list(snapshot.nodes)
    shuffler.shuffle(pending)
    shuffler.shuffle(pool)
    again = Snapshot(tuple(pool), snapshot.queues, tuple(pending))
    assert run_cycle(snapshot, Policy(), 10) == run_cycle(again, Policy(), 10)


@settings(max_examples=100, deadline=None)
@given(snapshots())
def test_everybody_gets_an_answer_in_order_and_one_with_a_reason(snapshot: Snapshot) -> None:
    decisions = run_cycle(snapshot, Policy(), 10)
    assert [d.uid for d in decisions] == [w.uid for w in order(snapshot.pending, 10)]
    for decision in decisions:
        assert isinstance(decision, Admit) or (decision.reasons[0].message and decision.remedy)
