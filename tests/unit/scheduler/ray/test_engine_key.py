"""The key of the engines reaches the engines of Endpoints and nothing else."""

from dataclasses import asdict

import pytest

from common.auth import engine_headers, engine_key
from common.clock import VirtualClock
from common.errors import InvalidInput
from common.resources import Metadata, Owner, Project, Workload
from common.resources.people import ProjectSpec
from common.resources.workload import WorkloadRole, WorkloadSpec
from common.settings import Settings
from common.store.memory import MemoryStore
from scheduler.adapters.ray.environment import Surroundings, build_environment, expand
from scheduler.loop import SchedulerLoop
from scheduler.ports import RankOrder
from tests.fixtures.fabric import FakeFabric, UsageLog, cpu_device

TOKEN = "token of the instance"
KEY = engine_key(TOKEN)
ENV = {"VLLM_API_KEY": "$(ENGINE_KEY)"}


def around(key: str) -> Surroundings:
    return Surroundings("/py", "/home", "i1", "127.0.0.1", 1, 0, {}, None, {}, key)


def order(**env: str) -> RankOrder:
    return RankOrder(0, "engine", 0, ("x",), env, (), ())


def test_the_key_is_derived_from_the_token_and_does_not_tell_it() -> None:
    assert KEY == engine_key(TOKEN) != engine_key("another")
    assert TOKEN not in KEY
    assert engine_headers(TOKEN) == {"Authorization": f"Bearer {KEY}"}
    assert engine_key("") == ""
    assert engine_headers("") == {}


def test_an_engine_finds_it_in_its_environment() -> None:
    assert build_environment(order(**ENV), around(KEY))["VLLM_API_KEY"] == KEY


def test_who_may_not_have_it_is_not_started() -> None:
    with pytest.raises(InvalidInput, match="ENGINE_KEY"):
        build_environment(order(**ENV), around(""))


def test_a_command_line_which_all_can_read_never_holds_it() -> None:
    with pytest.raises(InvalidInput, match="ENGINE_KEY"):
        expand("--api-key=$(ENGINE_KEY)", order(), around(KEY))


@pytest.mark.parametrize(
    ("owner", "key"),
    [
        (Owner(kind="Endpoint", name="e", uid="u"), KEY),
        (Owner(kind="FineTune", name="f", uid="u"), ""),
        (None, ""),
    ],
    ids=["endpoint", "job", "user"],
)
async def test_only_the_gang_of_an_endpoint_is_given_it(owner: Owner | None, key: str) -> None:
    clock = VirtualClock()
    store, fabric = MemoryStore(clock), FakeFabric(clock, a=[cpu_device("a")])
    loop = SchedulerLoop(store, fabric, UsageLog(), Settings(internal_token=TOKEN), clock)
    await store.apply(Project(metadata=Metadata(name="p"), spec=ProjectSpec(tenant="acme")))
    role = WorkloadRole(name="engine", command=["sleep", "600"], env=ENV)
    metadata = Metadata(name="w", project="p", owner=owner)
    await store.apply(Workload(metadata=metadata, spec=WorkloadSpec(roles=[role])))
    await loop.step()
    [(_, started)] = fabric.started
    assert started.engine_key == key
    assert KEY not in repr(started)
    assert KEY not in str((await fabric.nodes())[0].gangs)
    assert KEY not in (await store.get(Workload, "w", "p")).model_dump_json()
    assert asdict(started)["ranks"][0]["env"] == ENV
