"""Bytes to lines, without holding more than one line. Only LF and CR LF end a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Line(NamedTuple):
    """A line without its end. ``content`` None stands for one that is too long. ``lines`` is above 1 for
    lines in a row that are all blank, of which ``number`` (from 1) is the first."""

    number: int
    content: bytes | None
    lines: int = 1

    @property
    def is_blank(self) -> bool:
        return self.content is not None and not self.content.strip()


def numbered_lines(chunks: Iterable[bytes], limit_bytes: int) -> Iterator[Line]:
    """The lines in order; a line of more than ``limit_bytes`` is told of but not kept."""
    number, kept, too_long = 1, bytearray(), False
    for chunk in chunks:
        if not kept and not too_long and _is_blank_lines(chunk, limit_bytes):
            count = chunk.count(b"\n")  # megabytes of blank lines cost no more than a look at them
            yield Line(number, b"", count)
            number += count
            continue
        parts = chunk.split(b"\n")
        for part in parts[:-1]:
            yield Line(number, _line(kept, part, too_long, limit_bytes))
            number, kept, too_long = number + 1, bytearray(), False
        too_long = too_long or len(kept) + len(parts[-1]) > limit_bytes
        kept = bytearray() if too_long else kept + parts[-1]
    if kept or too_long:
        yield Line(number, _line(kept, b"", too_long, limit_bytes))


def _is_blank_lines(chunk: bytes, limit_bytes: int) -> bool:
    return len(chunk) <= limit_bytes and chunk.endswith(b"\n") and chunk.isspace()


def _line(kept: bytearray, rest: bytes, too_long: bool, limit_bytes: int) -> bytes | None:
    if too_long or len(kept) + len(rest) > limit_bytes:
        return None
    return bytes(kept + rest).removesuffix(b"\r")
