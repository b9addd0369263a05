"""Commands that change what is there: edit, patch, scale, diff, cordon."""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.control.cli.test_commands import Answer, control, error, items, run

__all__ = ["control"]
Install = Callable[[Answer], list[httpx.Request]]


def endpoint(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "tiny", "project": "search", "uid": "u", "resourceVersion": 7, "generation": 2}
    return {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Endpoint",
        "metadata": metadata,
        "spec": {"model": "m", "replicas": 1, **spec},
        "status": {"conditions": []},
    }


class Kept:
    """A control with one resource; ``conflicts``: so many writes come second to another's."""

    def __init__(self, document: dict[str, Any], conflicts: int = 0) -> None:
        self.document, self.conflicts, self.written = document, conflicts, []  # type: ignore[var-annotated]
        self.more: dict[str, Any] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            found = self.document["metadata"]["name"] in request.url.path
            return httpx.Response(200, json=self.document) if found else items(self.document)
        if self.conflicts:
            self.conflicts -= 1
            return error(409, "conflict", "changed meanwhile")
        content = json.loads(request.content)
        documents = content if isinstance(content, list) else [content]
        self.written += documents
        results = []
        for one in documents:
            new = copy.deepcopy({**self.document, "spec": one["spec"]})
            outcome = "unchanged" if new["spec"] == self.document["spec"] else "configured"
            results.append({"outcome": outcome, "resource": new, **self.more})
        return httpx.Response(200, json={"results": results})


