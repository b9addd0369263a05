"""Engines on several nodes: how they are divided, which ranks they have, and what each rank is told."""

from typing import Any

import pytest
from pydantic import ValidationError

from common.environment import take_from_process
from common.resources import Endpoint, Metadata, Model
from common.resources.serving import EndpointSpec, ModelSpec
from common.resources.workload import WorkloadRole
from common.settings import EngineSettings
from inference.core.engine_command import EngineOptions, engine_command
from inference.engine_rank import VARIABLES, rank_arguments
from inference.engine_workload import engine_workload, replica_of

H100 = {"vendors": ["nvidia"], "count": 8}
CPU = {"vendors": ["cpu"], "count": 4}


def parallelism(**options: Any) -> dict[str, str]:
    command = engine_command(EngineOptions("/m", "m", **options)).command
    flags = ("--tensor-parallel-size", "--pipeline-parallel-size")
    return {flag: command[command.index(flag) + 1] for flag in flags if flag in command}


def roles_of(role: Any = "", **spec: Any) -> list[WorkloadRole]:
    metadata = Metadata(name="chat", project="lab", uid="end-1")
    endpoint = Endpoint(metadata=metadata, spec=EndpointSpec.model_validate({"model": "big", **spec}))
    model = Model(metadata=Metadata(name="big", project="lab"), spec=ModelSpec(source="/models/big"))
    return engine_workload(endpoint, model, 0, EngineSettings(), role).spec.roles


@pytest.mark.parametrize(
    ("options", "tensor", "pipeline"),
    [
        ({}, None, None),
        ({"shards": True, "devices": 8}, "$(DEVICES)", None),
        ({"nodes": 2, "shards": True, "devices": 8}, "$(DEVICES)", "2"),
        ({"nodes": 3}, None, "3"),
        ({"nodes": 2, "cpu_only": True, "shards": True}, "2", None),
        ({"nodes": 2, "cpu_only": True, "pipeline_stages": 2}, None, "2"),
        ({"cpu_only": True, "shards": True}, None, None),
        ({"nodes": 2, "shards": True, "devices": 8, "pipeline_stages": 1}, "16", None),
        ({"nodes": 2, "shards": True, "devices": 8, "pipeline_stages": 4}, "4", "4"),
        ({"nodes": 2, "shards": True, "devices": 8, "pipeline_stages": 2}, "$(DEVICES)", "2"),
        ({"shards": True, "devices": 8, "pipeline_stages": 4}, "2", "4"),
        ({"shards": True, "devices": 8, "pipeline_stages": 8}, "1", "8"),
    ],
)
def test_layers_are_divided_among_nodes_and_shared_within_them(
    options: dict[str, Any], tensor: str | None, pipeline: str | None
) -> None:
    wanted = {"--tensor-parallel-size": tensor, "--pipeline-parallel-size": pipeline}
    assert parallelism(**options) == {flag: value for flag, value in wanted.items() if value is not None}


def test_one_rank_serves_and_the_others_work_for_it() -> None:
    serving, workers = roles_of(nodes=3, devices=H100, engine={"args": ["--seed", "3"]})
    assert (serving.name, serving.replicas, workers.name, workers.replicas) == ("engine", 1, "worker", 2)
    assert serving.readiness is not None
    assert workers.readiness is None, "it has no port to be asked at"
    assert (serving.ports, workers.ports) == (["http"], [])
    assert serving.devices == workers.devices
    assert serving.env == workers.env
    assert serving.command[:7] == [
        *("$(PYTHON)", "-m", "inference.engine_rank"),
        *("--host", "$(ADDRESS)", "--port", "$(PORT:http)"),
    ]
    assert workers.command == [*serving.command[:3], *serving.command[7:]], "they are told the same model"
    assert serving.command[-2:] == ["--seed", "3"]


def test_an_engine_on_one_node_is_started_as_ever() -> None:
    [role] = roles_of(devices=H100)
    assert role.command[:3] == ["$(PYTHON)", "-m", "vllm.entrypoints.openai.api_server"]


