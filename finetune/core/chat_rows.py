"""The rows of a chat training file, one after the other, as the check and the worker see them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from finetune.core.chat_line import MAX_LINE_BYTES, Finding, Message, parse_line
from finetune.core.lines import numbered_lines

HEAD_BYTES = 64 * 1024
_JSONL = "write one JSON object per line (JSONL)"
_OTHER_ENCODINGS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
"""Byte order marks of UTF-16 and UTF-32."""


@dataclass(frozen=True)
class Row:
    """One line that is not blank, or the first of blank lines that stand between others. ``messages`` are
    empty where there are ``findings``."""

    number: int
    messages: tuple[Message, ...]
    findings: tuple[Finding, ...]
    blank: bool = False


@dataclass
class NotLines(Exception):
    """The file as a whole is of another form: one cause for all that a look at its lines would find."""

    code: str
    message: str


def chat_rows(chunks: Iterable[bytes]) -> Iterator[Row]:
    """The rows of a file that comes in pieces of any size. Blank lines are allowed only at the end.

    Raises ``NotLines`` for a file of another form.
    """
    head, rest = _peek(chunks)
    cause = _other_form(head)
    if cause is not None:
        raise cause
    first_blank, blanks = 0, 0
    for line in numbered_lines(chain((head,), rest), MAX_LINE_BYTES):
        if line.is_blank:
            first_blank, blanks = first_blank or line.number, blanks + line.lines
            continue
        if blanks:
            yield Row(first_blank, (), (("blank_line", _blank_text(blanks)),), blank=True)
            first_blank, blanks = 0, 0
        parsed = parse_line(line.content, line.number)
        yield Row(line.number, () if parsed.findings else parsed.messages, parsed.findings)


def _blank_text(count: int) -> str:
    return "is blank; remove it" if count == 1 else f"is blank, as are {count - 1} after it; remove them"


def _peek(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes of the file and the pieces after them."""
    rest, head = iter(chunks), b""
    while len(head) < HEAD_BYTES:
        piece = next(rest, None)
        if piece is None:
            break
        head += piece
    return head, rest


def _other_form(head: bytes) -> NotLines | None:
    """What the file is instead of JSONL, as far as its beginning tells."""
    start = head[:4]
    if start.startswith(_OTHER_ENCODINGS) or (start[:2].count(0) == 1 and start[:1] != b"\n"):
        return NotLines("invalid_encoding", "is UTF-16 or UTF-32; save it as UTF-8")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        return NotLines("json_array", f"is a JSON array; {_JSONL}, without brackets and commas around them")
    lines = [line for line in text.split(b"\n") if line.strip()][:2]
    if len(lines) == 2 and _is_cut(lines[0]) and not _is_object(lines[1]):
        return NotLines("json_over_lines", f"holds objects that stretch over several lines; {_JSONL}")
    if len(lines) == 1 and b"\r" in lines[0].strip() and _is_object(lines[0].strip().split(b"\r")[0]):
        return NotLines("line_ends", "has lines that end with CR alone; save it with LF or CR LF")
    return None


def _is_cut(line: bytes) -> bool:
    """Whether the line is the beginning of an object that goes on."""
    text = line.decode("utf-8", "replace").strip()
    if not text.startswith("{"):
        return False
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text)
    except (ValueError, RecursionError):
        pass
    return False


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
