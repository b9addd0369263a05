"""What people see: headings and names stay whole on a narrow terminal, use without a price shows, and what is
piped into a chat gets the answer alone."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from common.client_chat import ChatClient
from control.cli.asking.session import Session
from control.console.output import print_table
from control.console.tables.tables import COLUMNS
from control.console.tables.usage_table import print_usage
from tests.unit.control.cli.test_commands import run

pytestmark = pytest.mark.unit
METERS = ("prompt_tokens", "cached_tokens", "completion_tokens", "trained_tokens", "device_seconds")
FILE = "file-01m8gj9b3a7my3kr7p4d"


def terminal(width: int) -> tuple[Console, io.StringIO]:
    shown = io.StringIO()
    return Console(file=shown, width=width, force_terminal=True, color_system=None, highlight=False), shown


@pytest.mark.parametrize("kind", COLUMNS)
def test_no_heading_breaks_within_a_word_on_a_terminal_of_80_columns(kind: str) -> None:
    headers = ["PROJECT", "NAME", *(column.title for column in COLUMNS[kind] if not column.wide), "AGE"]
    row = ["acme-agents", "tiny-0", *("waits for a node: the pool has none" for _ in headers[3:]), "5m"]
    out, shown = terminal(80)
    print_table(headers, [row], out)
    words = shown.getvalue().split()
    for word in " ".join(headers).split():
        assert word in words, f"{word} is broken:\n{shown.getvalue()}"
    assert max(map(len, shown.getvalue().splitlines())) <= 80


def test_a_name_that_has_room_does_not_break() -> None:
    out, shown = terminal(80)
    print_table(["NAME", "MESSAGE", "AGE"], [[FILE, "many words " * 30, "5m"]], out)
    assert FILE in shown.getvalue()


def report(unpriced: int) -> dict[str, Any]:
    row = {"tenant": "acme", **dict.fromkeys(METERS, 0), "prompt_tokens": 5, "microcredits": 0}
    row |= {"unpriced_lines": unpriced, "events": 2}
    return {"group_by": ["tenant"], "rows": [row], "total": row}


@pytest.mark.parametrize("unpriced", [0, 3])
def test_what_was_used_without_a_price_shows_in_the_bill(unpriced: int) -> None:
    out, shown = terminal(100)
    print_usage(out, report(unpriced))
    assert ("WITHOUT" in shown.getvalue()) == (unpriced > 0)
    if unpriced:
        assert shown.getvalue().splitlines()[-1].split()[-1] == "3"


def test_what_is_piped_into_a_chat_gets_the_answer_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        pieces = [{"choices": [{"delta": {"content": text}}]} for text in ("a joule", " per second")]
        events = [json.dumps(one) for one in ({"choices": []}, *pieces)]
        return httpx.Response(200, text="".join(f"data: {one}\n\n" for one in (*events, "[DONE]")))

    monkeypatch.setattr(Session, "chat", lambda session: chat_with(answer))
    monkeypatch.setenv("COMPUTILITY_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is a watt?\nIn short.\n"))
    assert run("chat", "tiny") == 0
    assert capsys.readouterr().out == "a joule per second\n"
    assert [one["messages"] for one in asked] == [
        [{"role": "user", "content": "What is a watt?\nIn short.\n"}]
    ]


def chat_with(answer: Callable[[httpx.Request], httpx.Response]) -> ChatClient:
    return ChatClient("http://gateway/v1", "ck-x", transport=httpx.MockTransport(answer))


def test_a_chat_that_fails_says_why_and_which_model_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"message": "there is no model tyni.", "code": "model_not_found", "param": "model"}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "tiny"}, {"id": "large"}]})
        if json.loads(request.content)["model"] == "tyni":
            return httpx.Response(404, json={"error": error})
        if json.loads(request.content)["model"] == "gone":
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, text='data: {"error": {"message": "the engine ended"}}\n\n')

    monkeypatch.setattr(Session, "chat", lambda session: chat_with(answer))
    monkeypatch.setenv("COMPUTILITY_HOME", str(tmp_path))
    for model, code, said in (
        ("tyni", 4, "there is no model tyni. Did you mean tiny?"),
        ("gone", 6, "the gateway is not running at http://gateway/v1"),
        ("tiny", 6, "the engine ended"),
    ):
        assert run("chat", model, "hi") == code, capsys.readouterr()
        assert said in capsys.readouterr().err
