"""The one way to a person's terminal. What tenants wrote (file names, messages, logs, what a model says) may
hold escape sequences or turn the direction of text: it is shown as what it is and does nothing."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from common.vocabulary import harmless

_COLOUR = re.compile(r"(\x1b\[[0-9;]{0,32}m)")
_NOT_ASCII = re.compile(r"[^\x00-\x7e]")


class Terminal(Console):
    """A console that styles text, but lets no text do so by itself."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else harmless(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style, segment.control)


def json_text(content: object, indent: int | None = None) -> str:
    """JSON in which no character does anything on a terminal: the same value to every program."""
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    return _NOT_ASCII.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return character if harmless(character) == character else json.dumps(character)[1:-1]


def write_out(text: str) -> None:
    """Text for programs or people: as it is into a file or pipe, harmless on a terminal."""
    sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def log_line(line: str, out: Any = None) -> str:
    """A line that a process printed: on a terminal colours may stand, everything else does nothing."""
    if not (out or sys.stdout).isatty():
        return line
    parts = _COLOUR.split(line)
    shown = "".join(part if index % 2 else harmless(part) for index, part in enumerate(parts))
    return f"{shown}\x1b[0m" if len(parts) > 1 else shown
