"""What a workload's status says of its engine, how engines are replaced, and how busy they are."""

from itertools import pairwise
from pathlib import Path

import pytest

from common.clock import VirtualClock
from common.load import EngineLoad
from common.resources import Metadata, Workload
from common.resources.meta import Owner
from common.resources.workload import Grant, RankPlacement, WorkloadRole, WorkloadSpec, WorkloadStatus
from common.store.memory import MemoryStore
from inference.core.rollout import ReplicaState, Rollout, plan_rollout
from inference.core.routing.breaker import LONGEST_PAUSE_SECONDS, Breaker
from inference.engine_workload import replica_of
from inference.replica_loads import ReplicaLoads
from tests.fixtures.engines import FakeEngines
from tests.unit.inference.endpoint_world import FT, World


def engine(name: str = "chat-0", kind: str = "Endpoint", phase: str = "Ready", **rank: object) -> Workload:
    values = {
        "role": "engine",
        "replica": 0,
        "rank": 0,
        "node": "n",
        "state": "Ready",
        "address": "10.0.0.1",
        "ports": {"http": 9000},
        "grants": [Grant(device=f"d{i}", index=i, vendor="nvidia", model="L20", millis=500) for i in (0, 1)],
    }
    made = Workload(
        metadata=Metadata(name=name, project="lab", owner=Owner(kind=kind, name="chat", uid="u")),
        spec=WorkloadSpec(roles=[WorkloadRole(name="engine", command=["x"])]),
    )
    made.status = WorkloadStatus(
        phase=phase,  # type: ignore[arg-type]
        attempt=3,
        ranks=[RankPlacement.model_validate({**values, **rank})],
    )
    return made


def test_a_replica_tells_where_it_answers_and_on_what() -> None:
    replica = replica_of(engine())
    assert (replica.workload, replica.ready, replica.url) == ("chat-0", True, "http://10.0.0.1:9000")
    assert (replica.attempt, replica.device_class, replica.phase) == (3, "nvidia/L20", "Ready")
    assert replica_of(engine(address="fd00::1")).url == "http://[fd00::1]:9000"
    assert replica_of(engine(grants=[])).device_class == ""


@pytest.mark.parametrize(
    "workload",
    [
        engine(phase="Running"),
        engine(state="Running"),
        engine(address=""),
        engine(ports={"other": 1}),
        engine(role="another"),
    ],
)
def test_a_replica_that_cannot_be_asked_is_not_ready(workload: Workload) -> None:
    replica = replica_of(workload)
    assert (replica.ready, replica.url) == (False, "")


@pytest.mark.parametrize(
    ("wanted", "existing", "plan"),
    [
        ("ab", {}, Rollout(create=("a", "b"))),
        ("a", {"a": (False, True), "c": (True, True), "b": (False, False)}, Rollout(remove=("b", "c"))),
        ("ab", {"a": (True, True), "b": (True, True)}, Rollout()),
        ("ab", {"a": (True, True), "b": (True, False)}, Rollout(replace=("b",))),
        ("ab", {"a": (True, True), "b": (False, False)}, Rollout()),
        ("abc", {"a": (True, True), "b": (True, False)}, Rollout(create=("c",), replace=("b",))),
        ("ab", {"a": (True, True)}, Rollout(create=("b",))),
        ("a", {"a": (True, False), "b": (True, True)}, Rollout(replace=("a",), remove=("b",))),
    ],
)
def test_what_is_not_wanted_goes_and_what_is_old_and_serves_nobody_is_made_anew(
    wanted: str, existing: dict[str, tuple[bool, bool]], plan: Rollout
) -> None:
    states = {name: ReplicaState(outdated, ready) for name, (outdated, ready) in existing.items()}
    assert plan_rollout(dict.fromkeys(wanted, ""), states) == plan


async def test_every_ready_engine_tells_its_load_and_one_that_does_not_is_known_all_the_same() -> None:
    store, engines = MemoryStore(VirtualClock()), FakeEngines()
    load = EngineLoad(3, 1, 0.5, ())
    engines.start("http://10.0.0.1:9000").load = load
    for workload in (
        engine(),
        engine("chat-1", address="10.0.0.2"),
        engine("chat-2", phase="Starting"),
        engine("job", kind="FineTune"),
    ):
        status = workload.status
        stored = (await store.apply(workload)).resource
        stored.status = status
        await store.set_status(stored)
    loads = ReplicaLoads(store, engines)
    told = {one.id: one for one in await loads.replicas()}
    uids = {w.name: w.metadata.uid for w in await store.list(Workload)}
    assert {id_: one.load for id_, one in told.items()} == {
        f"{uids['chat-0']}/3": load,
        f"{uids['chat-1']}/3": None,
    }
    assert {(one.device_class, one.millis) for one in told.values()} == {("nvidia/L20", 1000)}


