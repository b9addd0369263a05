"""get as people and programs use it: kinds, labels, order, shapes, changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from control.console.tables.selectors import parse_selector, sorted_by
from tests.unit.control.cli.test_commands import Answer, checked, control, error, items, run

__all__ = ["control"]

Install = Callable[[Answer], list[httpx.Request]]
LONG = "a message of many words, " * 20


def workload(name: str, project: str = "search", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "project": project, "createdMs": 1, "uid": "u", "generation": 2}
    metadata |= {"resourceVersion": 7, "labels": more.pop("labels", {})}
    status = {"phase": "Pending", "message": LONG}
    return {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Workload",
        "metadata": metadata,
        "spec": {"roles": [{"name": "main", "command": ["true"]}]},
        "status": {**status, **more},
    }


def of_kinds(**documents: list[Any]) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        plural = request.url.path.removeprefix("/api/v1/")
        if plural == "apikeys":
            return error(403, "forbidden", "the role member may not read ApiKey")
        return items(*documents.get(plural, []))

    return answer


def test_a_table_in_a_pipe_has_a_line_for_each_thing_and_cuts_nothing(
    control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "ftjob-01m8gj9b3a7my3kr7p4dv3atr4-with-a-name-that-is-long-indeed"
    control(of_kinds(workloads=[workload(name), workload("b")]))
    assert run("get", "wl") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert name in lines[1]
    assert " ".join(LONG.split()) in lines[1]


def test_several_kinds_are_named_by_kind_and_what_the_key_may_not_read_is_left_out_of_all(
    control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    model = {"kind": "Model", "metadata": {"name": "m", "project": "search"}, "spec": {"source": "x"}}
    control(of_kinds(workloads=[workload("w")], models=[model]))
    assert run("get", "wl,mo") == 0
    both = capsys.readouterr().out
    assert "workload/w" in both
    assert "model/m" in both
    assert run("get", "all", "-o", "name") == 0
    assert capsys.readouterr().out == "workload/w\nmodel/m\n"
    assert run("get", "wl,keys") == 3


def test_nothing_found_is_said_beside_the_answer(
    control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    control(of_kinds())
    assert run("get", "wl") == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "no workloads" in shown.err


def test_labels_are_asked_for_where_control_knows_them_and_looked_at_here_else(
    control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [workload("a", labels={"team": "x", "old": "1"}), workload("b", labels={"team": "x"})]
    seen = control(of_kinds(workloads=found))
    assert run("get", "wl", "-l", "team=x,!old", "-o", "name") == 0
    assert seen[0].url.params["labels"] == "team=x"
    assert capsys.readouterr().out == "workload/b\n"


@pytest.mark.parametrize("text", ["=a", "!=b", "!", "a b=c", "a=1,a=2"])
def test_a_selector_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("get", "wl", "-l", text) == 2
    assert "-l:" in capsys.readouterr().err


def test_a_selector_as_kubectl_has_it() -> None:
    chosen = parse_selector("a=1, b!=2, c, !d")
    for labels, wanted in (
        ({"a": "1", "c": ""}, True),
        ({"a": "1", "c": "", "b": "2"}, False),
        ({"a": "1"}, False),
        ({"a": "1", "c": "", "d": ""}, False),
        ({"c": ""}, False),
    ):
        assert chosen.matches({"metadata": {"labels": labels}}) is wanted


def test_the_order_goes_by_a_field_numbers_before_texts() -> None:
    found = [{"x": {"y": value}} for value in ("b", 10, 9, "a")] + [{"x": {}}]
    assert [one["x"].get("y") for one in sorted_by(found, "{.x.y}")] == [None, 9, 10, "a", "b"]


def test_what_get_gives_can_be_applied(
    tmp_path: Path, control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    control(of_kinds(workloads=[workload("a"), workload("b")]))
    assert run("get", "wl", "-o", "yaml") == 0
    file = tmp_path / "back.yaml"
    file.write_text(capsys.readouterr().out)

    def answer(request: httpx.Request) -> httpx.Response:
        if checked(request).is_error:
            return checked(request)
        return httpx.Response(200, json={"results": [{"outcome": "unchanged"}] * 2})

    sent = control(answer)
    assert run("apply", "-f", str(file)) == 0
    assert capsys.readouterr().out == "workload/a unchanged\nworkload/b unchanged\n"
    assert [set(one["metadata"]) for one in json.loads(sent[0].content)] == [
        {"name", "project", "labels", "resourceVersion"}
    ] * 2, "what was changed since is not overwritten"


def test_changes_as_json_are_a_stream_of_documents(
    control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/watch"):
            changes = [
                {"type": "put", "resource": workload("b")},
                {"type": "delete", "resource": workload("a")},
            ]
            return httpx.Response(200, text="".join(json.dumps(one) + "\n" for one in changes))
        return httpx.Response(200, json={"items": [workload("a")], "revision": 41})

    seen = control(answer)
    assert run("get", "wl", "-w", "-o", "json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["type"], one["resource"]["metadata"]["name"]) for one in lines] == [
        ("put", "a"),
        ("put", "b"),
        ("delete", "a"),
    ]
    assert seen[1].url.params["since"] == "41"
    assert run("get", "wl", "-w") == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in table[:3]] == ["NAME", "a", "b"]
    assert table[3] == "workload/a deleted"
    assert run("get", "wl", "-w", "-o", "yaml") == 0
    assert len(list(yaml.safe_load_all(capsys.readouterr().out))) == 2 + 1


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("enpoints", "endpoints"), ("workloadz", "workload"), ("ndoes", "nodes")],
)
def test_a_kind_that_is_misspelt_is_answered_with_the_one_that_was_meant(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("get", typed) == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_a_name_that_is_misspelt_is_answered_with_the_nearest(
    control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    control(of_kinds(workloads=[workload("trainer")]))
    assert run("get", "wl", "trianer") == 4
    assert "did you mean trainer?" in capsys.readouterr().err


def test_a_project_that_is_misspelt_is_answered_with_the_nearest(
    control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v1/projects":
            return items({"metadata": {"name": "search"}})
        return error(404, "not_found", "there is no Workload w")

    control(answer)
    assert run("get", "wl", "w", "-p", "serach") == 4
    assert "did you mean search?" in capsys.readouterr().err


def test_a_command_that_is_misspelt_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("descrbe") == 2
    assert "Did you mean describe?" in " ".join(capsys.readouterr().err.split())
