"""Connects an agent to ports of the cell in which it runs: the other end of ``connections``."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from scheduler.adapters.ray.session.frames import (
    MAX_PAYLOAD_BYTES,
    WINDOW_BYTES,
    Decoder,
    Frame,
    Kind,
    encode,
    numbered,
)

ADDRESSES = ("127.0.0.1", "::1")
CONNECT_SECONDS = 3.0
_READ_BYTES = 64 * 1024


class _Link:
    """One connection: what is to go to the port, and how much more may come from it."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[bytes] = asyncio.Queue()
        """At most a window's bytes; empty ones are their end."""
        self.room_bytes = WINDOW_BYTES
        self.has_room = asyncio.Event()
        self.has_room.set()

    def give_room(self, taken_bytes: int) -> None:
        self.room_bytes += taken_bytes
        self.has_room.set()

    def use_room(self, sent_bytes: int) -> None:
        self.room_bytes -= sent_bytes
        if not self.room_bytes:
            self.has_room.clear()


class Relay:
    """Serves the agent at the other end until that closes it."""

    def __init__(self, agent: asyncio.StreamWriter) -> None:
        self._agent = agent
        self._links: dict[int, tuple[_Link, asyncio.Task[None]]] = {}

    def take(self, frame: Frame) -> None:
        """What the agent says."""
        if frame.kind is Kind.OPEN:
            link = _Link()
            task = asyncio.create_task(self._serve(frame.connection, frame.number, link))
            self._links[frame.connection] = link, task
            return
        known = self._links.get(frame.connection)
        if known is None:
            return
        link, task = known
        if frame.kind is Kind.DATA:
            link.arrived.put_nowait(frame.payload)
        elif frame.kind is Kind.END:
            link.arrived.put_nowait(b"")
        elif frame.kind is Kind.ROOM:
            link.give_room(frame.number)
        elif frame.kind is Kind.CLOSE:
            task.cancel()

    def _say(self, frame: Frame) -> None:
        self._agent.write(encode(frame))

    async def _serve(self, number: int, port: int, link: _Link) -> None:
        try:
            reader, writer = await _connect(port)
            self._say(Frame(Kind.OPENED, number))
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._to_port(number, writer, link))
                    both.create_task(self._from_port(number, reader, link))
            finally:
                writer.close()
        except* OSError:
            pass  # the agent is told below
        finally:
            self._links.pop(number, None)
            self._say(Frame(Kind.CLOSE, number))

    async def _to_port(self, number: int, writer: asyncio.StreamWriter, link: _Link) -> None:
        while data := await link.arrived.get():
            writer.write(data)
            await writer.drain()
            self._say(numbered(Kind.ROOM, number, len(data)))
        with suppress(OSError):
            writer.write_eof()

    async def _from_port(self, number: int, reader: asyncio.StreamReader, link: _Link) -> None:
        while True:
            await link.has_room.wait()
            data = await reader.read(min(link.room_bytes, MAX_PAYLOAD_BYTES))
            if not data:
                self._say(Frame(Kind.END, number))
                return
            link.use_room(len(data))
            self._say(Frame(Kind.DATA, number, data))
            await self._agent.drain()


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises ``OSError`` where nothing listens."""
    trouble: OSError = OSError("nothing listens")
    for address in ADDRESSES:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await asyncio.open_connection(address, port)
        except OSError as error:  # and TimeoutError
            trouble = error
    raise trouble


async def relay(channel: socket.socket) -> None:
    """Serve until the agent closes its end."""
    reader, writer = await asyncio.open_connection(sock=channel)
    decoder, served = Decoder(), Relay(writer)
    with suppress(OSError):
        while data := await reader.read(_READ_BYTES):
            for frame in decoder.feed(data):
                served.take(frame)


def serve(channel_fd: int) -> None:
    """The same, in a process of its own."""
    channel = socket.socket(fileno=channel_fd)
    channel.setblocking(False)
    asyncio.run(relay(channel))
