"""What workloads hold while they move, and that the pool kept between passes says what a new one says."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from common.resources import Metadata, Node, Project, Workload
from common.resources.people import ProjectSpec
from common.resources.pool import NodeSpec, NodeStatus
from common.resources.workload import NextGang, WorkloadRole, WorkloadSpec, WorkloadStatus
from scheduler.core.model.catalogue import Catalogue
from scheduler.core.model.types import Assignment, Placement, Policy, Share
from scheduler.core.pool.pool import Pool
from scheduler.translate.placements import assignment_view, beyond, held_by, rank_placement
from scheduler.translate.room import Room
from scheduler.translate.snapshots import SnapshotKeeper
from scheduler.translate.views import World, node_view, running_views
from tests.fixtures.fabric import accelerator, cpu_device
from tests.unit.scheduler.build import role
from tests.unit.scheduler.build import workload as asks

NODES = ("a", "b", "c")
DEVICES = 2


def share(node: str, index: int, millis: int = 1000) -> Share:
    return Share(f"{node}-nvidia-{index}", index, "nvidia", "H100", 80 * millis, millis)


shares = st.builds(share, st.just("a"), st.integers(0, 1), st.sampled_from([250, 500, 1000]))
assignments = st.builds(
    Assignment,
    st.just("main"),
    st.just(0),
    st.integers(0, 3),
    st.sampled_from(NODES),
    st.lists(shares, min_size=1, max_size=2, unique_by=lambda one: one.index).map(tuple),
    st.integers(0, 4000),
    st.integers(0, 4000),
)
placements = st.lists(assignments, max_size=4).map(tuple)


def amounts(placement: Placement) -> dict[tuple[str, str], int]:
    """Millis and memory per node and device, CPU and memory per node."""
    total: dict[tuple[str, str], int] = {}
    for one in placement:
        for key, amount in (
            *(((one.node, held.device), held.millis) for held in one.shares),
            *(((one.node, f"memory of {held.device}"), held.memory_bytes) for held in one.shares),
            ((one.node, "cpu"), one.cpu_millis),
            ((one.node, "memory"), one.host_memory_bytes),
        ):
            total[key] = total.get(key, 0) + amount
    return total


@given(current=placements, planned=placements)
def test_what_is_held_meanwhile_covers_both_and_no_more(current: Placement, planned: Placement) -> None:
    more = beyond(planned, current)
    held, now, then = amounts(current + more), amounts(current), amounts(planned)
    for key in {*held, *now, *then}:
        assert held.get(key, 0) == max(now.get(key, 0), then.get(key, 0))
    assert beyond(current, current) == ()
    assert {key: amount for key, amount in amounts(beyond(planned, ())).items() if amount} == {
        key: amount for key, amount in then.items() if amount
    }


@given(placement=placements)
def test_a_placement_goes_to_the_store_and_back(placement: Placement) -> None:
    assert tuple(assignment_view(rank_placement(one)) for one in placement) == placement


def node(name: str, **spec: bool) -> Node:
    devices = [accelerator(name, index) for index in range(DEVICES)]
    status = NodeStatus(devices=devices, cpu_cores=8, memory_bytes=1 << 40)
    status.set_condition("Ready", True, "AgentAnswers", now_ms=1)
    return Node(metadata=Metadata(name=name), spec=NodeSpec(**spec), status=status)  # type: ignore[arg-type]


def workload(
    uid: str, phase: str, *where: tuple[str, int], planned: tuple[tuple[str, int], ...] = ()
) -> Workload:
    role = WorkloadRole(name="main", command=["true"])
    ranks = [_rank(number, place) for number, place in enumerate(where)]
    successor = [_rank(number, place) for number, place in enumerate(planned)]
    status = WorkloadStatus(phase=phase, attempt=1, ranks=ranks)  # type: ignore[arg-type]
    if successor:
        status.next = NextGang(cause="Migrate", attempt=2, digest="", ranks=successor)
    metadata = Metadata(name=uid, project="p", uid=uid)
    return Workload(metadata=metadata, spec=WorkloadSpec(roles=[role]), status=status)


def _rank(number: int, place: tuple[str, int]) -> Any:
    return rank_placement(Assignment("main", number, number, place[0], (share(*place),)))


def test_a_successor_counts_from_its_own_start_so_that_it_gives_way_before_what_serves() -> None:
    served = workload("u1", "Ready", (NODES[0], 0), planned=((NODES[0], 1),))
    served.status.admitted_ms = 1000
    assert served.status.next is not None
    served.status.next.beside = True
    served.status.next.ranks[0].started_ms = 70_000
    gang, successor = running_views(served, World(), 10.0)
    assert (gang.started_ms, successor.started_ms) == (1000, 70_000)


places = st.lists(
    st.tuples(st.sampled_from(NODES), st.integers(0, DEVICES - 1)), unique=True, max_size=6
).map(tuple)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Some of the nodes, and two workloads that share out the devices; one may be moving."""
    names = draw(st.lists(st.sampled_from(NODES), unique=True, min_size=1))
    taken = draw(places)
    cut, end = sorted((draw(st.integers(0, len(taken))), draw(st.integers(0, len(taken)))))
    phase = draw(st.sampled_from(["Running", "Migrating", "Pending", "Restarting"]))
    moving = taken[cut:end] if phase == "Migrating" else ()
    workloads = [workload("u1", phase, *taken[:cut], planned=moving), workload("u2", "Ready", *taken[end:])]
    return World(
        nodes={name: node(name, cordoned=draw(st.booleans())) for name in names},
        projects={"p": Project(metadata=Metadata(name="p"), spec=ProjectSpec(tenant="t"))},
        workloads={one.metadata.uid: one for one in workloads},
    )


