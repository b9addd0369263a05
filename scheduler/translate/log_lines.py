"""Which line of what a process printed says why it ended."""

from __future__ import annotations

import re

from common.guard import plain

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_FAILURE = re.compile(
    r"(error|exception|fatal|killed|cannot|could not|no such|not found|refused|denied)\b", re.I
)
_ELSEWHERE = re.compile(r"see (root cause|the .*) above|the above exception|during handling of", re.I)
_CHARACTERS = 4000
"""Of a line so many are looked at."""


def telling_line(text: str) -> str:
    """The last line that tells of a failure, else the last one; empty where nothing was printed."""
    lines = [_COLOURS.sub("", line[:_CHARACTERS]).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    telling = (line for line in reversed(lines) if _FAILURE.search(line) and not _ELSEWHERE.search(line))
    return plain(next(telling, lines[-1] if lines else ""))
