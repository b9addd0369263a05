"""The session of one rank at its agent: a terminal, ports, and the time without input."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from common.bounded_log import BoundedLog
from common.clock import Clock
from common.errors import InvalidInput, NotFound, TooManyRequests, Unavailable
from common.resources.sessions import Session
from scheduler.adapters.ray.session.connections import NO_ROOM_YET
from scheduler.adapters.ray.session.idle import IdleClock
from scheduler.adapters.ray.session.ports_end import PortsEnd
from scheduler.adapters.ray.session.terminal import Terminal
from scheduler.sessions import (
    Closed,
    Opened,
    OutputFrom,
    ReceivedFrom,
    Resized,
    Sent,
    SessionAnswer,
    SessionAsk,
    Typed,
)

NOTHING = SessionAnswer()
WAIT_SECONDS = 5.0
"""So long a question waits for something to answer."""
MAX_WAITS, MAX_ALL_WAITS = 48, 256
"""Questions of one rank, and of all of this agent, that wait at once; others are answered at once, so that
nobody uses up the agent."""
PIECE_BYTES = 256 * 1024


class RankSession:
    """Made with its rank, in the agent's event loop."""

    all_waits = 0
    """Of all sessions in this process."""

    def __init__(self, asked: Session, log: Path, clock: Clock) -> None:
        self._log, self._clock = log, clock
        self._idle = IdleClock(asked.idle_seconds, clock.monotonic_seconds())
        self._moved = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._waits = 0
        self._over = False
        self._terminal = Terminal(log, self._move_soon) if asked.terminal else None
        self._ports = PortsEnd(self._move) if asked.ports else None

    @property
    def is_idle(self) -> bool:
        """Whether there was no input for as long as there may be none."""
        return self._idle.is_over(self._clock.monotonic_seconds())

    @property
    def terminal_end(self) -> int | None:
        """What the rank gets as its input and output; None = as without a session."""
        return self._terminal.rank_end if self._terminal else None

    @property
    def relay_end(self) -> int | None:
        """What the relay in the cell inherits; None where there is none."""
        return self._ports.rank_end.fileno() if self._ports else None

    def begin(self) -> None:
        """The rank has started, or could not."""
        for end in (self._terminal, self._ports):
            if end is not None:
                end.begin()

    def tend(self) -> None:
        """Let go of what nobody asks for any more. To be called again and again."""
        if self._ports is not None:
            self._ports.sweep(self._clock.monotonic_seconds())

    def close(self) -> None:
        """The rank has ended."""
        self._over = True
        for end in (self._terminal, self._ports):
            if end is not None:
                end.close()
        self._move()

    async def answer(self, ask: SessionAsk) -> SessionAnswer:
        """See ``ports.Fabric.session``."""
        if isinstance(ask, OutputFrom):
            return await self._until(lambda: self._output(ask), SessionAnswer(number=ask.offset_bytes))
        if isinstance(ask, Typed):
            return await self._until(lambda: self._typed(ask))
        if isinstance(ask, Resized):
            self._own_terminal().resize(ask.rows, ask.columns)
            return SessionAnswer()
        return await self._of_ports(ask)

    async def _of_ports(self, ask: Opened | Sent | ReceivedFrom | Closed) -> SessionAnswer:
        if isinstance(ask, Opened):
            return await self._open(ask.port)
        if isinstance(ask, Sent):
            return await self._until(lambda: self._sent(ask))
        if isinstance(ask, ReceivedFrom):
            return await self._until(lambda: self._received(ask), SessionAnswer(number=ask.offset_bytes))
        ports = self._own_ports()
        ports.connections.close(ask.connection)
        ports.flush()
        return SessionAnswer()

    def _output(self, ask: OutputFrom) -> SessionAnswer | None:
        over = self._over  # before the look: what came meanwhile is asked for again
        data, next_offset, _ = BoundedLog(self._log).read(ask.offset_bytes, PIECE_BYTES)
        return SessionAnswer(data, next_offset, over and not data) if data or over else None

    def _typed(self, ask: Typed) -> SessionAnswer:
        self._own_terminal().type(ask.data, ask.writer, ask.number)
        self._touch()
        return SessionAnswer()

    def _sent(self, ask: Sent) -> SessionAnswer:
        ports = self._own_ports()
        now = self._clock.monotonic_seconds()
        ports.connections.write(ask.connection, ask.offset_bytes, ask.data, now, end=ask.end)
        if ask.data:
            self._touch()
        ports.flush()
        return SessionAnswer()

    def _received(self, ask: ReceivedFrom) -> SessionAnswer | None:
        ports = self._own_ports()
        now = self._clock.monotonic_seconds()
        piece = ports.connections.read(ask.connection, ask.offset_bytes, PIECE_BYTES, now)
        ports.flush()
        after = ask.offset_bytes + len(piece.data)
        return SessionAnswer(piece.data, after, piece.ended) if piece.data or piece.ended else None

    async def _open(self, port: int) -> SessionAnswer:
        ports = self._own_ports()
        number = ports.connections.open(port, self._clock.monotonic_seconds())
        ports.flush()
        opened = await self._until(
            lambda: SessionAnswer(number=number) if self._own_ports().connections.is_open(number) else None
        )
        if not opened.number:
            ports.connections.close(number)
            ports.flush()
            raise Unavailable(f"port {port} of the job does not answer")
        self._touch()
        return opened

    async def _until(
        self, look: Callable[[], SessionAnswer | None], nothing: SessionAnswer = NOTHING
    ) -> SessionAnswer:
        """What ``look`` finds, as soon as it finds something and has room for it; ``nothing`` after a while.
        Raises what it raises, for want of room after a while only."""
        may_wait = self._waits < MAX_WAITS and RankSession.all_waits < MAX_ALL_WAITS
        until = self._loop.time() + (WAIT_SECONDS if may_wait else 0)
        self._waits += 1
        RankSession.all_waits += 1
        try:
            while True:
                moved, left_seconds = self._moved, until - self._loop.time()
                try:
                    found = look()
                except TooManyRequests as error:
                    if error.code != NO_ROOM_YET or left_seconds <= 0:
                        raise
                    found = None
                if found is not None or left_seconds <= 0:
                    return found or nothing
                with suppress(TimeoutError):
                    await asyncio.wait_for(moved.wait(), left_seconds)
        finally:
            self._waits -= 1
            RankSession.all_waits -= 1

    def _touch(self) -> None:
        self._idle.touch(self._clock.monotonic_seconds())

    def _own_terminal(self) -> Terminal:
        if self._terminal is None:
            raise InvalidInput("the job has no terminal: its spec.session has to ask for one")
        return self._terminal

    def _own_ports(self) -> PortsEnd:
        if self._ports is None:
            raise InvalidInput("ports of the job cannot be reached: its spec.session has to ask for them")
        if self._ports.closed:
            raise NotFound("ports of the job cannot be reached any more: what led to them has ended")
        return self._ports

    def _move(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _move_soon(self) -> None:
        with suppress(RuntimeError):  # the agent's loop has ended
            self._loop.call_soon_threadsafe(self._move)
