"""Random snapshots of three vendors, with fractions, gangs, quotas and things that run, for property
tests."""

from hypothesis import strategies as st

from scheduler.core.model.catalogue import Catalogue, DeviceSpec, PlacementRule
from scheduler.core.model.types import (
    Affinity,
    DeviceView,
    NodeView,
    Policy,
    QueueView,
    Quota,
    Request,
    RoleView,
    RunningView,
    WorkloadView,
)
from scheduler.core.placement.placing import place_gang
from scheduler.core.placement.snapshot import Snapshot, take_snapshot
from scheduler.core.pool.pool import Pool

MIB = 1 << 20
GIB = 1 << 30
NOW_MS = 1_000_000
VENDORS = ("nvidia", "ascend", "amd", "cpu")
CATALOGUE = Catalogue(
    (
        DeviceSpec("H100", "nvidia", ("nvidia-1",), tflops=(("bf16", 989.0),), watts=700),
        DeviceSpec("A100", "nvidia", ("nvidia-0",), tflops=(("bf16", 312.0),), watts=400),
        DeviceSpec("910A", "ascend", ("ascend-0",), rule=PlacementRule((1, 2, 4), 2, "inside")),
        DeviceSpec("910C", "ascend", ("ascend-1",), rule=PlacementRule((1, 2, 4), 2, pair_size=2)),
    )
)


@st.composite
def node_lists(draw: st.DrawFn, most: int = 4) -> list[NodeView]:
    return [draw(_nodes(f"n{number}")) for number in range(draw(st.integers(0, most)))]


@st.composite
def _nodes(draw: st.DrawFn, name: str) -> NodeView:
    vendor = draw(st.sampled_from(VENDORS))
    model = f"{vendor}-{draw(st.integers(0, 1))}"
    slots = draw(st.integers(2, 6)) if vendor == "cpu" else 1
    memory = draw(st.sampled_from((16, 64))) * GIB
    devices = tuple(
        DeviceView(f"{name}-{i}", i, vendor, model, memory, slots, draw(st.integers(0, 9)) > 0, island=i // 2)
        for i in range(draw(st.integers(0, 1 if vendor == "cpu" else 4)))
    )
    return NodeView(
        name,
        devices,
        cordoned=draw(st.integers(0, 9)) == 0,
        labels=(("rack", draw(st.sampled_from("xy"))),),
        cached=frozenset(draw(st.sets(st.sampled_from(("llama", "qwen")), max_size=1))),
        cpu_millis=draw(st.sampled_from((0, 16_000))),
    )


@st.composite
def requests(draw: st.DrawFn) -> Request:
    share = draw(st.sampled_from((1000, 1000, 1000, 250, 500, 700)))
    return Request(
        count=draw(st.integers(0, 4)) if share == 1000 else 1,
        vendors=tuple(draw(st.lists(st.sampled_from(VENDORS), max_size=2, unique=True))),
        not_vendors=tuple(draw(st.lists(st.sampled_from(VENDORS), max_size=1))),
        memory_bytes=draw(st.sampled_from((0, 0, 8 * GIB, 48 * GIB))),
        share_millis=share,
        cpu_millis=draw(st.sampled_from((0, 0, 3000))),
    )


@st.composite
def workloads(draw: st.DrawFn, uid: str) -> WorkloadView:
    roles = []
    for name in draw(st.sampled_from((("a",), ("a",), ("a", "b")))):
        replicas = draw(st.integers(1, 3))
        least = draw(st.sampled_from((None, None, 1)))
        roles.append(RoleView(name, replicas, draw(requests()), least))
    labels = draw(st.sampled_from(((), (), (("app", "db"),), (("app", "web"),))))
    affinity = Affinity(
        data=draw(st.sampled_from(((), ("llama",)))),
        apart=draw(st.sampled_from(((), (), (("app", "db"),)))),
        same=draw(st.sampled_from(("", "", "rack"))),
        spread=draw(st.sampled_from(("", "", "rack"))),
    )
    return WorkloadView(
        uid=uid,
        project="p",
        name=draw(st.sampled_from("xyz")),
        queue=draw(st.sampled_from(("limited", "one", "two", "open"))),
        priority=draw(st.integers(0, 2)),
        created_ms=draw(st.integers(0, 3)),
        roles=tuple(roles),
        labels=labels,
        affinity=affinity,
        preemptible=draw(st.booleans()) or draw(st.booleans()),
        movable=draw(st.booleans()),
        expected_seconds=draw(st.sampled_from((None, 60, 600, 6000))),
    )


def queues() -> tuple[QueueView, ...]:
    """One with a hard limit, two that borrow from each other, one without limits."""
    return (
        QueueView("limited", max_devices=3),
        QueueView("team", is_cohort=True),
        QueueView("one", parent="team", quotas=(Quota("*", 3000, 2000, 1000),)),
        QueueView("two", parent="team", weight=2, quotas=(Quota("*", 3000),)),
        QueueView("open"),
    )


@st.composite
def snapshots(draw: st.DrawFn, most_nodes: int = 4, most_pending: int = 6) -> Snapshot:
    """Things run where the scheduler itself put them, some time ago."""
    nodes = draw(node_lists(most_nodes))
    pool, running = Pool(nodes, CATALOGUE), []
    for number in range(draw(st.integers(0, 5))):
        workload = draw(workloads(f"r{number}"))
        placed = place_gang(workload, pool, Policy())
        if isinstance(placed, tuple):
            running.append(RunningView(workload, placed, draw(st.integers(0, NOW_MS))))
    pending = [draw(workloads(f"p{number}")) for number in range(draw(st.integers(0, most_pending)))]
    return take_snapshot(nodes, queues(), pending, running, catalogue=CATALOGUE)
