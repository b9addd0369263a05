"""Bytes to lines, without holding more than one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def numbered_lines(chunks: Iterable[bytes], limit_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """``(line number from 1, line without its end)``; None stands for a line of more than ``limit_bytes``."""
    number, kept, too_long = 1, bytearray(), False
    for chunk in chunks:
        parts = chunk.split(b"\n")
        for part in parts[:-1]:
            yield number, _line(kept, part, too_long, limit_bytes)
            number, kept, too_long = number + 1, bytearray(), False
        too_long = too_long or len(kept) + len(parts[-1]) > limit_bytes
        kept = bytearray() if too_long else kept + parts[-1]
    if kept or too_long:
        yield number, _line(kept, b"", too_long, limit_bytes)


def _line(kept: bytearray, rest: bytes, too_long: bool, limit_bytes: int) -> bytes | None:
    if too_long or len(kept) + len(rest) > limit_bytes:
        return None
    return bytes(kept + rest).removesuffix(b"\r")
