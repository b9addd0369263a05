"""What tenants wrote does nothing to a terminal, and odd manifests are refused by name and line."""

import io
import json
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from common.errors import InvalidInput
from common.vocabulary import odd_character
from control.console.boundary import show
from control.console.documents.manifests import read_manifests
from control.console.output import cell
from control.console.terminal import Terminal, json_text, log_line
from control.console.told.describe import describe_document

EVIL = "a\x1b]0;owned\x07\x9b2J\u202etxt.exe\r\x08\ud800"


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def is_harmless(text: str) -> bool:
    return odd_character(text.replace("\n", "").replace("\t", "")) is None


def test_a_table_shows_escape_sequences_and_does_not_obey_them() -> None:
    out = Terminal(file=io.StringIO(), width=200)
    table = Table()
    table.add_column("FILENAME")
    table.add_row(cell(EVIL))
    table.add_row(Text(EVIL))
    table.add_row(EVIL)
    out.print(table)
    out.print(EVIL, markup=False)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert is_harmless(text)
    assert "\\x1b]0;owned" in text


def test_a_description_shows_them_too() -> None:
    out = Terminal(file=io.StringIO(), width=200)
    event = {"level": "info", "reason": EVIL, "kind": "File", "name": EVIL, "message": EVIL}
    document = {
        "kind": "File",
        "metadata": {"name": "file-1", "labels": {EVIL: EVIL}, "annotations": {"note": EVIL}},
        "spec": {"filename": EVIL},
        "status": {
            "conditions": [
                {"type": EVIL, "status": "True", "reason": EVIL, "lastTransitionMs": 1, "message": EVIL}
            ]
        },
    }
    describe_document(out, document, [event])
    assert is_harmless(out.file.getvalue())  # type: ignore[attr-defined]


def test_an_error_that_quotes_them_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(InvalidInput(f"{EVIL} is wrong")) == 2
    assert is_harmless(capsys.readouterr().err)


def test_styles_of_our_own_stay() -> None:
    out = Terminal(file=io.StringIO(), force_terminal=True, color_system="standard")
    out.print(Text("Ready", style="green"))
    assert out.file.getvalue() == "\x1b[32mReady\x1b[0m\n"  # type: ignore[attr-defined]


def test_json_is_the_same_value_without_a_character_that_acts() -> None:
    text = json_text({EVIL: [EVIL, "größer 中文"]}, indent=2)
    assert json.loads(text) == {EVIL: [EVIL, "größer 中文"]}
    assert is_harmless(text)
    assert "größer 中文" in text


def test_a_log_keeps_its_colours_on_a_terminal_and_its_bytes_in_a_pipe() -> None:
    line = f"\x1b[31mred\x1b[0m {EVIL}"
    assert log_line(line, io.StringIO()) == line
    shown = log_line(line, FakeTerminal())
    assert shown.startswith("\x1b[31mred\x1b[0m a\\x1b]0;owned\\x07")
    assert shown.endswith("\x1b[0m")
    assert is_harmless(shown.replace("\x1b[31m", "").replace("\x1b[0m", ""))


BOMB = "\n".join(
    ["a0: &a0 [x,x,x,x,x,x,x,x,x]"] + [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
)
MANIFESTS = {
    "a key twice": ("kind: Queue\nmetadata: {name: a}\nkind: Tenant\n", r":3 .*'kind' stands twice"),
    "aliases without end": (BOMB, "more than 200000 values"),
    "an alias of itself": ("kind: &k [*k]\n", "more than 200000 values"),
    "very many digits": ("kind: 1" + "0" * 5000, "not YAML"),
    "nested too deeply": ("kind: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
    "a control character": ("kind: a\x1bb", "U\\+001B"),
    "no such day": ("kind: 2026-02-31", "not YAML"),
}


@pytest.mark.parametrize(("text", "says"), MANIFESTS.values(), ids=MANIFESTS.keys())
def test_an_odd_manifest_is_refused_with_its_file(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=says) as refused:
        read_manifests([str(file)])
    assert "odd.yaml" in refused.value.message


def test_anchors_that_people_use_still_work(tmp_path: Path) -> None:
    file = tmp_path / "fine.yaml"
    file.write_text("kind: X\nbase: &b {a: 1, b: 2}\nspec: {<<: *b, b: 3}\nother: [*b, *b]\n")
    [manifest] = read_manifests([str(file)])
    assert manifest.content["spec"] == {"a": 1, "b": 3}
