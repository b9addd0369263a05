"""Values of options are those that typer makes, whether it is asked or not."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from control.cli.asking.values import taken_as_typed


class Shape(Enum):
    TABLE = "table"
    JSON = "json"


def command(
    names: Annotated[list[str] | None, typer.Argument()] = None,
    text: str = "none",
    unset: str | None = None,
    flag: bool = False,
    count: Annotated[int, typer.Option(min=1, max=9)] = 3,
    share: Annotated[float, typer.Option(min=0.5)] = 2.0,
    many: Annotated[list[str] | None, typer.Option("--one")] = None,
    place: Path | None = None,
    shape: Shape = Shape.TABLE,
) -> None:
    print([names, text, unset, flag, count, share, many, place, shape])


def said(capsys: pytest.CaptureFixture[str], arguments: list[str], *, eased: bool) -> tuple[Any, str, str]:
    """How the command ended, and what it printed."""
    app = typer.Typer(add_completion=False)
    app.command()(command)
    made: Any = typer.main.get_command(app)
    with pytest.raises(SystemExit) as left:
        (taken_as_typed(made) if eased else made)(arguments, prog_name="command")
    printed = capsys.readouterr()
    return left.value.code, printed.out, printed.err


@pytest.mark.parametrize(
    "line",
    [
        "",
        "a b",
        "--text x --unset y --flag",
        "--count 4 --share 0.75",
        "--count 10",
        "--count 0",
        "--count two",
        "--share 0.1",
        "--share nan",
        "--one a --one b",
        "--place /tmp/x",
        "--shape json",
        "--shape yaml",
        "--text",
        "--no-such",
        "--text \udcff",
    ],
)
def test_a_value_is_what_typer_makes_of_it(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, line.split(), eased=True) == said(capsys, line.split(), eased=False)
