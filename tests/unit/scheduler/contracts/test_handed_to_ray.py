"""What Ray is asked for, in full, and what of its failures is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayError

from common.clock import VirtualClock
from common.errors import Unavailable
from common.settings import RaySettings, SchedulerSettings, Settings
from common.settings.services import RetentionSettings, SandboxSettings
from scheduler.adapters.ray import fabric, holding
from scheduler.adapters.ray.agent import AgentOptions, AgentReport
from scheduler.adapters.ray.fabric import RayFabric
from scheduler.adapters.ray.holding import Held, Holdings
from scheduler.ports import Billing, GangRecord, NodeObservation
from tests.fixtures.ray_stand_in import StandInRay, gpu

ONE, TWO = (digit * 56 for digit in "12")
PRODUCT = str(Path(fabric.__file__).resolve().parents[3])


def settings(home: Path) -> Settings:
    """All of them as nobody has them by default."""
    return Settings(
        home=home,
        instance="mine",
        ray=RaySettings(address="10.9.9.9:6379", accelerator_resources=["GPU", "NPU"]),
        retention=RetentionSettings(log_days=3.0, log_bytes=1000, process_log_bytes=100),
        sandbox=SandboxSettings(mode="require"),
        scheduler=SchedulerSettings(
            cpu_device="never",
            device_file="/devices.yaml",
            stop_grace_seconds=7.0,
            gang_environment=["HTTPS_PROXY"],
            node_lost_seconds=20.0,
        ),
    )


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> StandInRay:
    return StandInRay().put_in_place(monkeypatch)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


async def test_an_agent_is_made_as_the_settings_say(
    ray: StandInRay, clock: VirtualClock, tmp_path: Path
) -> None:
    ray.add_node(ONE, "Host_A")
    made = RayFabric(settings(tmp_path), clock, "west")
    await made.nodes()
    actor = ray.agent(ONE)
    assert actor.made.options == AgentOptions(
        node="west.host-a",
        address="10.0.0.1",
        home=str(tmp_path),
        instance="mine",
        cpu_device="never",
        device_file="/devices.yaml",
        grace_seconds=7.0,
        log_days=3.0,
        log_bytes=1000,
        process_log_bytes=100,
        gang_environment=("HTTPS_PROXY",),
        sandbox_mode="require",
    )
    where = actor.options.pop("scheduling_strategy")
    assert (where.node_id, where.soft) == (ONE, False)
    assert actor.options == {
        "name": f"computility-agent-{ONE}",
        "namespace": "computility",
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": 0,
        "max_restarts": -1,
        "runtime_env": {"env_vars": {"PYTHONPATH": PRODUCT}},
    }
    await made.close()


async def test_a_cluster_is_joined_quietly_and_left_alone_by_who_has_not_joined_it(
    ray: StandInRay, clock: VirtualClock, tmp_path: Path
) -> None:
    other = RayFabric(settings(tmp_path), clock)
    await other.nodes()
    await other.close()
    assert (ray.joined, ray.initialized) == ([], True)
    ray.initialized = False
    made = RayFabric(settings(tmp_path), clock)
    await made.nodes()
    assert ray.joined == [
        {
            "address": "10.9.9.9:6379",
            "namespace": "computility",
            "log_to_driver": False,
            "configure_logging": False,
        }
    ]
    await made.close()
    assert not ray.initialized
    ray.initialized = True
    await made.close()
    assert ray.initialized, "it was left already, and another has joined it since"


async def test_a_node_is_told_whole(ray: StandInRay, clock: VirtualClock, tmp_path: Path) -> None:
    ray.add_node(ONE, "a", gpus=2, labels={"zone": "z1", "own": "of Ray"})
    ray.free[ONE]["GPU"] = ["1"]
    made = RayFabric(settings(tmp_path), clock, "west")
    await made.nodes()
    gang = GangRecord("u", 1, "d", Billing("t", "p", "w"), ())
    ray.agent(ONE).made.report = AgentReport(
        node="a",
        devices=(gpu(0), gpu(1)),
        probe_faults={"amd": "no driver"},
        cpu_cores=4,
        memory_bytes=1024,
        gangs=(gang,),
        labels={"own": "1", "host": "h"},
        cached=("m",),
        drivers={"nvidia": "570"},
        memory_available_bytes=512,
    )
    held = made._holdings.of(ONE)
    assert held is not None
    assert made._holdings._task is not None
    await made._holdings._task
    assert list(await made.nodes()) == [
        NodeObservation(
            name="west.a",
            ray_node_id=ONE,
            address="10.0.0.1",
            state="Alive",
            devices=(gpu(0), gpu(1)),
            probe_faults={"amd": "no driver"},
            cpu_cores=4,
            memory_bytes=1024,
            gangs=(gang,),
            cluster="west",
            labels={"own": "of Ray", "host": "h", "zone": "z1"},
            cached=("m",),
            drivers={"nvidia": "570"},
            memory_available_bytes=512,
            withheld=frozenset({"gpu-0"}),
            taken="held in Ray by another job: 1 of 2 GPU",
        )
    ]
    await made.close()


ROW = {"NodeID": ONE, "Resources": {"CPU": 8.0, "GPU": 3.0, "NPU": 2.0, "FPGA": 1.0, "TPU": 0.0}}


async def followed(holdings: Holdings) -> Held:
    holdings.follow([ROW])
    if holdings._task is not None:
        await holdings._task
    found = holdings.of(ONE)
    assert found is not None
    return found


async def test_what_ray_has_of_accelerators_is_asked_for_in_whole_pieces(
    ray: StandInRay, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.free[ONE] = {"GPU": ["0", "1"]}
    there = {ONE: {"GPU": 2.75, "NPU": 2.0, "FPGA": 1.0}, TWO: {"GPU": 8.0}}
    monkeypatch.setattr(holding, "available_resources_per_node", lambda: there)
    held = await followed(Holdings(["GPU", "NPU", "TPU"], "computility", "/product", clock))
    assert held == Held(
        totals={"GPU": 3.0, "NPU": 2.0},
        amounts={"GPU": 2.0, "NPU": 2.0},
        ids={"GPU": {"0", "1"}, "NPU": set()},
        names={f"computility-holder-{ONE}/0/GPU=2,NPU=2"},
        tried_seconds=clock.monotonic_seconds(),
    )
    assert (held.missing, held.message) == ({"GPU": 1.0}, "held in Ray by another job: 1 of 3 GPU")
    (actor,) = ray.actors.values()
    where = actor.options.pop("scheduling_strategy")
    assert (where.node_id, where.soft) == (ONE, False)
    assert actor.options == {
        "name": f"computility-holder-{ONE}/0/GPU=2,NPU=2",
        "namespace": "computility",
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": 0,
        "num_gpus": 2.0,
        "resources": {"NPU": 2.0},
        "max_restarts": -1,
        "runtime_env": {"env_vars": {"PYTHONPATH": "/product"}},
    }


async def test_where_there_are_gpus_alone_no_other_resource_is_asked_for(
    ray: StandInRay, clock: VirtualClock
) -> None:
    ray.free[ONE] = {"GPU": ["0", "1", "2"]}
    await followed(Holdings(["GPU"], "computility", "/product", clock))
    assert [actor.options["resources"] for actor in ray.actors.values()] == [None]


async def test_holders_are_found_again_with_what_their_names_say(
    ray: StandInRay, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "available_resources_per_node", lambda: {ONE: {"GPU": 2.0, "NPU": 2.0}})
    ray.free[ONE] = {"GPU": ["0", "1"]}
    first = await followed(Holdings(["GPU", "NPU"], "computility", "/p", clock))
    monkeypatch.setattr(holding, "available_resources_per_node", lambda: {ONE: {"GPU": 1.0}})
    ray.free[ONE] = {"GPU": ["2"]}
    following = Holdings(["GPU", "NPU"], "computility", "/p", clock)
    second = await followed(following)
    assert (first.amounts, second.amounts) == ({"GPU": 2.0, "NPU": 2.0}, {"GPU": 3.0, "NPU": 2.0})
    assert second.ids == {"GPU": {"0", "1", "2"}, "NPU": set()}
    assert second.names == {
        f"computility-holder-{ONE}/0/GPU=2,NPU=2",
        f"computility-holder-{ONE}/1/GPU=1",
    }
    assert following._task is not None
    done = following._task
    await followed(following)
    assert following._task is done, "all is held"


FAILURES = (RayError("torn"), RuntimeError("torn"), TimeoutError("torn"), ValueError("torn"))


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
async def test_whatever_fails_while_accelerators_are_held_is_tried_again(
    ray: StandInRay, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    ray.free[ONE] = {"GPU": ["0", "1", "2"]}
    holdings = Holdings(["GPU"], "computility", "/p", clock)
    available = holding.available_resources_per_node
    monkeypatch.setattr(holding, "available_resources_per_node", _raise(error))
    assert (await followed(holdings)).missing == {"GPU": 3.0}
    monkeypatch.setattr(holding, "available_resources_per_node", available)
    assert (await followed(holdings)).missing == {}


def _raise(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("error", FAILURES[:3], ids=lambda error: type(error).__name__)
async def test_whatever_fails_while_ray_lists_its_nodes_is_unavailable(
    ray: StandInRay, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    monkeypatch.setattr(fabric.ray, "nodes", _raise(error))
    with pytest.raises(Unavailable, match="Ray does not list its nodes: torn"):
        await RayFabric(settings(tmp_path), clock).nodes()


@pytest.mark.parametrize(
    "error", [ConnectionError("torn"), *FAILURES[:2], FAILURES[3]], ids=lambda error: type(error).__name__
)
async def test_whatever_fails_while_ray_is_joined_is_unavailable(
    ray: StandInRay, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    ray.initialized = False
    monkeypatch.setattr(fabric.ray, "init", _raise(error))
    with pytest.raises(Unavailable, match=r"Ray at 10\.9\.9\.9:6379 cannot be reached: torn"):
        await RayFabric(settings(tmp_path), clock).nodes()


async def test_an_agent_or_holder_that_ray_does_not_end_keeps_no_other_alive(
    ray: StandInRay, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ray.add_node(ONE, "a", gpus=1)
    ray.add_node(TWO, "b", gpus=1)
    made = RayFabric(settings(tmp_path), clock)
    await made.nodes()
    assert made._holdings._task is not None
    await made._holdings._task
    kill, stubborn = ray.kill, [ray.agent(ONE), ray.actors[ray.holders()[0]]]

    def refuse(actor: Any, no_restart: bool = False) -> None:
        if actor in stubborn:
            raise RayError("torn")
        kill(actor, no_restart)

    monkeypatch.setattr(fabric.ray, "kill", refuse)
    await made.dismiss_agents()
    assert list(ray.actors.values()) == stubborn
    assert await made.nodes() == []


async def test_where_this_process_has_left_ray_nothing_is_given_back(
    ray: StandInRay, clock: VirtualClock, tmp_path: Path
) -> None:
    ray.add_node(ONE, "a", gpus=1)
    made = RayFabric(settings(tmp_path), clock)
    await made.nodes()
    assert made._holdings._task is not None
    await made._holdings._task
    ray.initialized = False
    await made.dismiss_agents()
    assert len(ray.holders()) == 1
