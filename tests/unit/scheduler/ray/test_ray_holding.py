"""Accelerators are held in Ray, so that no other job gets them; what another has is not offered."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from common.clock import VirtualClock
from scheduler.adapters.ray import holding as module
from scheduler.adapters.ray.fabric import NAMESPACE
from scheduler.adapters.ray.holding import PREFIX, RETRY_SECONDS, Held, Holdings, withheld
from tests.fixtures.ray_stand_in import StandInRay, gpu

ONE, TWO = (digit * 56 for digit in "12")
"""Ids as Ray gives them."""


class Scene:
    """A node with four GPUs, and what is held there."""

    def __init__(self, ray: StandInRay) -> None:
        self.ray, self.clock = ray, VirtualClock()
        ray.add_node(ONE, "a", gpus=4)
        ray.add_node(TWO, "without")
        self.holdings = self.control()

    def control(self) -> Holdings:
        return Holdings(["GPU"], NAMESPACE, "/product", self.clock)

    async def follow(self, holdings: Holdings | None = None) -> None:
        """One look, and what it does beside."""
        holdings = holdings or self.holdings
        holdings.follow(self.ray.rows)
        if holdings._task is not None:
            await asyncio.wait([holdings._task])

    @property
    def held(self) -> Held:
        found = self.holdings.of(ONE)
        assert found is not None
        return found


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)
    made = Scene(StandInRay().put_in_place(monkeypatch))
    yield made
    await made.holdings.pause()


async def test_all_that_ray_has_is_held_once_and_stays_with_the_node(scene: Scene) -> None:
    for _ in range(3):
        await scene.follow()
    assert scene.ray.holders() == [f"{PREFIX}{ONE}/0/GPU=4"]
    assert (scene.held.missing, scene.held.message) == ({}, "")
    assert withheld([gpu(n) for n in range(4)], scene.held) == frozenset()
    assert scene.holdings.of(TWO) is None
    options = scene.ray.actors[scene.ray.holders()[0]].options
    assert (options["num_gpus"], options["num_cpus"], options["max_restarts"]) == (4.0, 0, -1)
    assert (options["scheduling_strategy"].node_id, options["scheduling_strategy"].soft) == (ONE, False)
    assert options["runtime_env"] == {"env_vars": {"PYTHONPATH": "/product"}}


async def test_what_another_job_has_is_not_offered_and_is_taken_once_it_comes_free(scene: Scene) -> None:
    theirs = [scene.ray.free[ONE]["GPU"].pop(0)]
    await scene.follow()
    assert scene.held.message == "held in Ray by another job: 1 of 4 GPU"
    devices = [*(gpu(n) for n in range(4)), gpu(9, "ascend")]
    assert withheld(devices, scene.held) == {"gpu-0"}
    scene.ray.free[ONE]["GPU"] += theirs
    scene.clock.advance(RETRY_SECONDS - 0.1)
    await scene.follow()
    assert len(scene.ray.holders()) == 1, "Ray is not asked all the time"
    scene.clock.advance(0.1)
    await scene.follow()
    assert scene.ray.holders() == [f"{PREFIX}{ONE}/0/GPU=3", f"{PREFIX}{ONE}/1/GPU=1"]
    assert (scene.held.message, withheld(devices, scene.held)) == ("", frozenset())


async def test_the_next_control_process_takes_up_what_is_held(scene: Scene) -> None:
    await scene.follow()
    following = scene.control()
    await scene.follow(following)
    held = following.of(ONE)
    assert held is not None
    assert (held.missing, held.ids) == ({}, {"GPU": {"0", "1", "2", "3"}})
    assert len(scene.ray.holders()) == 1
    await following.pause()


async def test_a_part_of_a_device_is_not_worth_holding(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_resources_per_node", lambda: {ONE: {"GPU": 0.5}})
    await scene.follow()
    assert scene.ray.holders() == []
    assert scene.held.message == "held in Ray by another job: 4 of 4 GPU"


async def test_where_another_was_faster_the_place_in_the_line_is_given_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "available_resources_per_node", lambda: {ONE: {"GPU": 4.0}})
    scene.ray.free[ONE]["GPU"] = ["3"]
    await scene.follow()
    assert scene.ray.holders() == []
    assert scene.held.missing == {"GPU": 4.0}


async def test_ray_that_fails_is_asked_again_later(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("torn")

    monkeypatch.setattr(module.ray.util, "list_named_actors", fail)
    await scene.follow()
    assert scene.held.missing == {"GPU": 4.0}
    monkeypatch.setattr(module.ray.util, "list_named_actors", scene.ray.list_named_actors)
    await scene.follow()
    assert scene.held.missing == {}


async def test_all_is_given_back_in_the_end(scene: Scene) -> None:
    await scene.follow()
    await scene.holdings.dismiss()
    assert scene.ray.holders() == []
    assert len(scene.ray.free[ONE]["GPU"]) == 4
    assert scene.holdings.of(ONE) is None


async def test_a_node_that_has_gone_is_forgotten(scene: Scene) -> None:
    await scene.follow()
    scene.ray.remove_node(ONE)
    await scene.follow()
    assert scene.holdings.of(ONE) is None


def test_only_devices_that_the_resource_counts_are_withheld() -> None:
    held = Held({"GPU": 2.0, "NPU": 1.0}, {"GPU": 2.0})
    assert withheld([gpu(0), gpu(1, "ascend")], held) == {"gpu-1"}
    assert withheld([gpu(0)], None) == frozenset()
    held.ids["NPU"] = {"1"}
    assert withheld([gpu(1, "ascend")], held) == frozenset(), "it is ours by its index"
    held.ids["NPU"] = {"gpu-1"}
    assert withheld([gpu(1, "ascend")], held) == frozenset(), "or by its id"
    assert Held({"GPU": 4.0, "NPU": 2.0}).message == "held in Ray by another job: 4 of 4 GPU, 2 of 2 NPU"
