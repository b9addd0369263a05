"""reconcile as people see it, against a control that is played by a function."""

import json
from typing import Any

import httpx
import pytest

from tests.unit.control.cli.test_commands import control, run

__all__ = ["control"]


def window(engine: str, result: str, missing: int = 0, surplus: int = 0) -> dict[str, Any]:
    def counts(tokens: int) -> dict[str, int]:
        return {"prompt": 0, "completion": tokens}

    return {
        "endpoint": "lab/chat",
        "engine": engine,
        "from": "2026-03-01T12:00:00Z",
        "to": "2026-03-01T12:05:00Z",
        "result": result,
        "counted": counts(800),
        "missing": counts(missing),
        "surplus": counts(surplus),
    }


def answer(*items: dict[str, Any], apart: dict[str, int] | None = None) -> dict[str, Any]:
    return {"engines": 2, "ledgerApart": apart, "items": list(items)}


@pytest.mark.parametrize(
    ("told", "code", "words"),
    [
        (answer(window("chat-0", "equal"), apart={}), 0, ["1 agree with the events", "today agree"]),
        (answer(window("chat-1", "unbilled", surplus=12)), 0, ["unbilled", "12", "not been looked at"]),
        (answer(window("chat-1", "drift", missing=7), apart={}), 1, ["lab/chat/chat-1", "drift", "7"]),
        (answer(apart={"charges": -3}), 1, ["differ: charges by -3"]),
    ],
)
def test_what_differs_is_shown_and_is_the_exit_code(
    control: Any, capsys: pytest.CaptureFixture[str], told: dict[str, Any], code: int, words: list[str]
) -> None:
    seen = control(lambda request: httpx.Response(200, json=told))
    assert run("reconcile") == code
    assert seen[0].url.path == "/api/v1/reconciliation"
    shown = " ".join(capsys.readouterr().out.split())
    assert all(word in shown for word in words), shown
    assert run("reconcile", "-o", "json") == code
    assert json.loads(capsys.readouterr().out) == told


def test_windows_that_agree_are_shown_where_all_are_asked_for(
    control: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    control(lambda request: httpx.Response(200, json=answer(window("chat-7", "equal"))))
    assert run("reconcile") == 0
    assert "chat-7" not in capsys.readouterr().out
    assert run("reconcile", "--all") == 0
    assert "chat-7" in "".join(capsys.readouterr().out.split())
