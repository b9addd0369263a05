"""What the agents hold in Ray nobody else gets, and what somebody else has is not offered."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from common.ids import new_id
from scheduler.adapters.ray.fabric import NAMESPACE, RayFabric
from scheduler.adapters.ray.holding import PREFIX, RETRY_SECONDS
from scheduler.ports import NodeObservation
from tests.fixtures.ray import RayCluster, pretended
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.integration


class Stranger:
    """Another Ray job's actor."""

    def ping(self) -> str:
        return "here"


@pytest.fixture
def node(ray_cluster: RayCluster) -> Iterator[Any]:
    """A raylet with two GPUs in Ray, which no fabric has seen yet."""
    name = new_id("gpus")
    ray_cluster.tell(name, pretended(name, "nvidia", "L20", 2))
    node = ray_cluster.add(name, num_gpus=2)
    yield node
    ray_cluster.remove(node)


def stranger(node: Any) -> Any:
    on_node = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    return ray.remote(Stranger).options(num_cpus=0, num_gpus=1, scheduling_strategy=on_node).remote()


async def seen(fabric: RayFabric, node: Any) -> NodeObservation | None:
    alive = [found for found in await fabric.nodes() if found.state == "Alive"]
    return next((found for found in alive if found.ray_node_id == node.node_id), None)


async def until_offered(
    fabric: RayFabric, node: Any, devices: int, timeout_seconds: float = 30.0
) -> NodeObservation:
    async def is_so() -> bool:
        found = await seen(fabric, node)
        return found is not None and len(found.devices) - len(found.withheld) == devices

    await eventually(is_so, timeout_seconds)
    found = await seen(fabric, node)
    assert found is not None
    return found


async def test_what_is_offered_is_held_also_by_the_next_control(
    ray_fabric: RayFabric, ray_settings: Any, node: Any
) -> None:
    assert (await until_offered(ray_fabric, node, 2)).taken == ""
    waiting = stranger(node)
    with pytest.raises(ray.exceptions.GetTimeoutError):
        await asyncio.to_thread(ray.get, waiting.ping.remote(), timeout=2)
    ray.kill(waiting)
    following = RayFabric(ray_settings)
    await until_offered(following, node, 2)
    await following.close()
    holders = [a for a in ray.util.list_named_actors(all_namespaces=True) if node.node_id in a["name"]]
    holders = [actor for actor in holders if actor["name"].startswith(PREFIX)]
    assert [actor["namespace"] for actor in holders] == [NAMESPACE], "adopted, not held twice"


async def test_what_another_job_has_is_not_offered_until_it_gives_it_back(
    ray_fabric: RayFabric, node: Any
) -> None:
    other = stranger(node)
    assert await asyncio.to_thread(ray.get, other.ping.remote(), timeout=30) == "here"
    found = await until_offered(ray_fabric, node, 1)
    assert found.taken == "held in Ray by another job: 1 of 2 GPU"
    assert len(found.withheld) == 1
    ray.kill(other)
    assert (await until_offered(ray_fabric, node, 2, RETRY_SECONDS + 30)).taken == ""
