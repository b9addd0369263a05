"""Roles that may sleep: none does while another one takes its requests."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.inference.autoscaling.elastic_world import SLEEPY, SMALL, ElasticWorld

BOTH = {"chat-decode-0", "chat-prefill-0"}
ALWAYS = {"window": "00:00-24:00", "minReplicas": 1}


@pytest.fixture
def world(tmp_path: Path) -> ElasticWorld:
    return ElasticWorld(tmp_path)


async def begin(world: ElasticWorld, prefill: dict[str, Any], decode: dict[str, Any]) -> None:
    roles: dict[str, Any] = {
        name: {"devices": {"vendors": ["cpu"]}, "autoscaling": scaling}
        for name, scaling in (("prefill", prefill), ("decode", decode))
    }
    await world.begin(mode="disaggregated", **roles)


async def wake(world: ElasticWorld) -> None:
    world.hold(1)
    await world.go(5)
    world.hold(0)
    assert set(await world.workloads()) == BOTH


async def test_after_a_long_answer_the_role_that_read_its_prompt_stays_as_long(world: ElasticWorld) -> None:
    await begin(world, SLEEPY, SLEEPY)
    await wake(world)
    world.work([3, 0])
    await world.go(100)
    world.work(0)
    await world.go(25)
    assert await world.served() == sorted(BOTH)
    world.work([1, 0])
    await world.go(10)
    assert await world.served() == sorted(BOTH), "the next request finds both"
    world.work(0)
    await world.go(60)
    assert not await world.workloads()


@pytest.mark.parametrize("quick", ["prefill", "decode"])
async def test_roles_with_several_times_sleep_after_the_longest(world: ElasticWorld, quick: str) -> None:
    slow = {**SLEEPY, "scaleToZeroAfterSeconds": 100}
    await begin(world, *((SLEEPY, slow) if quick == "prefill" else (slow, SLEEPY)))
    await wake(world)
    world.work(0)
    await world.go(80)
    assert await world.served() == sorted(BOTH)
    await world.go(60)
    assert not await world.workloads()


@pytest.mark.parametrize("scheduled", ["prefill", "decode"])
async def test_a_schedule_of_one_role_brings_the_other_too(world: ElasticWorld, scheduled: str) -> None:
    up = {**SLEEPY, "schedules": [ALWAYS]}
    await begin(world, *((up, SLEEPY) if scheduled == "prefill" else (SLEEPY, up)))
    await world.go(60)
    assert await world.served() == sorted(BOTH)


async def test_a_role_that_was_left_at_zero_wakes_with_what_the_other_has_to_do(world: ElasticWorld) -> None:
    await begin(world, SMALL, SMALL)
    await world.go(5)
    endpoint = await world.endpoint()
    for one in endpoint.status.scaling:
        one.wanted = int(one.role == "decode")
    await world.store.set_status(endpoint)
    await begin(world, SLEEPY, SLEEPY)
    world.restart_autoscaler()
    world.work([1, 0])
    await world.go(15)
    assert await world.served() == sorted(BOTH)
    reasons = {one.role: one.reason for one in (await world.endpoint()).status.scaling}
    assert reasons["prefill"] == "Together"
