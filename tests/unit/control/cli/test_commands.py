"""The commands against a control that is played by a function."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from typer.core import TyperGroup

from common.client import Client
from common.errors import InvalidInput
from common.settings import load_settings
from control.api.writes import parse_documents
from control.cli import main as cli
from control.cli.asking.session import Session
from control.cli.commands import COMMANDS, load

Answer = Callable[[httpx.Request], httpx.Response]
ENDPOINT = {
    "apiVersion": "computility.io/v1alpha1",
    "kind": "Endpoint",
    "metadata": {"name": "tiny", "project": "acme-agents", "createdMs": 1},
    "spec": {"model": "tiny-llama", "replicas": 2},
    "status": {
        "readyReplicas": 1,
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "Starting", "message": "tiny-1 is loading"}
        ],
    },
}


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Answer], list[httpx.Request]]:
    """Install a control that answers as told; returns the requests it gets."""

    def install(answer: Answer) -> list[httpx.Request]:
        seen: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return answer(request)

        def client(session: Session, timeout_seconds: float = 30.0) -> Client:
            return Client("http://control", "ck-test", transport=httpx.MockTransport(handle))

        monkeypatch.setattr(Session, "client", client)
        monkeypatch.setenv("COMPUTILITY_HOME", str(tmp_path))
        return seen

    return install


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    return int(left.value.code or 0)


def items(*documents: object) -> httpx.Response:
    return httpx.Response(200, json={"items": list(documents)})


def checked(request: httpx.Request) -> httpx.Response:
    """What control says of documents before anything else."""
    content = json.loads(request.content)
    try:
        parse_documents(content if isinstance(content, list) else [content])
    except InvalidInput as wrong:
        problems = [{"path": p.path, "message": p.message, "code": p.code} for p in wrong.problems]
        body = {"message": wrong.message, "code": wrong.code, "param": wrong.param, "problems": problems}
        return httpx.Response(400, json={"error": body})
    return items()


def error(status: int, code: str, message: str, param: str | None = None) -> httpx.Response:
    return httpx.Response(
        status, json={"error": {"message": message, "code": code, "param": param, "type": "x"}}
    )


@pytest.mark.parametrize("kind", ["endpoint", "endpoints", "ep", "Endpoint"])
def test_a_kind_may_be_written_in_every_usual_way(
    kind: str, control: Callable[[Answer], list[httpx.Request]], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = control(lambda request: items(ENDPOINT))
    assert run("get", kind) == 0
    assert seen[0].url.path == "/api/v1/endpoints"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["PROJECT", "NAME", "STATUS", "REPLICAS", "MODEL", "MESSAGE", "AGE"]
    assert lines[1].split()[:5] == ["acme-agents", "tiny", "NotReady", "1/2", "tiny-llama"]
    assert all(len(line) <= 100 for line in lines)


def test_json_and_yaml_are_the_documents_themselves(
    control: Callable[[Answer], list[httpx.Request]], capsys: pytest.CaptureFixture[str]
) -> None:
    control(lambda request: items(ENDPOINT))
    assert run("get", "endpoints", "tiny", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == ENDPOINT


def test_an_unknown_kind_is_refused_with_the_list_of_kinds(
    control: Callable[[Answer], list[httpx.Request]], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = control(lambda request: items())
    assert run("get", "pods") == 2
    assert seen == []
    assert "endpoints (ep)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (error(404, "not_found", "there is no Endpoint x"), 4, "there is no Endpoint x"),
        (error(401, "invalid_api_key", "the API key is unknown"), 3, "COMPUTILITY_API_KEY"),
        (error(403, "forbidden", "the role agent may not read Endpoints"), 3, "may not read"),
        (error(409, "conflict", "changed meanwhile"), 5, "changed meanwhile"),
        (error(503, "unavailable", "the store does not answer"), 6, "the store does not answer"),
    ],
)
def test_an_error_is_one_message_and_an_exit_code(
    answer: httpx.Response,
    code: int,
    said: str,
    control: Callable[[Answer], list[httpx.Request]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    control(lambda request: answer)
    assert run("get", "nodes") == code
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown


def test_when_control_is_not_there_it_says_how_to_start_it(
    control: Callable[[Answer], list[httpx.Request]], capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    control(refuse)
    assert run("get", "nodes") == 6
    shown = capsys.readouterr().err
    assert "http://control" in shown
    assert "`computility up`" in shown


def test_apply_tells_what_became_of_each_document(
    tmp_path: Path, control: Callable[[Answer], list[httpx.Request]], capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = ["created", "unchanged"]
    seen = control(lambda r: httpx.Response(200, json={"results": [{"outcome": o} for o in outcomes]}))
    file = tmp_path / "two.yaml"
    file.write_text(tenant("acme") + "---\n" + tenant("zeta"))
    assert run("apply", "-f", str(file), "--dry-run") == 0
    assert [d["metadata"]["name"] for d in json.loads(seen[0].content)] == ["acme", "zeta"]
    assert seen[0].url.params["dryRun"] == "true"
    out = capsys.readouterr().out.splitlines()
    assert out == ["tenant/acme created (dry run)", "tenant/zeta unchanged (dry run)"]


def test_a_mistake_in_a_file_is_named_with_file_document_and_line(
    tmp_path: Path, control: Callable[[Answer], list[httpx.Request]], capsys: pytest.CaptureFixture[str]
) -> None:
    control(checked)
    file = tmp_path / "two.yaml"
    file.write_text(tenant("acme") + "---\n" + tenant("zeta") + "  dispalyName: Zeta\n")
    assert run("apply", "-f", str(file)) == 2
    shown = capsys.readouterr().err
    assert f"{file}:16 (document 2, Tenant/zeta): spec.dispalyName: unknown field" in shown.replace("\n", "")


def test_what_control_refuses_is_named_with_file_and_line_too(
    tmp_path: Path, control: Callable[[Answer], list[httpx.Request]], capsys: pytest.CaptureFixture[str]
) -> None:
    control(lambda r: error(400, "invalid_value", "[1]: metadata.name: taken", "[1].metadata.name"))
    file = tmp_path / "two.yaml"
    file.write_text(tenant("acme") + "---\n" + tenant("zeta"))
    assert run("apply", "-f", str(file)) == 2
    assert f"{file}:13 (document 2, Tenant/zeta): metadata.name: taken" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\n", "not YAML"),
        ("- 1\n", "a resource must be a mapping"),
        ("", "no resources in"),
        ("kind: Pod\n", "kind: 'Pod' is unknown"),
    ],
)
def test_files_that_hold_no_resources(
    text: str,
    said: str,
    tmp_path: Path,
    control: Callable[[Answer], list[httpx.Request]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    control(checked)
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    assert run("apply", "-f", str(file)) == 2
    assert said in capsys.readouterr().err


def test_a_key_is_shown_when_made(
    control: Callable[[Answer], list[httpx.Request]], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = control(lambda request: httpx.Response(201, json={"secret": "ck-once"}))
    assert run("keys", "create", "bot", "-p", "acme-agents", "--model", "tiny") == 0
    assert json.loads(seen[0].content) == {
        "name": "bot",
        "role": "agent",
        "project": "acme-agents",
        "models": ["tiny"],
    }
    assert "ck-once" in capsys.readouterr().out


def test_the_bill_has_a_total_and_leaves_out_meters_nobody_used(
    control: Callable[[Answer], list[httpx.Request]], capsys: pytest.CaptureFixture[str]
) -> None:
    sums = {
        "events": 2,
        "prompt_tokens": 1200,
        "cached_tokens": 0,
        "completion_tokens": 34,
        "trained_tokens": 0,
    }
    sums |= {"device_seconds": 0, "microcredits": 1_234_567, "unpriced_lines": 0}
    report = {"group_by": ["tenant"], "rows": [{"tenant": "acme", **sums}], "total": sums}
    control(lambda request: httpx.Response(200, json=report))
    assert run("usage", "--by", "tenant") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["TENANT", "PROMPT", "COMPLETION", "CREDITS"],
        ["acme", "1,200", "34", "1.234567"],
        ["total", "1,200", "34", "1.234567"],
    ]


def test_the_bill_by_model_shows_what_was_priced_and_what_had_no_price(
    control: Callable[[Answer], list[httpx.Request]], capsys: pytest.CaptureFixture[str]
) -> None:
    sums = dict.fromkeys(("cached_tokens", "completion_tokens", "trained_tokens", "device_seconds"), 0)
    sums |= {"events": 1, "prompt_tokens": 12, "microcredits": 0, "unpriced_lines": 1}
    group = {"model": "cheap-name", "model_identity": "platform/big"}
    report = {"group_by": list(group), "rows": [{**group, **sums}], "total": sums}
    asked = control(lambda request: httpx.Response(200, json=report))
    assert run("usage", "--by", "model") == 0
    assert asked[0].url.params["group_by"] == "model,model_identity"
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [
        ["MODEL", "MODEL", "IDENTITY", "PROMPT", "CREDITS", "WITHOUT", "PRICE"],
        ["cheap-name", "platform/big", "12", "0.000000", "1"],
    ]


def test_wrong_arguments_are_refused_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("get", "nodes", "-o", "xml") == 2
    assert run("up", "--gateway-port", "70000") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for command, row in COMMANDS.items():
        assert run(command, "--help") == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "Usage: computility" in shown
        assert row.summary in shown, f"the table of commands says something else of {command}"
        inner = load(command, row)
        for name in inner.commands if isinstance(inner, TyperGroup) else ():
            assert run(command, name, "--help") == 0
            assert "Example" in capsys.readouterr().out, f"{command} {name}"
        assert "Example" in shown or isinstance(inner, TyperGroup), command


def test_the_key_comes_from_the_option_then_the_environment_then_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cli.json").write_text(json.dumps({"api_key": "ck-kept", "control_url": "http://kept:1"}))
    assert Session.load(tmp_path).credentials.key == "ck-kept"
    assert Session.load(tmp_path).credentials.control_url == "http://kept:1"
    monkeypatch.setenv("COMPUTILITY_API_KEY", "ck-environment")
    assert Session.load(tmp_path).credentials.key == "ck-environment"
    assert Session.load(tmp_path, key="ck-option").credentials.key == "ck-option"
    assert load_settings(home=tmp_path).control_url == Session.load(tmp_path / "none").credentials.control_url


def test_without_a_key_it_says_where_one_would_come_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--home", str(tmp_path), "get", "nodes") == 3
    assert "COMPUTILITY_API_KEY" in capsys.readouterr().err


def tenant(name: str) -> str:
    return f"""# {name}
