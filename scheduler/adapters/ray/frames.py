"""Questions and answers between control and its connectors, over a socket pair that only the two have.

A frame is eight bytes of length and a pickle. A question is (number, method, arguments); an answer (number,
whether it worked, the value or the error).
"""

from __future__ import annotations

import asyncio
import pickle
import struct

_LENGTH = struct.Struct("!Q")

Question = tuple[int, str, tuple[object, ...]]
Answer = tuple[int, bool, object]


async def read_frame(reader: asyncio.StreamReader) -> object:
    """The next frame. Raises ``asyncio.IncompleteReadError`` when the other side is gone."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))


def frame(value: object) -> bytes:
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data
