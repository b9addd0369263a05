"""The page of the command line: each command with its arguments and options, as its help has them."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import typer

from control.cli.commands import COMMANDS, load
from control.cli.main import app
from tools.docs.markdown import cell, table

_OF_TYPER = frozenset(("--install-completion", "--show-completion"))


def command_page() -> str:
    """All commands, in the panels of ``computility --help``."""
    panels: dict[str, list[str]] = defaultdict(list)
    for name, row in COMMANDS.items():
        panels[row.panel].append(_command(f"computility {name}", load(name, row)))
    parts = [
        "# Command line",
        "Options of all commands; they stand before the command:",
        _options(typer.main.get_command(app)),
    ]
    for panel, commands in panels.items():
        parts += [f"## {panel}", *commands]
    return "\n\n".join(part for part in parts if part) + "\n"


def _command(path: str, command: Any, level: int = 3) -> str:
    """A command, or a group and below it its commands."""
    inner = getattr(command, "commands", {})
    arguments = [_argument(one) for one in command.params if one.param_type_name == "argument"]
    usage = " ".join([path, *arguments, "[OPTION…]"])
    parts = [f"{'#' * level} {path.removeprefix('computility ')}", "" if inner else f"`{usage}`"]
    parts += [_paragraphs(command.help or "")]
    if not inner:
        parts += [_explained(command), _options(command)]
    parts += [_command(f"{path} {name}", one, level + 1) for name, one in inner.items()]
    return "\n\n".join(part for part in parts if part)


def _argument(one: Any) -> str:
    name = (one.metavar or one.name.upper()).strip("[].")
    shown = f"{name}…" if one.nargs == -1 else name
    return shown if one.required else f"[{shown}]"


def _explained(command: Any) -> str:
    rows = [
        (f"`{_argument(one)}`", cell(one.help or ""))
        for one in command.params
        if one.param_type_name == "argument" and getattr(one, "help", None)
    ]
    return table(("Argument", ""), rows) if rows else ""


def _options(command: Any) -> str:
    rows = [
        (", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts)), cell(one.help or ""))
        for one in command.params
        if one.param_type_name == "option"
        and not _OF_TYPER & set(one.opts)
        and not getattr(one, "hidden", False)
    ]
    return table(("Option", ""), rows) if rows else ""


def _paragraphs(text: str) -> str:
    """The help as Markdown; a line break of it that is meant (``\\b``) stays one."""
    return "\n\n".join(_lines(part) if "\b" in part else _paragraph(part) for part in text.split("\n\n"))


def _lines(part: str) -> str:
    lines = part.replace("\b", "").strip("\n").splitlines()
    return "```text\n" + "\n".join(lines) + "\n```"


def _paragraph(part: str) -> str:
    """The words; examples at their end stand in a block, one on each line."""
    text, _, given = re.sub(r"\bExamples?: (?=computility )", "\0", " ".join(part.split())).partition("\0")
    shown = "\n".join(f"$ {one}" for one in re.split(r";\s+(?=computility )", given) if one)
    return "\n\n".join(one for one in (text.strip(), shown and f"```console\n{shown}\n```") if one)
