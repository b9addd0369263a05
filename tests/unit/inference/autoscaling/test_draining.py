"""Engines that leave, and come back where what is wanted has changed once more."""

from pathlib import Path

import pytest

from common.resources import Model, Workload
from common.resources.meta import Metadata
from tests.unit.inference.autoscaling.elastic_world import SLEEPY, ElasticWorld
from tests.unit.inference.endpoint_world import PROJECT


@pytest.fixture
def world(tmp_path: Path) -> ElasticWorld:
    return ElasticWorld(tmp_path)


async def test_an_engine_of_the_former_mode_serves_again_until_the_new_ones_answer(
    world: ElasticWorld,
) -> None:
    await world.begin(autoscaling=SLEEPY)
    world.hold(1)
    await world.go(5)
    world.hold(0)
    world.work(3)
    role = {"devices": {"vendors": ["cpu"]}, "autoscaling": SLEEPY}
    await world.apply_endpoint(mode="disaggregated", prefill=role, decode=role)
    await world.controller.step()
    await world.controller.step()
    assert await world.served() == [], "nothing is wanted of it, so it is to go"
    world.hold(1)
    await world.autoscaler.step()
    await world.controller.step()
    assert set(await world.workloads()) == {"chat-0", "chat-decode-0", "chat-prefill-0"}
    await world.controller.step()
    assert await world.served() == ["chat-0"]
    await world.go(10)
    assert "chat-0" in await world.workloads(), "it is at work"
    world.work(0)
    await world.go(15)
    assert await world.served() == ["chat-decode-0", "chat-prefill-0"]
    assert set(await world.workloads()) == {"chat-decode-0", "chat-prefill-0"}


async def test_an_engine_that_is_to_stay_serves_again_though_another_cannot_be_made(
    world: ElasticWorld,
) -> None:
    await world.begin(2)
    await world.go(5)
    world.work([3, 7])
    await world.apply_endpoint(1)
    await world.go(5)
    assert await world.served() == ["chat-1"]
    mine = (await world.workloads())["chat-0"]
    others = Workload(metadata=Metadata(name="chat-2", project=PROJECT), spec=mine.spec)
    await world.store.apply(others)
    await world.apply_endpoint(3)
    await world.controller.step()
    await world.controller.step()
    assert await world.served() == ["chat-0", "chat-1"]


@pytest.mark.parametrize("embeds", [False, True], ids=["weights-gone", "mode-impossible"])
async def test_an_engine_that_was_to_leave_serves_on_where_none_can_be_started(
    world: ElasticWorld, embeds: bool
) -> None:
    await world.begin(autoscaling=SLEEPY)
    world.hold(1)
    await world.go(5)
    world.hold(0)
    world.work(0)
    await world.go(25)
    assert await world.served() == ["chat-0"]
    world.clock.advance(6)
    await world.autoscaler.step()
    await world.controller.step()
    await world.controller.step()
    assert await world.served() == []
    if embeds:
        model = await world.store.get(Model, "tiny", PROJECT)
        model.spec.tasks = ["embeddings"]
        await world.store.apply(model)
        role = {"devices": {"vendors": ["cpu"]}, "autoscaling": SLEEPY}
        await world.apply_endpoint(mode="disaggregated", prefill=role, decode=role)
    else:
        (world.model_path / "model.safetensors").unlink()
    world.hold(1)
    await world.go(15)
    ready = (await world.endpoint()).status.condition("Ready")
    assert ready is not None
    assert ready.reason == ("InvalidInput" if embeds else "WeightsMissing")
    assert await world.served() == ["chat-0"]
