"""What a change is said to replace is what the controller replaces."""

from pathlib import Path
from typing import Any

import pytest

from common.resources import Endpoint, Metadata, Model, Workload
from common.resources.serving import EndpointSpec
from common.settings import Settings
from inference.replacing import in_words, replaced_engines
from tests.unit.inference.endpoint_world import IN_PLACE, PROJECT, World

BESIDE = "one new beside the old one, which goes when the new one answers"


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.make_model()
    await made.apply_model()
    return made


async def serve(world: World, replicas: int, **spec: Any) -> None:
    await world.apply_endpoint(replicas, **spec)
    await world.step()
    for index in range(replicas):
        await world.start(f"chat-{index}")
    await world.step()


async def told(world: World, replicas: int, **spec: Any) -> str:
    """What is said before the change is made."""
    then = await world.endpoint()
    then.spec = EndpointSpec.model_validate({"model": "tiny", "replicas": replicas, **spec})
    model = await world.store.get(Model, "tiny", PROJECT)
    engines = list((await world.workloads()).values())
    return in_words(then, replaced_engines(then, model, None, engines, Settings(home=world.home)))


@pytest.mark.parametrize(
    ("replicas", "then", "said"),
    [
        (1, {}, ""),
        (1, {"priority": 3}, ""),
        (1, {"rollout": {"max_surge": 2}}, ""),
        (1, {"engine": {"args": ["--seed", "1"]}}, f"it has other arguments than are wanted: {BESIDE}"),
        (1, {"engine": {"env": {"A": "b"}}}, f"it has other variables than are wanted: {BESIDE}"),
        (1, {"devices": {"count": 2}}, "other"),
        (1, {"rollout": {"restarted_ms": 1}}, f"a restart was asked for: {BESIDE}"),
        (1, {"served_name": "other"}, "other arguments"),
        (1, {"rollout": IN_PLACE, "engine": {"args": ["x"]}}, "stopped first, so that nobody answers"),
        (3, {"engine": {"args": ["x"]}}, "3 engines are replaced, because"),
        (3, {"rollout": {"max_surge": 2}, "engine": {"args": ["x"]}}, "2 new beside the old ones"),
        (3, {"rollout": IN_PLACE, "engine": {"args": ["x"]}}, "1 of them at a time"),
    ],
)
async def test_what_is_said_is_what_is_done(
    replicas: int, then: dict[str, Any], said: str, world: World
) -> None:
    await serve(world, replicas)
    text = await told(world, replicas, **then)
    assert said in text
    await world.apply_endpoint(replicas, **then)
    await world.step()
    outdated = [one.outdated for one in (await world.endpoint()).status.replicas if one.ready]
    left = replicas - len(outdated)
    assert (any(outdated) or left > 0) is bool(text)


async def test_an_engine_that_answers_nobody_is_replaced_at_once(world: World) -> None:
    await world.apply_endpoint(1)
    await world.step()
    assert (await told(world, 1, engine={"args": ["x"]})).endswith("at once, since it answers nobody")


async def test_another_source_of_the_model_replaces_its_engines(world: World) -> None:
    await serve(world, 1)
    then = Endpoint(
        metadata=Metadata(name="chat", project=PROJECT), spec=EndpointSpec.model_validate({"model": "tiny"})
    )
    model = await world.store.get(Model, "tiny", PROJECT)
    model.spec.source = "other/model"
    engines: list[Workload] = list((await world.workloads()).values())
    [one] = replaced_engines(then, model, None, engines, Settings(home=world.home))
    assert (one.workload, one.answers) == ("chat-0", True)
