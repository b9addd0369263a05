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


# Strategies are made once: to make one takes longer than to draw from it.
_MODEL = st.integers(0, 1)
_ONE_IN_TEN = st.integers(0, 9)
_VENDOR = st.sampled_from(VENDORS)
_CPU_SLOTS = st.integers(2, 6)
_DEVICE_BYTES = st.sampled_from((16 * GIB, 64 * GIB))
_CPUS, _DEVICES = st.integers(0, 1), st.integers(0, 4)
_RACK = st.sampled_from("xy")
_CACHED = st.frozensets(st.sampled_from(("llama", "qwen")), max_size=1)
_HOST_CPU_MILLIS = st.sampled_from((0, 16_000))

_SHARE_MILLIS = st.sampled_from((1000, 1000, 1000, 250, 500, 700))
_COUNT = st.integers(0, 4)
_VENDORS = st.lists(_VENDOR, max_size=2, unique=True)
_NOT_VENDORS = st.lists(_VENDOR, max_size=1)
_ASKED_BYTES = st.sampled_from((0, 0, 8 * GIB, 48 * GIB))
_ASKED_CPU_MILLIS = st.sampled_from((0, 0, 3000))

_ROLES = st.sampled_from((("a",), ("a",), ("a", "b")))
_REPLICAS = st.integers(1, 3)
_LEAST = st.sampled_from((None, None, 1))
_LABELS = st.sampled_from(((), (), (("app", "db"),), (("app", "web"),)))
_DATA = st.sampled_from(((), ("llama",)))
_APART = st.sampled_from(((), (), (("app", "db"),)))
_SAME = st.sampled_from(("", "", "rack"))
_NAME = st.sampled_from("xyz")
_QUEUE = st.sampled_from(("limited", "one", "two", "open"))
_PRIORITY = st.integers(0, 2)
_CREATED_MS = st.integers(0, 3)
_BOOL = st.booleans()
_EXPECTED_SECONDS = st.sampled_from((None, 60, 600, 6000))


@st.composite
def node_lists(draw: st.DrawFn, most: int = 4) -> list[NodeView]:
    return [_node(draw, f"n{number}") for number in range(draw(st.integers(0, most)))]


def _node(draw: st.DrawFn, name: str) -> NodeView:
    vendor = draw(_VENDOR)
    model = f"{vendor}-{draw(_MODEL)}"
    slots = draw(_CPU_SLOTS) if vendor == "cpu" else 1
    memory = draw(_DEVICE_BYTES)
    devices = tuple(
        DeviceView(f"{name}-{i}", i, vendor, model, memory, slots, draw(_ONE_IN_TEN) > 0, island=i // 2)
        for i in range(draw(_CPUS if vendor == "cpu" else _DEVICES))
    )
    return NodeView(
        name,
        devices,
        cordoned=draw(_ONE_IN_TEN) == 0,
        labels=(("rack", draw(_RACK)),),
        cached=draw(_CACHED),
        cpu_millis=draw(_HOST_CPU_MILLIS),
    )


def _request(draw: st.DrawFn) -> Request:
    share = draw(_SHARE_MILLIS)
    return Request(
        count=draw(_COUNT) if share == 1000 else 1,
        vendors=tuple(draw(_VENDORS)),
        not_vendors=tuple(draw(_NOT_VENDORS)),
        memory_bytes=draw(_ASKED_BYTES),
        share_millis=share,
        cpu_millis=draw(_ASKED_CPU_MILLIS),
    )


@st.composite
def requests(draw: st.DrawFn) -> Request:
    return _request(draw)


@st.composite
def workloads(draw: st.DrawFn, uid: str) -> WorkloadView:
    return _workload(draw, uid)


def _workload(draw: st.DrawFn, uid: str) -> WorkloadView:
    roles = [RoleView(name, draw(_REPLICAS), _request(draw), draw(_LEAST)) for name in draw(_ROLES)]
    labels = draw(_LABELS)
    affinity = Affinity(data=draw(_DATA), apart=draw(_APART), same=draw(_SAME), spread=draw(_SAME))
    return WorkloadView(
        uid=uid,
        project="p",
        name=draw(_NAME),
        queue=draw(_QUEUE),
        priority=draw(_PRIORITY),
        created_ms=draw(_CREATED_MS),
        roles=tuple(roles),
        labels=labels,
        affinity=affinity,
        preemptible=draw(_BOOL) or draw(_BOOL),
        movable=draw(_BOOL),
        expected_seconds=draw(_EXPECTED_SECONDS),
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


_RUNNING = st.integers(0, 5)
_STARTED_MS = st.integers(0, NOW_MS)


@st.composite
def snapshots(draw: st.DrawFn, most_nodes: int = 4, most_pending: int = 6) -> Snapshot:
    """Things run where the scheduler itself put them, some time ago."""
    nodes = draw(node_lists(most_nodes))
    pool, running = Pool(nodes, CATALOGUE), []
    for number in range(draw(_RUNNING)):
        workload = _workload(draw, f"r{number}")
        placed = place_gang(workload, pool, Policy())
        if isinstance(placed, tuple):
            running.append(RunningView(workload, placed, draw(_STARTED_MS)))
    pending = [_workload(draw, f"p{number}") for number in range(draw(st.integers(0, most_pending)))]
    return take_snapshot(nodes, queues(), pending, running, catalogue=CATALOGUE)