def test_engines_of_each_role_may_be_wide() -> None:
    spec = {
        "mode": "disaggregated",
        "prefill": {"devices": H100},
        "decode": {"devices": H100, "nodes": 2},
        "engine": {"pipelineStages": 1},
    }
    [reads] = roles_of("prefill", **spec)
    writes, workers = roles_of("decode", **spec)
    assert (reads.name, writes.name, workers.name) == ("prefill", "decode", "worker")
    assert (writes.ports, workers.ports) == (["http", "kv"], ["kv"]), "each rank hands over its part"
    assert workers.env["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "$(PORT:kv)"


def test_a_replica_is_the_rank_that_serves() -> None:
    metadata = Metadata(name="chat", project="lab", uid="end-1")
    spec = EndpointSpec.model_validate({"model": "big", "nodes": 2, "devices": H100})
    model = Model(metadata=Metadata(name="big", project="lab"), spec=ModelSpec(source="/models/big"))
    workload = engine_workload(Endpoint(metadata=metadata, spec=spec), model, 0, EngineSettings())
    ranks = [
        {"rank": 1, "role": "worker", "replica": 0, "node": "n2", "state": "Running", "address": "10.0.0.2"},
        {
            "rank": 0,
            "role": "engine",
            "replica": 0,
            "node": "n1",
            "state": "Ready",
            "address": "10.0.0.1",
            "ports": {"http": 8000},
        },
    ]
    status = {**workload.status.to_dict(), "phase": "Ready", "ranks": ranks}
    found = replica_of(workload.model_validate({**workload.to_dict(), "status": status}))
    assert (found.ready, found.url, found.role) == (True, "http://10.0.0.1:8000", "")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"nodes": 0}, "greater than or equal to 1"),
        ({"nodes": 2, "mode": "auto"}, "nodes: leave it out in mode auto"),
        ({"nodes": 65}, "less than or equal to 64"),
        ({"nodes": 2, "devices": {"shareMillis": 500}}, "nodes: an engine on 2 nodes needs whole devices"),
        (
            {"nodes": 2, "devices": H100, "engine": {"pipelineStages": 3}},
            "engine.pipelineStages: 3 does not divide the 16 devices of an engine (nodes x devices.count)",
        ),
        (
            {"nodes": 2, "devices": CPU, "engine": {"pipelineStages": 4}},
            "engine.pipelineStages: 4 does not divide the 2 devices",
        ),
        (
            {"devices": {"equivalence": {"tflops": 900}}, "engine": {"pipelineStages": 2}},
            "leave it out where devices.equivalence says how many",
        ),
        (
            {"mode": "disaggregated", "nodes": 2, "prefill": {"devices": H100}, "decode": {"devices": H100}},
            "nodes: leave it out in mode disaggregated",
        ),
        (
            {
                "mode": "disaggregated",
                "prefill": {"devices": H100},
                "engine": {"pipelineStages": 8},
                "decode": {"devices": {**H100, "count": 2}},
            },
            "engine.pipelineStages: set it to 1, not 8: engines that hand KV caches over",
        ),
        (
            {"mode": "disaggregated", "prefill": {"devices": H100}, "decode": {"devices": H100, "nodes": 2}},
            "cannot divide layers among stages (decode.nodes: 2)",
        ),
        ({"nodes": 2}, "devices.vendors: name one vendor for an engine on 2 nodes"),
        ({"nodes": 2, "devices": {"vendors": ["nvidia", "ascend"]}}, "devices.vendors: name one vendor"),
        (
            {"nodes": 2, "devices": {"vendors": ["nvidia"], "equivalence": {"tflops": 900}}},
            "devices.models: name one model for an engine on 2 nodes",
        ),
        (
            {
                "mode": "disaggregated",
                "prefill": {"devices": H100},
                "decode": {"devices": {**H100, "models": ["H100"], "count": 1}, "nodes": 2},
            },
            "set it to 1, not 2",
        ),
    ],
)
def test_what_cannot_be_divided_is_refused(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        EndpointSpec.model_validate({"model": "big", **spec})
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "spec",
    [
        {"nodes": 2, "devices": {"vendors": ["nvidia", "nvidia"]}},
        {"nodes": 2, "devices": {"vendors": ["nvidia"], "models": ["H100"], "equivalence": {"tflops": 900}}},
        {"nodes": 2, "devices": {"vendors": ["cpu"], "count": 0}},
        {"mode": "disaggregated", "prefill": {"devices": CPU}, "decode": {"devices": CPU, "nodes": 2}},
    ],
)
def test_what_fits_together_is_taken(spec: dict[str, Any]) -> None:
    assert EndpointSpec.model_validate({"model": "big", **spec}).engine_ranks >= 2


def test_each_rank_is_told_which_one_it_is() -> None:
    place = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    place |= {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "7"}
    flags = ["--nnodes", "2", "--node-rank", "0", "--master-addr", "10.0.0.1", "--master-port", "7"]
    assert rank_arguments(["--model", "m"], place) == ["--model", "m", *flags]
    flags[3] = "1"
    assert rank_arguments([], {**place, "RANK": "1"}) == [*flags, "--headless"]


def test_workers_of_a_rank_number_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    place = dict.fromkeys(VARIABLES, "1")
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    assert take_from_process(VARIABLES) == place
    with pytest.raises(KeyError, match="RANK"):
        take_from_process(VARIABLES)
