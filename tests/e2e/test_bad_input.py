"""What people get wrong, against the real platform: each mistake is told clearly, nothing is lost, and
nothing is billed.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import yaml

from common.resources.meta import API_VERSION
from tests.fixtures.platform import Running
from tests.fixtures.probe import Probe, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MESSAGES: Any = [{"role": "user", "content": "What is a watt?"}]
EXAMPLE = {"messages": [*MESSAGES, {"role": "assistant", "content": "A joule per second."}]}
MIB = 1024**2
INVALID_INPUT, NOT_FOUND, CONFLICT = 2, 4, 5
"""Exit codes."""


@pytest.fixture(scope="module")
def platform(running_platform: Running) -> Iterator[Probe]:
    probe = Probe(running_platform)
    yield probe
    probe.close()


@pytest.fixture(scope="module")
def client(platform: Probe) -> Iterator[Any]:
    """A member whose bill must be empty in the end: whatever was refused costs nothing."""
    yield platform.member("careless")
    platform.wait_posted()
    assert platform.billed("careless")["requests"] == 0


@pytest.fixture(scope="module")
def stranger(platform: Probe) -> Any:
    """A member of another tenant."""
    tenant = {"apiVersion": API_VERSION, "kind": "Tenant", "metadata": {"name": "others"}, "spec": {}}
    project = {**tenant, "kind": "Project", "metadata": {"name": "elsewhere"}, "spec": {"tenant": "others"}}
    platform.admin.apply_all([tenant, project])
    return platform.member("stranger", project="elsewhere")


def chat(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(**{"messages": MESSAGES, "max_tokens": 4, **options})


# Requests to models


def test_an_unknown_model_is_not_found(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        chat(client, model="gpt-none")
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    assert "gpt-none" in raised.value.message


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer ck-nobody"}], ids=["missing", "unknown"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/files"])
def test_without_a_key_that_is_known_nothing_is_served(
    platform: Probe, headers: dict[str, str], path: str
) -> None:
    method = "POST" if "chat" in path else "GET"
    answer = httpx.request(method, platform.url + path, headers=headers, trust_env=False)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_nobody_reaches_the_engine_past_the_gateway(platform: Probe) -> None:
    """On a single machine all that an engine listens on is loopback."""
    sockets = [c for p in platform.rank_processes(f"{platform.endpoint}-0") for c in p.net_connections("tcp")]
    listening = {c.laddr.ip for c in sockets if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_a_revoked_key_ends(platform: Probe) -> None:
    client = platform.member("revoked")
    platform.admin.revoke_key("revoked")
    with pytest.raises(openai.AuthenticationError):
        client.files.list()

    def is_refused() -> bool:
        try:
            client.models.list()
        except openai.AuthenticationError:
            return True
        return False

    eventually(is_refused, seconds=10)
    with pytest.raises(openai.AuthenticationError):
        chat(client, model=platform.model)


def test_another_tenants_model_does_not_exist(platform: Probe, client: Any, stranger: Any) -> None:
    assert platform.model in [model.id for model in client.models.list()]
    assert platform.model not in [model.id for model in stranger.models.list()]
    with pytest.raises(openai.NotFoundError) as hidden:
        chat(stranger, model=platform.model)
    with pytest.raises(openai.NotFoundError) as absent:
        chat(stranger, model="gpt-none")
    assert hidden.value.message.replace(platform.model, "gpt-none") == absent.value.message
    with pytest.raises(openai.NotFoundError):
        stranger.models.retrieve(platform.model)


def test_another_tenants_file_does_not_exist(platform: Probe, client: Any, stranger: Any) -> None:
    data = "\n".join([json.dumps(EXAMPLE)] * 10).encode()
    kept = client.files.create(file=("mine.jsonl", data), purpose="fine-tune")
    assert stranger.files.list().data == []
    for ask in (stranger.files.retrieve, stranger.files.content, stranger.files.delete):
        with pytest.raises(openai.NotFoundError):
            ask(kept.id)
    assert client.files.content(kept.id).read() == data
    client.files.delete(kept.id)


def test_malformed_json_is_refused_with_its_position(platform: Probe, client: Any) -> None:
    answer = httpx.post(
        f"{platform.url}/v1/chat/completions",
        content=b'{"model": "tiny",\n "messages": [}',
        headers={"Authorization": f"Bearer {client.api_key}", "Content-Type": "application/json"},
        trust_env=False,
    )
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "invalid_json"
    assert "line 2, column 15" in error["message"]


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"messages": "hello"}, "messages"),
        ({"messages": []}, "messages"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": "high"}, "top_p"),
    ],
)
def test_a_wrong_field_is_named(platform: Probe, client: Any, wrong: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        chat(client, model=platform.model, **wrong)
    assert raised.value.param == param
    assert param in raised.value.message


@pytest.mark.parametrize("stream", [False, True])
def test_max_tokens_beyond_the_context_is_refused(platform: Probe, client: Any, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        chat(client, model=platform.model, max_tokens=1_000_000, stream=stream)
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "max_tokens")


def test_a_prompt_beyond_the_context_is_refused(platform: Probe, client: Any) -> None:
    long = [{"role": "user", "content": "watt " * 9000}]
    with pytest.raises(openai.BadRequestError) as raised:
        chat(client, model=platform.model, messages=long)
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "messages")


def test_a_body_over_the_limit_is_refused(platform: Probe, client: Any) -> None:
    limit = platform.settings.gateway.body_limit_bytes
    huge = [{"role": "user", "content": "x" * (limit + MIB)}]
    with pytest.raises(openai.APIStatusError) as raised:
        chat(client, model=platform.model, messages=huge)
    assert raised.value.status_code == 413
    assert str(limit) in raised.value.message


# Training data


def test_every_bad_line_of_a_training_file_is_listed(platform: Probe, client: Any) -> None:
    good = json.dumps(EXAMPLE)
    lines = [good] * 14
    lines[2] = "{not json"
    lines[6] = json.dumps({"messages": [{"role": "robot", "content": "beep"}]})
    lines[10] = json.dumps({"prompt": "old style"})
    file = client.files.create(file=("bad.jsonl", "\n".join(lines).encode()), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError) as raised:
        client.fine_tuning.jobs.create(model=platform.model, training_file=file.id)
    assert raised.value.param == "training_file"
    body = raised.value.body
    assert isinstance(body, dict)
    assert {problem["path"] for problem in body["problems"]} == {"line 3", "line 7", "line 11"}
    assert all(number in raised.value.message for number in ("line 3", "line 7", "line 11"))
    assert file.id not in [job.training_file for job in client.fine_tuning.jobs.list().data]
    client.files.delete(file.id)


# Resources


def workload(name: str, project: str, **role: Any) -> dict[str, Any]:
    """A workload of one role."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Workload",
        "metadata": {"name": name, "project": project},
        "spec": {"roles": [{"name": "main", "command": ["sleep", "600"], **role}]},
    }