@given(passes=st.lists(st.tuples(worlds(), placements), min_size=1, max_size=5))
def test_a_pool_that_is_kept_says_what_a_new_one_says(passes: list[tuple[World, Placement]]) -> None:
    catalogue = Catalogue(())
    keeper = SnapshotKeeper(catalogue, 10.0)
    waiting = [asks("w0", role(count=2)), asks("w1", role(share_millis=500)), asks("w2", role())]
    before = World()
    for world, lingering in passes:
        uids, names = {*before.workloads, *world.workloads}, {*before.nodes, *world.nodes}
        keeper.follow(world, uids, names, 0)
        before = world
        snapshot = keeper.take(world, waiting, lingering, {}, 0)
        kept = snapshot.pool
        fresh = Pool([node_view(one, catalogue) for one in world.nodes.values()], catalogue)
        for held in (*map(held_by, filter(_holds, world.workloads.values())), lingering):
            fresh.occupy(held)
        assert kept.free_millis() == fresh.free_millis()
        assert kept.capacity_millis() == fresh.capacity_millis()
        assert {view.name: view for view in kept.nodes} == {view.name: view for view in fresh.nodes}
        keeper.decide(snapshot, Policy(), 0)  # nothing of it is carried out


def _holds(one: Workload) -> bool:
    return one.status.phase != "Pending"


def test_room_is_given_once() -> None:
    place = (Assignment("main", 0, 0, "a", (share("a", 0, 500),)),)
    room = Room([node("a"), node("b", cordoned=True)], [place])
    assert room.take(place)
    assert not room.take(place)
    assert room.take(place, instead_of=place), "its own place is no other's"
    assert not room.take((place[0]._replace(node="b", shares=(share("b", 0),)),)), "cordoned"
    assert not room.take((place[0]._replace(node="z", shares=(share("z", 0),)),)), "not there"


def test_a_cpu_has_room_for_as_many_as_it_has_slots() -> None:
    host = node("a")
    host.status.devices = [cpu_device("a", slots=2)]
    one = Share("cpu-a", 0, "cpu", "cpu", 0, 1000)
    room = Room([host], [])
    assert room.take((Assignment("main", 0, 0, "a", (one, one)),))
    assert not room.take((Assignment("main", 0, 0, "a", (one,)),))
