"""Nodes of a Ray cluster, seen through their agents: who is there, who is silent, and who is lost."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from common.clock import VirtualClock
from common.errors import Conflict, NotFound, SetupError, Unavailable
from common.settings import RaySettings, SchedulerSettings, Settings
from scheduler.adapters.ray import fabric as module
from scheduler.adapters.ray.agent import ABANDONED
from scheduler.adapters.ray.fabric import RayFabric
from scheduler.adapters.ray.names import NODE_LABEL, unique_name
from scheduler.ports import Billing, GangOrder, GangRecord
from tests.fixtures.ray_stand_in import StandInRay, gpu

ONE, TWO, THREE = (digit * 56 for digit in "123")
"""Ids as Ray gives them."""
LOST_SECONDS = 20.0


class Scene:
    """Two nodes in Ray, and the control process that looks at them."""

    def __init__(self, home: Path, ray: StandInRay) -> None:
        self.ray, self.clock, self.home = ray, VirtualClock(), home
        ray.add_node(ONE, "Host_A", labels={"zone": "z1"})
        ray.add_node(TWO, "b", labels={NODE_LABEL: "named"})
        self.fabric = self.control()

    def control(self, instance: str = "first", cluster: str = "", **ray: str) -> RayFabric:
        settings = Settings(
            home=self.home,
            instance=instance,
            ray=RaySettings(address="10.9.9.9:6379", **ray),
            scheduler=SchedulerSettings(node_lost_seconds=LOST_SECONDS, stop_grace_seconds=7.0),
        )
        return RayFabric(settings, self.clock, cluster)

    async def states(self) -> dict[str, str]:
        return {node.name: node.state for node in await self.fabric.nodes()}


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    for name in ("PROMPT_SECONDS", "OBSERVE_TIMEOUT_SECONDS", "CALL_TIMEOUT_SECONDS"):
        monkeypatch.setattr(module, name, 0.1)
    made = Scene(tmp_path, StandInRay().put_in_place(monkeypatch))
    yield made
    await made.fabric.close()


def order(uid: str = "u") -> GangOrder:
    return GangOrder(uid, 1, 1, "d", Billing("t", "p", "w"), ())


async def test_each_node_gets_an_agent_of_its_own_that_stays(scene: Scene) -> None:
    assert await scene.states() == {"host-a": "Alive", "named": "Alive"}
    assert await scene.states() == {"host-a": "Alive", "named": "Alive"}
    assert scene.ray.made == [module.agent_name(ONE), module.agent_name(TWO)]
    actor = scene.ray.agent(ONE)
    assert (actor.options["max_restarts"], actor.options["num_cpus"]) == (-1, 0)
    strategy = actor.options["scheduling_strategy"]
    assert (strategy.node_id, strategy.soft) == (ONE, False)
    options = actor.made.options
    assert (options.node, options.address, options.home) == ("host-a", "10.0.0.1", str(scene.home))
    assert (options.instance, options.grace_seconds) == ("first", 7.0)


async def test_what_an_agent_tells_is_what_is_seen(scene: Scene) -> None:
    await scene.fabric.nodes()
    agent = scene.ray.agent(ONE).made
    gang = GangRecord("u", 1, "d", Billing("t", "p", "w"), ())
    agent.report = replace(
        agent.report, devices=(gpu(0),), gangs=(gang,), cached=("m",), drivers={"amd": "6"}
    )
    node = (await scene.fabric.nodes())[0]
    assert (node.name, node.ray_node_id, node.address, node.cluster) == ("host-a", ONE, "10.0.0.1", "")
    assert (node.devices, node.gangs, node.cached, node.drivers) == ((gpu(0),), (gang,), ("m",), {"amd": "6"})
    assert (node.cpu_cores, node.memory_bytes, node.memory_available_bytes) == (4, 1024, 512)
    assert node.labels == {"own": "1", "zone": "z1"}
    assert (node.withheld, node.taken) == (frozenset(), "")


async def test_the_next_control_process_adopts_the_agents_with_their_names(scene: Scene) -> None:
    await scene.fabric.nodes()
    made = list(scene.ray.made)
    scene.ray.rows[0]["NodeManagerHostname"] = "renamed"
    following = scene.control()
    assert [node.name for node in await following.nodes()] == ["host-a", "named"]
    assert scene.ray.made == made
    await following.close()


async def test_names_of_a_named_cluster_begin_with_it_and_its_address_may_be_told(scene: Scene) -> None:
    following = scene.control(cluster="west", node_address="192.0.2.7")
    nodes = await following.nodes()
    assert [node.name for node in nodes] == ["west.host-a", "west.named"]
    assert {node.address for node in nodes} == {"192.0.2.7"}
    assert {node.cluster for node in nodes} == {"west"}
    await following.close()


@pytest.mark.parametrize(
    ("host", "labels", "name"),
    [
        ("GPU_Box.lan", {}, "gpu-box.lan"),
        ("x", {NODE_LABEL: "Rack 1"}, "rack-1"),
        ("--", None, "node"),
        ("taken", {}, "taken-abcdefgh"),
        ("h" * 300, {}, "h" * 190),
    ],
)
def test_a_node_is_named_by_its_label_or_host_in_letters_that_a_name_may_have(
    host: str, labels: dict[str, str] | None, name: str
) -> None:
    row = {"NodeID": "abcdefghij", "NodeManagerHostname": host, "Labels": labels}
    assert unique_name(row, {"taken"}) == name


async def test_a_node_that_does_not_answer_keeps_what_it_had_until_it_is_lost(scene: Scene) -> None:
    await scene.fabric.nodes()
    actor = scene.ray.agent(ONE)
    gang = GangRecord("u", 1, "d", Billing("t", "p", "w"), ())
    actor.made.report = replace(actor.made.report, gangs=(gang,), devices=(gpu(0),))
    await scene.fabric.nodes()
    actor.hung = True
    silent = (await scene.fabric.nodes())[0]
    assert (silent.state, silent.gangs, silent.devices) == ("Silent", (gang,), (gpu(0),))
    scene.clock.advance(LOST_SECONDS - 0.1)
    assert (await scene.states())["host-a"] == "Silent"
    scene.clock.advance(0.1)
    lost = (await scene.fabric.nodes())[0]
    assert (lost.state, lost.gangs, lost.devices) == ("Lost", (), (gpu(0),))
    actor.hung = False
    await asyncio.sleep(0.12)  # the question that is open ends
    await scene.fabric.nodes()
    await asyncio.sleep(0)
    back = (await scene.fabric.nodes())[0]
    assert (back.state, back.gangs) == ("Alive", (gang,))
    assert len(scene.ray.made) == 2


async def test_a_node_is_lost_so_long_after_its_last_answer(scene: Scene) -> None:
    await scene.fabric.nodes()
    scene.clock.advance(LOST_SECONDS - 1)
    await scene.fabric.nodes()
    scene.ray.agent(ONE).hung = True
    scene.clock.advance(LOST_SECONDS - 1)
    assert (await scene.states())["host-a"] == "Silent"
    scene.clock.advance(1)
    assert (await scene.states())["host-a"] == "Lost"


async def test_a_look_at_all_waits_for_no_node_that_is_known_to_be_silent(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.fabric.nodes()
    scene.ray.agent(ONE).hung = True
    await scene.fabric.nodes()
    monkeypatch.setattr(module, "PROMPT_SECONDS", 60.0)
    async with asyncio.timeout(5):
        assert await scene.states() == {"host-a": "Silent", "named": "Alive"}


async def test_a_node_that_leaves_ray_is_lost_and_told_until_its_name_comes_back(scene: Scene) -> None:
    await scene.fabric.nodes()
    scene.ray.remove_node(TWO)
    for _ in range(2):
        assert await scene.states() == {"host-a": "Alive", "named": "Lost"}
    scene.ray.add_node(THREE, "c", labels={NODE_LABEL: "named"})
    assert await scene.states() == {"host-a": "Alive", "named": "Alive"}
    assert {node.ray_node_id for node in await scene.fabric.nodes()} == {ONE, THREE}
    scene.ray.rows[0]["Alive"] = False
    assert (await scene.states())["host-a"] == "Lost"


async def test_an_agent_that_died_for_good_is_made_anew(scene: Scene) -> None:
    await scene.fabric.nodes()
    actor = scene.ray.actors.pop(module.agent_name(ONE))
    actor.dead = True
    assert (await scene.states())["host-a"] == "Silent"
    assert (await scene.states())["host-a"] == "Alive"
    assert scene.ray.made.count(module.agent_name(ONE)) == 2


async def test_a_cluster_of_another_installation_is_refused(scene: Scene) -> None:
    await scene.fabric.nodes()
    second = scene.control(instance="second")
    with pytest.raises(SetupError, match="works for another installation") as refused:
        await second.nodes()
    assert refused.value.code == "other_installation"
    assert scene.ray.agent(ONE).made.owner == "first"
    scene.ray.agent(ONE).made.owner = "third"
    with pytest.raises(SetupError):
        await scene.fabric.nodes()


async def test_agents_that_another_installation_has_left_behind_are_replaced(scene: Scene) -> None:
    await scene.fabric.nodes()
    for ray_id in (ONE, TWO):
        scene.ray.agent(ray_id).made.conflict_code = ABANDONED
    second = scene.control(instance="second")
    assert [node.state for node in await second.nodes()] == ["Alive", "Alive"]
    assert scene.ray.agent(ONE).made.owner == "second"
    await second.close()


async def test_an_agents_own_errors_come_back_and_all_others_are_unavailable(scene: Scene) -> None:
    await scene.fabric.nodes()
    assert (await scene.fabric.ensure_gang("named", order())).uid == "u"
    with pytest.raises(Conflict, match="another attempt is alive"):
        await scene.fabric.ensure_gang("named", order("taken"))
    with pytest.raises(Unavailable, match="the agent of named failed in ensure_gang"):
        await scene.fabric.ensure_gang("named", order("odd"))
    with pytest.raises(NotFound, match="'nowhere'"):
        await scene.fabric.ensure_gang("nowhere", order())
    scene.ray.agent(TWO).hung = True
    with pytest.raises(Unavailable, match="the agent of named does not answer stop_gang"):
        await scene.fabric.stop_gang("named", "u", 1, 5.0)
    scene.ray.agent(TWO).hung = False
    await scene.fabric.stop_gang("named", "u", 1, 5.0)
    await scene.fabric.mark_metered("named", "u", 1, {0: 3})
    calls = scene.ray.agent(TWO).made.calls
    assert calls[-2:] == [("stop_gang", "u", 1, 5.0), ("mark_metered", "u", 1, {0: 3})]


async def test_a_cluster_is_joined_once_and_left_by_who_has_joined_it(scene: Scene) -> None:
    scene.ray.initialized = False
    for _ in range(2):
        await scene.fabric.nodes()
    [joined] = scene.ray.joined
    assert (joined["address"], joined["namespace"]) == ("10.9.9.9:6379", module.NAMESPACE)
    other = scene.control()
    await other.nodes()
    await other.close()
    assert scene.ray.initialized, "it was joined by another"
    await scene.fabric.close()
    assert not scene.ray.initialized


async def test_a_cluster_is_joined_through_the_node_that_settings_name(scene: Scene) -> None:
    scene.ray.initialized = False
    ray = RaySettings(address="10.9.9.9:6379", driver_address="10.1.1.7")
    made = RayFabric(Settings(home=scene.home, ray=ray))
    await made.nodes()
    assert scene.ray.joined[0]["_node_ip_address"] == "10.1.1.7"
    await made.close()


async def test_a_node_that_is_there_for_a_driver_bears_no_agent(scene: Scene) -> None:
    listed = [node.ray_node_id for node in await scene.fabric.nodes()]
    rows = module.ray.nodes()
    chosen = next(row for row in rows if row["NodeID"] == listed[0])
    chosen["Labels"] = {**(chosen.get("Labels") or {}), module.AGENT_LABEL: "none"}
    assert not module.bears_agent(chosen)
    assert all(module.bears_agent(row) for row in rows if row is not chosen)
    assert [node.ray_node_id for node in await scene.control().nodes()] == listed[1:]


@pytest.mark.parametrize("error", [ConnectionError("no route"), ValueError("odd"), RuntimeError("torn")])
async def test_a_cluster_that_cannot_be_reached_is_unavailable(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(**_: object) -> None:
        raise error

    scene.ray.initialized = False
    monkeypatch.setattr(module.ray, "init", fail)
    with pytest.raises(Unavailable, match=r"Ray at 10\.9\.9\.9:6379 cannot be reached"):
        await scene.fabric.nodes()
    nowhere = RayFabric(Settings(home=scene.home, ray=RaySettings(address="")))
    with pytest.raises(SetupError, match=r"ray\.address is not set"):
        await nowhere.nodes()


async def test_ray_that_lists_no_nodes_is_unavailable(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("torn")

    monkeypatch.setattr(module.ray, "nodes", fail)
    with pytest.raises(Unavailable, match="Ray does not list its nodes: torn"):
        await scene.fabric.nodes()


async def test_dismissed_agents_end_and_are_not_made_again(scene: Scene) -> None:
    await scene.fabric.nodes()
    await scene.fabric.dismiss_agents()
    assert scene.ray.actors == {}
    assert await scene.fabric.nodes() == []
    assert scene.ray.actors == {}


async def test_ray_lists_its_nodes_while_all_default_threads_are_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"NodeID": "a", "Alive": True}, {"NodeID": "b", "Alive": False}]
    monkeypatch.setattr(module.ray, "nodes", lambda: rows)
    go_on = threading.Event()
    blocked = [asyncio.create_task(asyncio.to_thread(go_on.wait)) for _ in range(100)]
    await asyncio.sleep(0)
    try:
        listing = await RayFabric(Settings(home=tmp_path))._list_ray_nodes()
        assert [row["NodeID"] for row in listing] == ["a"]
    finally:
        go_on.set()
        await asyncio.gather(*blocked)
