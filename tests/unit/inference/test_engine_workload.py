"""The Workload of an engine, whole: what the scheduler is asked to run, and under which name."""

from typing import Any

import pytest

from common.errors import InvalidInput
from common.resources import Endpoint, Metadata, Model, Workload
from common.resources.meta import Owner
from common.resources.pool import DeviceRequest
from common.resources.scaling import EngineRole
from common.resources.serving import EndpointSpec, ModelSpec
from common.resources.workload import Readiness, RestartPolicy, WorkloadRole, WorkloadSpec
from common.settings import EngineSettings
from inference.engine_workload import engine_workload, workload_name

SETTINGS = EngineSettings(start_timeout_seconds=77, cpu_kv_cache_gib=3)
H100 = {"vendors": ["nvidia"], "count": 2}


def endpoint(**spec: Any) -> Endpoint:
    made = {"model": "tiny", "queue": "serving", "priority": 7, "servedName": "small", **spec}
    metadata = Metadata(name="chat", project="lab", uid="end-1")
    return Endpoint(metadata=metadata, spec=EndpointSpec.model_validate(made))


def model(*tasks: Any, source: str = "$(HOME_DIR)/models/tiny") -> Model:
    spec: dict[str, Any] = {"source": source, **({"tasks": list(tasks)} if tasks else {})}
    return Model(metadata=Metadata(name="tiny", project="hub"), spec=ModelSpec.model_validate(spec))


def pair(**prefill: Any) -> Endpoint:
    return endpoint(
        mode="disaggregated",
        prefill={"replicas": 1, "devices": H100, **prefill},
        decode={"replicas": 1, "devices": {**H100, "count": 1}},
    )


def role_of(workload: Workload) -> WorkloadRole:
    [role] = workload.spec.roles
    return role


def test_an_engine_is_asked_for_whole() -> None:
    made = engine_workload(endpoint(replicas=1, devices=H100), model(), 3, SETTINGS)
    role = role_of(made)
    assert made.metadata == Metadata(
        name="chat-3",
        project="lab",
        labels={
            "computility.io/model": "small",
            "computility.io/model-identity": "hub/tiny",
            "computility.io/endpoint": "chat",
        },
        owner=Owner(kind="Endpoint", name="chat", uid="end-1"),
    )
    assert made.spec == WorkloadSpec(
        queue="serving",
        priority=7,
        kind="inference",
        restart=RestartPolicy(policy="Always", max_crashes=20, backoff_max_seconds=300.0),
        roles=[
            WorkloadRole(
                name="engine",
                command=role.command,
                env=role.env,
                ports=["http"],
                devices=DeviceRequest.model_validate(H100),
                readiness=Readiness(port="http", path="/health", start_timeout_seconds=77),
            )
        ],
    )


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_an_engine_of_a_pair_says_which_of_them_it_is(role: EngineRole) -> None:
    made = engine_workload(pair(), model(), 0, SETTINGS, role)
    assert made.name == workload_name(endpoint(), 0, role) == f"chat-{role}-0"
    assert made.metadata.labels["computility.io/engine-role"] == role
    found = role_of(made)
    assert (found.name, found.ports) == (role, ["http", "kv"])
    assert found.devices.count == (2 if role == "prefill" else 1)


def told(workload: Workload, option: str) -> str | None:
    command = role_of(workload).command
    return command[command.index(option) + 1] if option in command else None


def test_what_is_asked_for_reaches_the_command() -> None:
    spec = {
        "maxContextTokens": 512,
        "maxAdapters": 3,
        "maxAdapterRank": 32,
        "args": ["--all"],
        "env": {"A": "b"},
    }
    made = engine_workload(endpoint(replicas=1, devices=H100, engine=spec), model(), 0, SETTINGS)
    assert told(made, "--max-model-len") == "512"
    assert (told(made, "--max-loras"), told(made, "--max-lora-rank")) == ("3", "32")
    assert told(made, "--served-model-name") == "small"
    assert role_of(made).command[-1] == "--all"
    assert role_of(made).env["A"] == "b"
    both = engine_workload(pair(args=["--first"]), model(), 0, SETTINGS, "prefill")
    assert role_of(both).command[-1] == "--first"


def test_a_model_for_embeddings_takes_no_adapters_and_no_pair() -> None:
    made = engine_workload(endpoint(replicas=1, engine={"maxAdapters": 3}), model("embeddings"), 0, SETTINGS)
    assert told(made, "--max-loras") is None
    for tasks, allowed in ((["embeddings"], False), (["chat", "embeddings"], True)):
        if allowed:
            assert engine_workload(pair(), model(*tasks), 0, SETTINGS, "decode")
            continue
        with pytest.raises(InvalidInput, match=r"spec\.mode: tiny makes embeddings"):
            engine_workload(pair(), model(*tasks), 0, SETTINGS, "decode")


@pytest.mark.parametrize(
    ("devices", "shards"),
    [
        ({"vendors": ["nvidia"]}, False),
        (H100, True),
        ({"vendors": ["cpu"], "count": 2}, False),
        ({"vendors": ["cpu", "nvidia"], "count": 2}, True),
    ],
)
def test_accelerators_share_a_model_and_processors_do_not(devices: dict[str, Any], shards: bool) -> None:
    made = engine_workload(endpoint(replicas=1, devices=devices), model(), 0, SETTINGS)
    assert told(made, "--tensor-parallel-size") == ("$(DEVICES)" if shards else None)
    assert role_of(made).env["VLLM_CPU_KVCACHE_SPACE"] == "3"


@pytest.mark.parametrize(
    ("source", "offline"), [("$(HOME_DIR)/models/tiny", "1"), ("organisation/model", None)]
)
def test_only_a_model_that_is_not_here_may_be_fetched(source: str, offline: str | None) -> None:
    made = engine_workload(endpoint(replicas=1), model(source=source), 0, SETTINGS)
    assert role_of(made).env.get("HF_HUB_OFFLINE") == offline
    assert told(made, "--model") == source


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_engines_of_all_roles_send_their_spans_where_they_are_told(role: EngineRole) -> None:
    made = engine_workload(pair(), model(), 0, SETTINGS, role, "http://collector/v1/traces")
    assert told(made, "--otlp-traces-endpoint") == "http://collector/v1/traces"
    assert told(engine_workload(pair(), model(), 0, SETTINGS, role), "--otlp-traces-endpoint") is None