def test_scale_writes_the_number_and_the_version_that_was_read(
    control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Kept(endpoint())
    control(kept)
    assert run("scale", "ep/tiny", "--replicas", "3") == 0
    assert kept.written[0]["spec"]["replicas"] == 3
    assert kept.written[0]["metadata"] == {"name": "tiny", "project": "search", "resourceVersion": 7}
    assert "status" not in kept.written[0]
    assert capsys.readouterr().out == "endpoint/tiny configured\n"


def test_who_comes_second_reads_again(control: Install) -> None:
    kept = Kept(endpoint(), conflicts=2)
    control(kept)
    assert run("scale", "ep", "tiny", "--replicas", "2") == 0
    kept.conflicts = 5
    assert run("scale", "ep", "tiny", "--replicas", "2") == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ep", "tiny", "--replicas", "2", "--role", "decode"), "--role"),
        (("ep", "tiny", "--replicas", "2", "--current-replicas", "4"), "has 1 replicas"),
        (("no", "tiny", "--replicas", "2"), "have no replicas"),
        (("ep", "tiny"), "--replicas"),
        (("ep/tiny", "tiny", "--replicas", "1"), "KIND/NAME"),
    ],
)
def test_what_cannot_be_scaled_is_said(
    arguments: tuple[str, ...], said: str, control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Kept(endpoint())
    control(kept)
    assert run("scale", *arguments) == 2
    assert said in capsys.readouterr().err
    assert kept.written == []


def test_a_role_is_scaled_where_there_are_some(control: Install) -> None:
    kept = Kept(endpoint(prefill={"replicas": 1}, decode={"replicas": 1}, mode="disaggregated"))
    control(kept)
    assert run("scale", "ep/tiny", "--role", "decode", "--replicas", "4") == 0
    spec = kept.written[0]["spec"]
    assert (spec["prefill"]["replicas"], spec["decode"]["replicas"], spec["replicas"]) == (1, 4, 1)


def test_a_patch_merges_or_goes_operation_by_operation(control: Install) -> None:
    kept = Kept(endpoint(priority=3))
    control(kept)
    assert run("patch", "ep", "tiny", "-p", '{"spec": {"replicas": 2, "priority": null}}') == 0
    assert kept.written[0]["spec"] == {"model": "m", "replicas": 2}
    operations = (
        '[{"op": "test", "path": "/spec/replicas", "value": 1}, {"op": "remove", "path": "/spec/priority"}]'
    )
    assert run("patch", "ep", "tiny", "--type", "json", "-p", operations) == 0
    assert kept.written[1]["spec"] == {"model": "m", "replicas": 1}


@pytest.mark.parametrize("text", ["[1", "- 1", "3", ""])
def test_a_patch_that_is_none_is_refused(text: str, control: Install) -> None:
    kept = Kept(endpoint())
    control(kept)
    assert run("patch", "ep", "tiny", "-p", text) == 2
    assert kept.written == []


def test_a_dry_run_shows_the_difference_and_diff_says_so_by_its_exit_code(
    tmp_path: Path, control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Kept(endpoint())
    control(kept)
    file = tmp_path / "e.json"
    file.write_text(json.dumps(endpoint(replicas=5)))
    assert run("apply", "-f", str(file), "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "endpoint/tiny configured (dry run)"
    assert [line for line in lines[1:] if line[:1] in "+-" and line[1:2] == " "] == [
        "-  replicas: 1",
        "+  replicas: 5",
    ]
    assert run("diff", "-f", str(file)) == 1
    assert "+  replicas: 5" in capsys.readouterr().out
    file.write_text(json.dumps(endpoint()))
    assert run("diff", "-f", str(file)) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("command", "spec"),
    [
        (("cordon",), {"cordoned": True, "drain": False}),
        (("uncordon",), {"cordoned": False, "drain": False}),
        (("drain", "--no-wait"), {"cordoned": True, "drain": True}),
    ],
)
def test_nodes_are_cordoned_drained_and_taken_back(
    command: tuple[str, ...], spec: dict[str, Any], control: Install
) -> None:
    node = {"kind": "Node", "metadata": {"name": "vm"}, "spec": {"drain": False, "labels": {"a": "b"}}}
    kept = Kept(node)
    control(kept)
    assert run(command[0], "vm", *command[1:]) == 0
    assert kept.written[0]["spec"] == {"labels": {"a": "b"}, **spec}


def an_editor(tmp_path: Path, script: str) -> str:
    path = tmp_path / "editor.py"
    path.write_text(
        f"import pathlib, sys\nfile = pathlib.Path(sys.argv[1])\ntext = file.read_text()\n{script}\n"
    )
    return f"{sys.executable} {path}"


def test_edit_writes_what_was_changed_and_nothing_else(
    tmp_path: Path,
    control: Install,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    kept = Kept(endpoint())
    control(kept)
    monkeypatch.setenv(
        "EDITOR", an_editor(tmp_path, "file.write_text(text.replace('replicas: 1', 'replicas: 9'))")
    )
    monkeypatch.delenv("VISUAL", raising=False)
    assert run("edit", "ep", "tiny") == 0
    assert kept.written[0]["spec"]["replicas"] == 9
    assert kept.written[0]["metadata"]["resourceVersion"] == 7
    monkeypatch.setenv("EDITOR", an_editor(tmp_path, "pass"))
    assert run("edit", "ep", "tiny") == 0
    assert len(kept.written) == 1
    assert "nothing was changed" in capsys.readouterr().err


@pytest.mark.parametrize("editor", ["/no/such/editor", "'", "false"])
def test_an_editor_that_fails_is_named(
    editor: str, control: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Kept(endpoint())
    control(kept)
    monkeypatch.setenv("VISUAL", editor)
    assert run("edit", "ep", "tiny") == 2
    assert "editor" in capsys.readouterr().err
    assert kept.written == []


def test_what_a_change_does_to_engines_is_said_by_all_commands_that_make_one(
    tmp_path: Path, control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Kept(endpoint())
    kept.more = {"effect": "its engine is replaced [at once]"}
    control(kept)
    file = tmp_path / "e.json"
    file.write_text(json.dumps(endpoint(replicas=5)))
    said = "endpoint/tiny configured: its engine is replaced [at once]"
    assert run("apply", "-f", str(file)) == 0
    assert capsys.readouterr().out.splitlines() == [said]
    assert run("scale", "ep/tiny", "--replicas", "5") == 0
    assert capsys.readouterr().out.splitlines() == [said]
    assert run("apply", "-f", str(file), "--dry-run") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "endpoint/tiny configured (dry run): its engine is replaced [at once]"
    assert run("diff", "-f", str(file)) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "# its engine is replaced [at once]"
