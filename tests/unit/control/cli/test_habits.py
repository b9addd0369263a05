"""What hands know from other command lines works, or is answered with what does it here."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from control.cli.asking.kinds import _ELSEWHERE, kind_named
from control.cli.commands import COMMANDS, INSTEAD
from tests.unit.control.cli.test_commands import ENDPOINT, Answer, control, items, run
from tests.unit.control.cli.test_get import Install, workload

__all__ = ["control"]
pytestmark = pytest.mark.unit
ENGINE = workload("tiny-0", "acme-agents")
ENGINE["metadata"]["owner"] = {"kind": "Endpoint", "name": "tiny", "uid": "u"}
MOMENT = {"lastTransitionMs": 1, "message": ""}
SETTLED: dict[str, Any] = {
    **ENDPOINT,
    "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Ready", **MOMENT}]},
}
OTHER = workload("tiny", "acme-agents")


def answering(**paths: Any) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        found = paths.get(request.url.path.removeprefix("/api/v1/").replace("/", "_").replace("-", "_"))
        return found if isinstance(found, httpx.Response) else items(*(found or ()))

    return answer


@pytest.mark.parametrize("words", [["ep", "tiny"], ["ep/tiny"]])
@pytest.mark.parametrize("command", ["describe", "events", "get"])
def test_kind_and_name_may_be_one_word(
    command: str, words: list[str], control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    event = {
        "atMs": 1,
        "level": "info",
        "reason": "Ready",
        "kind": "Endpoint",
        "name": "tiny",
        "message": "it is",
    }
    seen = control(answering(endpoints=[SETTLED], events=[{**event, "timeMs": 1, "project": "acme-agents"}]))
    assert run(command, *words) == 0
    assert "tiny" in capsys.readouterr().out
    asked = [request.url for request in seen]
    if command == "events":
        assert dict(asked[0].params)["kind"] == "Endpoint"
        assert dict(asked[0].params)["name"] == "tiny"


@pytest.mark.parametrize(
    ("named", "read"),
    [("tiny-0", "tiny-0"), ("wl/tiny-0", "tiny-0"), ("ep/tiny", "tiny-0"), ("wl/tiny", "tiny")],
)
def test_logs_are_asked_for_by_either_name(
    named: str, read: str, control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/logs"):
            return httpx.Response(200, text="said\n")
        return items(ENGINE, OTHER)

    seen = control(answer)
    assert run("logs", named) == 0
    assert capsys.readouterr().out == "said\n"
    assert seen[-1].url.path == f"/api/v1/workloads/{read}/logs"


@pytest.mark.parametrize("words", [["ep", "tiny"], ["ep/tiny"]])
def test_an_endpoint_is_explained_by_kind_and_name(
    words: list[str], control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    control(
        lambda request: (
            items(SETTLED)
            if request.url.path.endswith("/endpoints")
            else httpx.Response(200, json={"name": "tiny", "roles": []})
        )
    )
    assert run("explain", *words) == 0
    assert "acme-agents/tiny" in capsys.readouterr().out


def test_an_endpoint_without_a_workload_is_explained_by_itself(
    control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/workloads"):
            return items()
        if request.url.path.endswith("/endpoints"):
            return items(SETTLED)
        return httpx.Response(200, json={"name": "tiny", "roles": []})

    control(answer)
    assert run("explain", "tiny") == 0
    assert "acme-agents/tiny" in capsys.readouterr().out
    assert run("explain", "nope") == 4


def test_several_are_deleted_by_their_names_or_none(
    control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return items(ENGINE, OTHER) if request.method == "GET" else httpx.Response(200, json=OTHER)

    seen = control(answer)
    assert run("delete", "wl", "tiny-0", "tiny") == 0
    assert capsys.readouterr().out == "workload/tiny-0 deleted\nworkload/tiny deleted\n"
    del seen[:]
    assert run("delete", "wl", "tiny-0", "nope") == 4
    assert [request.method for request in seen if request.method != "GET"] == []


def test_a_namespace_is_a_project(control: Install) -> None:
    seen = control(answering(endpoints=[ENDPOINT]))
    for option in ("-n", "--namespace", "-p", "--project"):
        assert run("get", "ep", option, "acme-agents") == 0
    assert {request.url.params["project"] for request in seen} == {"acme-agents"}


def test_waiting_takes_a_path_as_kubectl_has_it(control: Install) -> None:
    control(answering(endpoints=[ENDPOINT]))
    assert run("wait", "ep/tiny", "--for=jsonpath={.spec.replicas}=2", "--timeout", "1s") == 0


@pytest.mark.parametrize("typed", INSTEAD)
def test_a_command_of_elsewhere_is_answered_with_what_does_it_here(
    typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed not in COMMANDS
    assert run(typed) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert INSTEAD[typed].strip() in said


@pytest.mark.parametrize("typed", _ELSEWHERE)
def test_what_is_no_kind_is_answered_with_where_it_is(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("get", typed) == 2
    assert _ELSEWHERE[typed] in capsys.readouterr().err


def test_no_kind_is_called_like_what_is_none() -> None:
    for name in _ELSEWHERE:
        with pytest.raises(Exception, match="there is no kind"):
            kind_named(name)


@pytest.mark.parametrize("command", ["keys", "files", "finetunes", "config", "jobs", "rollout"])
def test_groups_of_commands_offer_no_completion_of_their_own(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, "--help") == 0
    assert "completion" not in capsys.readouterr().out


def test_what_is_odd_about_a_document_is_told_beside_the_outcome(
    tmp_path: Path, control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "q.yaml"
    document = {"apiVersion": "computility.io/v1alpha1", "kind": "Queue", "metadata": {"name": "q"}}
    file.write_text(yaml.safe_dump({**document, "spec": {"parent": "nobody"}}))
    result = {
        "outcome": "created",
        "resource": document,
        "warnings": ["spec.parent: there is no Queue nobody"],
    }
    control(lambda request: httpx.Response(200, json={"results": [result]}))
    assert run("apply", "-f", str(file)) == 0
    shown = capsys.readouterr()
    assert shown.out == "queue/q created\n"
    assert "warning: " in shown.err
    assert "spec.parent: there is no Queue nobody" in shown.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--version", "computility "),
        ("--help", "endpoint"),
        ("help", "endpoint"),
        ("help scale", "computility scale"),
        ("scale -h", "computility scale"),
        ("help rollout", "undo"),
    ],
)
def test_help_and_version_are_asked_for_in_every_usual_way(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*line.split()) == 0
    assert said in capsys.readouterr().out
