"""KV caches in host memory: what is refused, what engines are started with, what the scheduler is asked."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from common.resources.serving import EndpointSpec
from common.units import GIB
from common.vocabulary import MAX_NUMBER
from tests.unit.inference.endpoint_world import World

NVIDIA = {"vendors": ["nvidia"]}
CACHE = {"hostMemoryBytes": 8 * GIB}


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.make_model()
    await made.apply_model()
    return made


def transfer(command: list[str]) -> Any:
    return json.loads(command[command.index("--kv-transfer-config") + 1])


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"devices": {"vendors": ["cpu"]}}, "engines on cpu keep no KV caches in host memory"),
        ({"devices": {"vendors": ["ascend", "nvidia"]}}, "engines on ascend keep no"),
        ({}, "devices.vendors: name them with kvCache, of nvidia, amd"),
        ({"devices": NVIDIA, "nodes": 2}, "kvCache: is for engines on one node, not 2"),
        ({"devices": NVIDIA, "kvCache": {"hostMemoryBytes": 1000}}, "greater than or equal to 67108864"),
        (
            {"devices": {**NVIDIA, "hostMemoryBytes": MAX_NUMBER - GIB}},
            "kvCache.hostMemoryBytes: with devices.hostMemoryBytes at most 1000000000000000",
        ),
        ({"devices": NVIDIA, "kvCache": {}}, "Field required"),
        ({"devices": NVIDIA, "kvCache": {**CACHE, "diskBytes": 1}}, "Extra inputs"),
        (
            {
                "mode": "disaggregated",
                "prefill": {"devices": NVIDIA},
                "decode": {"devices": {**NVIDIA}, "nodes": 2},
                "engine": {"pipelineStages": 1},
            },
            r"decode.nodes",
        ),
    ],
)
def test_where_it_cannot_be_it_is_refused(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        EndpointSpec.model_validate({"model": "tiny", "kvCache": CACHE, **spec})


async def test_its_memory_is_the_engines_and_the_schedulers(world: World) -> None:
    devices = {**NVIDIA, "hostMemoryBytes": GIB}
    await world.apply_endpoint(devices=devices, kvCache=CACHE)
    await world.step()
    (role,) = (await world.workloads())["chat-0"].spec.roles
    assert role.devices.host_memory_bytes == 9 * GIB
    assert transfer(role.command) == {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"cpu_bytes_to_use": 8 * GIB},
        "kv_load_failure_policy": "recompute",
    }
    await world.apply_endpoint(devices=devices)
    await world.step()
    (role,) = (await world.workloads())["chat-0"].spec.roles
    assert role.devices.host_memory_bytes == GIB
    assert "--kv-transfer-config" not in role.command


async def test_engines_that_hand_caches_over_keep_them_too(world: World) -> None:
    roles: dict[str, Any] = {"prefill": {"devices": NVIDIA}, "decode": {"devices": NVIDIA}}
    await world.apply_endpoint(mode="disaggregated", kvCache=CACHE, **roles)
    await world.step()
    for workload in (await world.workloads()).values():
        (role,) = workload.spec.roles
        told = transfer(role.command)
        assert told["kv_connector"] == "MultiConnector"
        inner = [one["kv_connector"] for one in told["kv_connector_extra_config"]["connectors"]]
        assert inner == ["NixlConnector", "OffloadingConnector"]
        assert role.devices.host_memory_bytes == 8 * GIB
        assert "kv" in role.ports


async def test_engines_of_embeddings_have_none_to_keep(world: World) -> None:
    await world.apply_model(tasks=["embeddings"])
    await world.apply_endpoint(devices=NVIDIA, kvCache=CACHE)
    await world.step()
    (role,) = (await world.workloads())["chat-0"].spec.roles
    assert role.devices.host_memory_bytes == 0
    assert "--kv-transfer-config" not in role.command
