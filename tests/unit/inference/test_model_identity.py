"""An engine is billed as the Model that it was started with."""

from pathlib import Path

import pytest

from common.resources import Metadata, Model
from common.resources.serving import ModelSpec
from tests.unit.inference.endpoint_world import PROJECT, World


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.make_model()
    await made.apply_model()
    return made


async def test_an_engine_tells_the_model_that_it_was_started_with(world: World) -> None:
    """Two Models of one source make the same command; still each is billed as itself."""
    await world.apply_endpoint()
    await world.step()
    await world.start("chat-0")
    await world.step()
    before = (await world.workloads())["chat-0"].metadata.uid
    assert (await world.endpoint()).status.replicas[0].model_identity == "lab/tiny"
    spec = ModelSpec(source="$(HOME_DIR)/models/tiny")
    await world.store.apply(Model(metadata=Metadata(name="twin", project=PROJECT), spec=spec))
    await world.apply_endpoint(model="twin", servedName="tiny")
    await world.step(4)
    workload = (await world.workloads())["chat-1"]
    assert workload.metadata.uid != before
    assert workload.metadata.labels["computility.io/model-identity"] == "lab/twin"


async def test_an_engine_keeps_its_model_when_its_endpoint_names_one_that_cannot_be_started(
    world: World,
) -> None:
    await world.apply_endpoint()
    await world.step()
    await world.start("chat-0")
    await world.apply_endpoint(model="not-there")
    await world.step()
    (replica,) = (await world.endpoint()).status.replicas
    assert (replica.ready, replica.model_identity) == (True, "lab/tiny")


async def test_an_engine_from_before_its_model_was_noted_is_not_restarted(world: World) -> None:
    await world.apply_endpoint()
    await world.step()
    await world.start("chat-0")
    workload = (await world.workloads())["chat-0"]
    before = workload.metadata.uid
    del workload.metadata.labels["computility.io/model-identity"]
    await world.store.apply(workload)
    await world.step()
    workload = (await world.workloads())["chat-0"]
    assert workload.metadata.uid == before
    assert workload.metadata.labels["computility.io/model-identity"] == "lab/tiny"
