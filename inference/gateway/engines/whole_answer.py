"""An answer that comes in one piece: kept while its size can be borne, and read to its end in any case.

The engine has made all of it before its first byte comes, so what it has used is owed, whether the answer can
be given out or not.
"""

from __future__ import annotations

from collections.abc import Callable

from common.records import record
from inference.core.usage import UsageMember, find_last_usage, find_usage
from inference.gateway.engines.connection import Answer

ANSWER_LIMIT_BYTES = 256 * 1024**2
"""Of one answer: embeddings and log probabilities of the largest sensible request take less."""
ERROR_LIMIT_BYTES = 1024**2
"""So much is read of an answer that is an error."""
_WINDOW_BYTES = 64 * 1024
"""No usage member is longer."""

FindUsage = Callable[[bytes], UsageMember | None]
Hold = Callable[[int], bool]
"""Asks for room for so many more bytes of answers; False when there is none."""


@record(frozen=True)
class WholeAnswer:
    """``content`` is None where the answer is too large to be given out."""

    content: bytes | None
    usage: UsageMember | None


async def read_answer(response: Answer, hold: Hold, find: FindUsage = find_usage) -> WholeAnswer:
    """Read all of it; ``find`` looks for its usage. Raises ``TransportFailed`` when the engine breaks off."""
    parts, size = [], 0
    while data := await response.readany():
        parts.append(data)
        size += len(data)
        if size > ANSWER_LIMIT_BYTES or not hold(len(data)):
            kept = b"".join(parts)
            parts.clear()
            return WholeAnswer(None, await _usage_beyond(response, kept, find))
    content = parts[0] if len(parts) == 1 else b"".join(parts)
    return WholeAnswer(content, find(content))


async def read_error(response: Answer) -> bytes:
    """The beginning of an answer that is an error."""
    parts, size = [], 0
    while data := await response.readany():
        parts.append(data)
        size += len(data)
        if size > ERROR_LIMIT_BYTES:
            break
    return b"".join(parts)[:ERROR_LIMIT_BYTES]


async def _usage_beyond(response: Answer, kept: bytes, find: FindUsage) -> UsageMember | None:
    """The usage member of an answer of which ``kept`` was read: the first one, or the last one where ``find``
    looks for that. The rest is not kept."""
    found, tail = find(kept), kept[-_WINDOW_BYTES:]
    while data := await response.readany():
        if found is None or find is find_last_usage:
            window = tail + data
            # A quote that stands first may have lost its backslash; a member there was whole before.
            found = find(window[1:] if window.startswith(b'"') else window) or found
            tail = window[-_WINDOW_BYTES:]
    return found