async def test_an_engine_on_several_nodes_holds_the_devices_of_all_ranks() -> None:
    store, workload = MemoryStore(), engine()
    status = workload.status
    for rank in (1, 2):
        worker = status.ranks[0].model_copy(deep=True, update={"rank": rank, "role": "worker"})
        status.ranks.append(worker)
    stored = (await store.apply(workload)).resource
    stored.status = status
    await store.set_status(stored)
    [told] = await ReplicaLoads(store, FakeEngines()).replicas()
    assert (told.device_class, told.millis) == ("nvidia/L20", 3000)


def test_a_breaker_opens_after_three_failures_and_each_further_one_doubles_its_pause() -> None:
    breaker, pauses = Breaker(), []
    for _ in range(8):
        breaker.failed(100.0)
        pauses.append(breaker.open_until_seconds - 100.0 if breaker.open_until_seconds else 0.0)
    assert pauses == [0.0, 0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    assert not breaker.allows(114.9)
    assert breaker.allows(115.0)
    breaker.succeeded()
    assert breaker.allows(0.0)
    breaker.rest(100.0)
    assert not breaker.allows(100.0 + LONGEST_PAUSE_SECONDS - 0.1)
    breaker.failed(200.0)
    assert not breaker.allows(201.9), "one that was rested opens at its next failure"
    assert breaker.allows(202.0)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.make_model()
    await made.apply_model()
    await made.apply_endpoint()
    await made.apply_adapter()
    await made.step()
    return made


async def test_pauses_between_tries_to_load_an_adapter_have_an_end(world: World) -> None:
    world.engines.refused.add("/adapters/1")
    await world.start("chat-0")
    await world.step()
    tries = []
    for _ in range(200):
        before = world.engines.calls.count(f"load {FT}")
        world.clock.advance(5)
        await world.step(1)
        tries.append(world.engines.calls.count(f"load {FT}") > before)
    at = [number for number, tried in enumerate(tries) if tried]
    gaps = [later - earlier for earlier, later in pairwise(at)]
    assert gaps[:3] == sorted(gaps[:3])
    assert len(set(gaps[-2:])) == 1, "the longest pause is kept"
    await world.apply_adapter("/adapters/2")
    await world.step()
    assert world.engines.running["http://10.0.0.1:9000"].adapters == {FT: "/adapters/2"}, (
        "another path may work"
    )


async def test_an_engine_that_takes_an_adapter_and_does_not_list_it_is_told(world: World) -> None:
    url = await world.start("chat-0")

    async def forgets(url: str, name: str, path: str) -> None:
        world.engines.calls.append(f"load {name}")

    world.engines.load_adapter = forgets  # type: ignore[method-assign]
    await world.step()
    served = (await world.adapter()).status.condition("Served")
    assert served is not None
    assert (served.status, served.reason) == ("False", "NotListed")
    assert f"{url} does not list {FT} after loading it" in served.message


async def test_engines_that_take_no_adapters_say_so(world: World) -> None:
    endpoint = await world.endpoint()
    endpoint.spec.engine.max_adapters = 0
    await world.store.apply(endpoint)
    await world.step()
    await world.start("chat-0")
    await world.step()
    served = (await world.adapter()).status.condition("Served")
    assert served is not None
    assert served.reason == "AdaptersDisabled"
    assert f"load {FT}" not in world.engines.calls


async def test_adapters_that_were_there_from_the_start_stay(world: World) -> None:
    endpoint = await world.endpoint()
    endpoint.spec.engine.args = ["--lora-modules", "own=/own"]
    await world.store.apply(endpoint)
    await world.step(4)
    url = await world.start("chat-0")
    world.engines.running[url].adapters["own"] = "/own"
    await world.step()
    assert world.engines.running[url].adapters == {"own": "/own", FT: "/adapters/1"}


async def test_what_an_engine_holds_is_looked_at_again_after_a_while(world: World) -> None:
    url = await world.start("chat-0")
    await world.step()
    looks = world.engines.calls.count(f"list {url}")
    await world.step(3)
    assert world.engines.calls.count(f"list {url}") == looks
    world.engines.running[url].adapters.clear()
    world.clock.advance(60)
    await world.step()
    assert world.engines.running[url].adapters == {FT: "/adapters/1"}
    assert world.engines.calls.count(f"list {url}") > looks


async def test_engines_that_are_all_well_are_looked_at_less_often(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.make_model()
    await world.apply_model()
    await world.apply_endpoint()
    await world.step()
    often = world.controller.tick_seconds()
    await world.start("chat-0")
    await world.step()
    seldom = world.controller.tick_seconds()
    await world.lose("chat-0")
    await world.step()
    assert (often, seldom, world.controller.tick_seconds()) == (2.0, 10.0, 2.0)
