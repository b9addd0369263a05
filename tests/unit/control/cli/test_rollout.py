"""rollout: restart, history, undo; and what `get` says while engines are replaced."""

import copy
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.unit.control.cli.test_changes import Kept, endpoint
from tests.unit.control.cli.test_commands import Answer, control, items, run

__all__ = ["control"]
Install = Callable[[Answer], list[httpx.Request]]


def revision(generation: int, by: str, spec: dict[str, Any] | None, *paths: str) -> dict[str, Any]:
    return {"generation": generation, "timeMs": 1, "by": by, "paths": list(paths), "spec": spec}


HISTORY = [
    revision(4, "alice", {"model": "m", "replicas": 1, "engine": {"args": ["--bad"]}}, "spec.engine.args"),
    revision(3, "bob", {"model": "m", "replicas": 1, "engine": {"args": []}}, "spec.engine.env.SEED"),
    revision(2, "bob", None, "spec.engine.args"),
    revision(1, "", {"model": "n", "replicas": 2}),
]


class WithHistory(Kept):
    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/tiny/revisions"):
            return items(*HISTORY)
        return super().__call__(request)


@pytest.fixture
def kept(control: Install) -> WithHistory:
    document = endpoint(engine={"args": ["--bad"], "env": {"SEED": "1"}})
    document["metadata"]["generation"] = 4
    kept = WithHistory(document)
    control(kept)
    return kept


def test_history_says_who_changed_what(kept: WithHistory, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("rollout", "history", "ep/tiny") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["REVISION", "AGE", "BY", "CHANGED"]
    assert [(row[0], *row[2:]) for row in rows[1:3]] == [
        ("4", "alice", "spec.engine.args"),
        ("3", "bob", "spec.engine.env.SEED"),
    ]
    assert run("rollout", "history", "ep/tiny", "--revision", "1", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == {"model": "n", "replicas": 2}


@pytest.mark.parametrize(("to", "model", "args"), [((), "m", []), (("--to-revision", "1"), "n", None)])
def test_undo_applies_an_earlier_spec_with_the_variables_of_now(
    to: tuple[str, ...], model: str, args: Any, kept: WithHistory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("rollout", "undo", "ep/tiny", *to) == 0
    [written] = kept.written
    assert (written["spec"]["model"], written["spec"]["engine"].get("args")) == (model, args)
    assert written["spec"]["engine"]["env"] == {"SEED": "1"}
    assert written["metadata"]["resourceVersion"] == 7
    assert ("is not kept" in capsys.readouterr().err) is bool(to)


@pytest.mark.parametrize(("number", "said"), [("2", "may be a secret"), ("9", "kept are: 1, 2, 3, 4")])
def test_what_is_not_kept_cannot_be_gone_back_to(
    number: str, said: str, kept: WithHistory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("rollout", "undo", "ep/tiny", "--to-revision", number) == 4
    assert said in capsys.readouterr().err
    assert kept.written == []


def test_there_is_nothing_before_the_first(kept: WithHistory, capsys: pytest.CaptureFixture[str]) -> None:
    kept.document["metadata"]["generation"] = 1
    assert run("rollout", "undo", "ep/tiny") == 4
    assert "no earlier spec of tiny is kept" in capsys.readouterr().err


def test_a_restart_asks_for_engines_that_are_made_from_now_on(kept: WithHistory) -> None:
    assert run("rollout", "restart", "ep", "tiny") == 0
    first = kept.written[0]["spec"]["rollout"]["restartedMs"]
    kept.document["spec"]["rollout"] = {"restartedMs": first + 60_000_000}
    assert run("rollout", "restart", "ep", "tiny") == 0
    assert kept.written[1]["spec"]["rollout"]["restartedMs"] == first + 60_000_001


@pytest.mark.parametrize("command", ["restart", "history", "undo"])
def test_only_endpoints_have_engines_to_roll(
    command: str, kept: WithHistory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("rollout", command, "wl/x") == 2
    assert "endpoints have" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reason", "shown"),
    [("RollingOut", "tiny-1 is CrashLoopBackOff (exit code 2: no such flag)"), ("Ready", "-")],
)
def test_get_says_how_a_change_goes_while_old_engines_answer(
    reason: str, shown: str, control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    document = copy.deepcopy(endpoint())
    message = "1 of 1 replicas answer; tiny-1 is CrashLoopBackOff (exit code 2: no such flag)"
    found = {"type": "Ready", "status": "True", "reason": reason, "message": message, "lastTransitionMs": 1}
    document["status"]["conditions"] = [found]
    control(lambda request: items(document))
    assert run("get", "ep") == 0
    assert shown in capsys.readouterr().out.splitlines()[1]