def apply(platform: Probe, tmp_path: Path, document: dict[str, Any]) -> tuple[int, str]:
    """`computility apply` of one document; exit code and what it said about it."""
    file = tmp_path / "resource.yaml"
    file.write_text(yaml.safe_dump(document))
    done = platform.cli("apply", "-f", str(file))
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_devices_that_nobody_has_are_waited_for_with_reasons(platform: Probe, tmp_path: Path) -> None:
    wish = workload("wishful", platform.project, devices={"count": 8, "vendors": ["nvidia"]})
    code, said = apply(platform, tmp_path, wish)
    assert code == 0, said
    eventually(lambda: bool(platform.workload("wishful")["status"].get("pending")))
    assert platform.workload("wishful")["status"]["phase"] == "Pending"
    told = platform.cli("explain", "wishful", "-p", platform.project)
    assert told.returncode == 0
    assert "Pending" in told.stdout
    assert "nvidia" in told.stdout
    answer = platform.admin.explain("wishful", platform.project)
    assert answer["neverFits"]
    assert answer["reasons"]
    assert answer["remedy"]
    platform.admin.delete("workloads", "wishful", platform.project)


@pytest.mark.parametrize(
    ("role", "path"),
    [
        ({"gpus": 2}, "spec.roles[0].gpus"),
        ({"devices": {"count": "two"}}, "spec.roles[0].devices.count"),
        ({"devices": {"count": -1}}, "spec.roles[0].devices.count"),
    ],
    ids=["unknown field", "wrong type", "out of range"],
)
def test_a_wrong_resource_is_refused_naming_the_path(
    platform: Probe, tmp_path: Path, role: dict[str, Any], path: str
) -> None:
    code, said = apply(platform, tmp_path, workload("wrong", platform.project, **role))
    assert code == INVALID_INPUT
    assert path in said
    assert "resource.yaml:" in said
    assert "wrong" not in [item["metadata"]["name"] for item in platform.admin.list("workloads")]


def test_a_stale_resource_version_is_refused(platform: Probe, tmp_path: Path) -> None:
    first = platform.admin.get("queues", "default")
    edited = {**first, "spec": {"defaultPriority": 1}}
    edited.pop("status")
    platform.admin.apply(edited)
    code, said = apply(platform, tmp_path, {**edited, "spec": {"defaultPriority": 2}})
    assert code == CONFLICT
    assert "resourceVersion" in said
    now = platform.admin.get("queues", "default")
    assert now["spec"]["defaultPriority"] == 1
    edited["metadata"] = {"name": "default"}
    platform.admin.apply({**edited, "spec": first["spec"]})


def test_a_reference_that_leads_nowhere_names_its_path(platform: Probe, tmp_path: Path) -> None:
    document = workload("lost", platform.project)
    document["spec"]["queue"] = "express"
    code, said = apply(platform, tmp_path, document)
    assert code == INVALID_INPUT
    assert "spec.queue" in said
    assert "express" in said
