"""Lines of logs with their times, as far as the nodes have kept any."""

from __future__ import annotations

from common.clock import rfc3339
from common.errors import NotFound
from common.log_times import time_of
from scheduler.ports import LogChunk


class Stamps:
    """Puts before each line of the pieces of one log when it was printed. What the node has not noted yet is
    as old as the moment in which it is read; at the end of a log that grows no more, as the last note."""

    def __init__(self, *, ended: bool) -> None:
        self._ended = ended
        self._begins = True

    def put(self, chunk: LogChunk, now_ms: int) -> bytes:
        """The piece with times; one that goes on with a line of the piece before has none there."""
        offset, parts = chunk.next_offset - len(chunk.data), []
        for line in chunk.data.split(b"\n"):
            if self._begins and (line or offset < chunk.next_offset):
                parts.append(f"{rfc3339(self._time_of(chunk, offset, now_ms))} ".encode())
                self._begins = False
            parts.append(line)
            offset += len(line) + 1
            if offset <= chunk.next_offset:
                parts.append(b"\n")
                self._begins = True
        return b"".join(parts)

    def _time_of(self, chunk: LogChunk, offset: int, now_ms: int) -> int:
        known = time_of(chunk.times, offset)
        if known is not None:
            return known
        return chunk.times[-1].time_ms if self._ended and chunk.times else now_ms


def require_times(whole: LogChunk) -> None:
    """Raises ``NotFound`` where lines were printed and nobody knows when. ``whole``: with all times."""
    if whole.size_bytes and not whole.times:
        raise NotFound(
            "no times were kept of this log (it is of an earlier version, or has just begun); "
            "leave out --since and --timestamps"
        )


def after_line_end(chunk: LogChunk) -> LogChunk:
    """The piece, which begins one byte early, from its first whole line on; without that byte where no line
    ends in it."""
    _, end, rest = chunk.data.partition(b"\n")
    data = rest if end else chunk.data[1:]
    return LogChunk(data, chunk.next_offset, chunk.size_bytes, chunk.times)
