"""Events as they happen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from control.console.formats import Output
from control.console.output import console, print_table
from control.console.terminal import json_text, write_out
from control.console.told.describe import print_events

LOOK_AGAIN_SECONDS = 2.0
_WIDTHS = (5, 7, 20, 30, 7)

Document = Mapping[str, Any]


class Ask(Protocol):
    """Events after the one of that id, oldest first."""

    def __call__(self, *, after: str | None = None) -> Sequence[Document]: ...


def follow_events(
    found: Sequence[Document], ask: Ask, output: Output, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Print those found, then each that happens, until Ctrl-C; as JSON one a line."""
    last: str | None = None
    try:
        _print(found, output, first=True)
        while True:
            last = found[-1]["id"] if found else last
            sleep(LOOK_AGAIN_SECONDS)
            found = ask(after=last)
            _print(found, output, first=False)
    except KeyboardInterrupt:
        return


def _print(events: Sequence[Document], output: Output, *, first: bool) -> None:
    if output is Output.JSON:
        for event in events:
            write_out(json_text(event) + "\n")
    elif output is Output.YAML:
        import yaml

        for event in events:
            write_out("---\n" + yaml.safe_dump(event, sort_keys=False, allow_unicode=True, width=100))
    elif events:
        print_events(console(), events, widths=None if first else _WIDTHS)
    elif first:
        print_table(["AGE", "LEVEL", "REASON", "ABOUT", "MESSAGE"], [], widths=None)
