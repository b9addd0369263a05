"""What people see: headings and names stay whole on a narrow terminal, use without a price shows, and what is
piped into a chat gets the answer alone."""

import io
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

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

    def create(**request: Any) -> list[Any]:
        asked.append(request["messages"])
        delta = SimpleNamespace(delta=SimpleNamespace(content="a joule per second"))
        return [SimpleNamespace(choices=[delta])]

    @contextmanager
    def client(session: Session) -> Any:
        yield SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))

    monkeypatch.setattr(Session, "openai", client)
    monkeypatch.setenv("COMPUTILITY_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is a watt?\nIn short.\n"))
    assert run("chat", "tiny") == 0
    assert capsys.readouterr().out == "a joule per second\n"
    assert asked == [[{"role": "user", "content": "What is a watt?\nIn short.\n"}]]
