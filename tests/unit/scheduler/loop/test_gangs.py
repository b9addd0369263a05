"""Gangs are started whole, on nodes that answer, with all that their processes need, and are ended once."""

from dataclasses import replace

import pytest

from common.auth import engine_key
from common.resources import Metadata, Workload
from common.resources.meta import Owner
from common.resources.pool import DeviceRequest
from common.resources.workload import NextGang, WorkloadRole, WorkloadSpec
from common.settings import SchedulerSettings, Settings
from scheduler.gangs import gangs_of, grace_seconds, is_wanted
from scheduler.translate.views import read_world
from tests.unit.scheduler.loop_scene import Scene


@pytest.fixture
async def scene() -> Scene:
    return await Scene().set_up()


async def test_a_gang_with_a_part_on_a_silent_node_has_not_started(scene: Scene) -> None:
    uid = await scene.submit(replicas=2, count=2)
    scene.fabric.refuse_start = {"b"}
    await scene.steps()
    assert [node for node, _, _ in scene.fabric.alive()] == ["a"]
    scene.fabric.refuse_start.clear()
    scene.fabric.hosts["b"].state = "Silent"
    await scene.steps(3, seconds=3)
    assert "Started" not in await scene.events()
    assert (await scene.get()).status.phase == "Starting"
    scene.fabric.hosts["b"].state = "Alive"
    await scene.steps(2, seconds=3)
    assert (await scene.events()).count("Started") == 1
    assert (await scene.get()).status.phase == "Running"
    assert scene.gangs(uid) == {1: {"a", "b"}}


async def test_all_ranks_meet_where_rank_0_is_and_each_node_gets_its_own(scene: Scene) -> None:
    await scene.submit(replicas=4, count=1)
    await scene.steps(2)
    (first, order), (second, later) = scene.fabric.started
    ranks = {rank.rank: rank.node for rank in (await scene.get()).status.ranks}
    assert first == ranks[0] != second
    assert order.master is None, "the node of rank 0 says where all meet"
    assert later.master == scene.fabric.hosts[first].gangs[order.uid, 1].master is not None
    for node, told in ((first, order), (second, later)):
        assert [rank.rank for rank in told.ranks] == sorted(n for n, at in ranks.items() if at == node)
        assert (told.world_size, told.attempt) == (4, 1)


async def test_a_process_is_started_with_what_its_role_says_and_who_pays(scene: Scene) -> None:
    uid = await scene.submit(readiness=True)
    workload = await scene.get()
    workload.spec.roles[0].env = {"A": "1"}
    await scene.store.apply(workload)
    await scene.steps()
    [(node, order)] = scene.fabric.started
    status, role = (await scene.get()).status, workload.spec.roles[0]
    assert (order.uid, order.beside, order.engine_key) == (uid, None, "")
    assert order.digest == status.placed_digest
    [rank] = order.ranks
    assert (rank.rank, rank.role, rank.replica, rank.command) == (0, "main", 0, ("sleep", "600"))
    assert (rank.env, rank.ports, rank.readiness) == ({"A": "1"}, ("http",), role.readiness)
    assert (list(rank.grants), rank.sandbox) == (status.ranks[0].grants, role.sandbox)
    assert node == status.ranks[0].node
    billing = order.billing
    assert (billing.tenant, billing.project, billing.workload) == ("acme", "p", "w")
    assert (billing.model, billing.key, billing.interval_seconds) == ("m", "key-1", 60)


async def test_only_the_engine_of_an_endpoint_is_given_the_key_of_engines(scene: Scene) -> None:
    role = WorkloadRole(name="main", command=["sleep", "600"], devices=DeviceRequest(vendors=["nvidia"]))
    for name, owner in (
        ("engine", Owner(kind="Endpoint", name="e", uid="u")),
        ("trainer", Owner(kind="FineTune", name="f", uid="u")),
        ("own", None),
    ):
        metadata = Metadata(name=name, project="p", owner=owner)
        await scene.store.apply(Workload(metadata=metadata, spec=WorkloadSpec(roles=[role])))
    await scene.steps()
    keys = {order.billing.workload: order.engine_key for _, order in scene.fabric.started}
    assert keys == {"engine": engine_key(Settings().internal_token), "trainer": "", "own": ""}


async def test_a_gang_that_nobody_wants_is_told_once_and_forgotten_when_it_is_paid(scene: Scene) -> None:
    uid = await scene.submit(grace_seconds=7)
    await scene.steps(2)
    scene.fabric.deaf.add(uid)
    await scene.store.delete(Workload, "w", "p")
    await scene.steps(4, seconds=1)
    assert len(scene.fabric.stopped) == 1, "it was told and is about to end"
    scene.fabric.exit(uid, 0, 143)
    scene.usage.fail = True
    await scene.steps(3, seconds=60)
    assert any(gang.uid == uid for host in scene.fabric.hosts.values() for gang in host.gangs.values())
    scene.usage.fail = False
    await scene.steps(3, seconds=60)
    assert all(not host.gangs for host in scene.fabric.hosts.values())
    assert scene.usage.device_seconds() > 0


@pytest.mark.parametrize(("own", "grace"), [(7.0, 7.0), (None, 30.0), (0.0, 0.0)])
async def test_a_workload_ends_within_its_own_grace_or_the_usual_one(
    scene: Scene, own: float | None, grace: float
) -> None:
    await scene.submit(grace_seconds=own)
    settings = Settings(scheduler=SchedulerSettings(stop_grace_seconds=30.0))
    assert grace_seconds(await scene.get(), settings) == grace
    assert grace_seconds(None, settings) == 30.0, "of one that is deleted nothing is known"


async def test_what_runs_is_what_the_workload_wants_by_attempt_and_node(scene: Scene) -> None:
    uid = await scene.submit()
    await scene.steps(2)
    world = await read_world(scene.store)
    [(node, gang)] = [(name, g) for name, h in scene.fabric.hosts.items() for g in h.gangs.values()]
    assert is_wanted(gang, node, world)
    assert not is_wanted(gang, "elsewhere", world)
    assert not is_wanted(replace(gang, attempt=2), node, world)
    assert not is_wanted(replace(gang, uid="other"), node, world)
    workload = world.workloads[uid]
    [first] = gangs_of(workload)
    assert (first.attempt, first.beside) == (1, None)
    successor = NextGang(attempt=2, digest="d", ranks=workload.status.ranks, beside=True, cause="Update")
    workload.status.next = successor
    assert [(g.attempt, g.digest, g.beside) for g in gangs_of(workload)][1:] == [(2, "d", 1)]
    workload.status.next = successor.model_copy(update={"beside": False})
    assert gangs_of(workload) == [first]
    workload.spec.suspend = True
    assert gangs_of(workload) == []


async def test_a_workload_that_is_suspended_or_not_placed_should_have_no_gang(scene: Scene) -> None:
    await scene.submit()
    await scene.steps(2)
    workload = await scene.get()
    assert [gang.attempt for gang in gangs_of(workload)] == [1]
    workload.spec.suspend = True
    assert gangs_of(workload) == []
    workload.spec.suspend, workload.status.phase = False, "Pending"
    assert gangs_of(workload) == []