apiVersion: computility.io/v1alpha1
kind: Tenant
metadata:
  name: {name}
spec:
  displayName: Someone
"""


def test_explain_says_what_a_waiting_workload_waits_for_and_what_helps(
    control: Callable[[Answer], list[httpx.Request]], capsys: pytest.CaptureFixture[str]
) -> None:
    workload = {
        "kind": "Workload",
        "metadata": {"name": "big-0", "project": "acme-agents", "owner": {"kind": "Endpoint", "name": "big"}},
    }
    explanation = {
        "name": "big-0",
        "project": "acme-agents",
        "queue": "default",
        "phase": "Pending",
        "message": "no node fits",
        "attempt": 0,
        "restarts": 0,
        "ranks": [],
        "reasons": [{"code": "TooFewDevices", "message": "1 of 8 devices", "nodes": 3}],
        "remedy": "ask for 1 device",
        "neverFits": True,
        "position": 2,
    }
    paths = {"/api/v1/workloads": {"items": [workload]}, "/api/v1/workloads/big-0/explain": explanation}
    control(lambda request: httpx.Response(200, json=paths[request.url.path]))
    assert run("explain", "big") == 0
    out = capsys.readouterr().out
    for said in (
        "Pending no node fits",
        "place 2",
        "never",
        "ask for 1 device",
        "TooFewDevices",
        "1 of 8 devices",
    ):
        assert said in out


def test_a_project_is_described_with_its_limits(
    control: Callable[[Answer], list[httpx.Request]], capsys: pytest.CaptureFixture[str]
) -> None:
    project = {
        "kind": "Project",
        "metadata": {"name": "search", "resourceVersion": 1, "generation": 1},
        "spec": {"tenant": "acme"},
    }
    rows = [
        {"name": "maxModels", "used": 3, "limit": 7, "origin": "project"},
        {"name": "maxFileBytes", "used": 2**20, "limit": 2**30, "origin": "settings"},
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/limits"):
            return httpx.Response(200, json={"items": rows, "queues": ["small"]})
        return items() if request.url.path.endswith("/events") else httpx.Response(200, json=project)

    control(answer)
    assert run("describe", "project", "search") == 0
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "maxModels 3 7 project" in shown
    assert "maxFileBytes 1.0 MiB 1.0 GiB settings" in shown
    assert "Queues: small" in shown
