"""TLS in front of the protocol of a listener.

A connection counts from its first moment, not from the end of its handshake, and has to come to that end in
the time that headers have: who leaves handshakes unfinished holds no more than who sends nothing.
"""

from __future__ import annotations

import asyncio
import ssl
import types
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from common.http_server.door import REFUSED, Door
from common.http_server.protocol import Direct, HttpProtocol, guarded


class TlsGate(asyncio.Protocol):
    """One connection until its handshake is done; then the listener's protocol takes it over.

    ``door``, ``context`` and ``behind`` are set by ``guarded_by_tls``.
    """

    door: Door
    context: ssl.SSLContext
    behind: type[HttpProtocol]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = _loop or asyncio.get_running_loop()
        self._inner = self.behind(config, server_state, app_state, self._loop)
        self._state = server_state
        self._early: list[bytes] = []
        self._raw: asyncio.Transport | None = None
        self._lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._raw = transport
        peer = transport.get_extra_info("peername")
        if not self.door.admit(self, peer[0] if isinstance(peer, tuple) else ""):
            REFUSED.labels("connections").inc()
            transport.abort()
            return
        self._state.connections.add(self)  # type: ignore[arg-type]
        seconds = self.door.limits.header_seconds
        upgrade = self._loop.start_tls(
            transport, self, self.context, server_side=True, ssl_handshake_timeout=seconds
        )
        # Begun here and now: TLS has to be in place before the loop reads what the client says first.
        waits_for = upgrade.send(None)
        task = self._loop.create_task(self._take_over(transport, _rest_of(upgrade, waits_for)))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def data_received(self, data: bytes) -> None:
        """What comes in one piece with the end of the handshake."""
        self._early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True

    def check(self, now_seconds: float) -> None:
        """The handshake has a time limit of its own."""

    def shutdown(self) -> None:
        """The server ends, and nothing is in work on this connection."""
        if self._raw is not None:
            self._raw.abort()

    async def _take_over(self, transport: asyncio.Transport, upgrade: Awaitable[Any]) -> None:
        """Hand the connection over when its handshake is done."""
        try:
            secured = await upgrade
        except OSError:  # ssl.SSLError and TimeoutError are among them
            REFUSED.labels("handshake").inc()
            transport.abort()
            return
        finally:
            self.door.leave(self)
            self._state.connections.discard(self)
        if secured is None or self._lost:
            transport.abort()
            return
        secured.set_protocol(self._inner)
        self._inner.connection_made(secured)
        for data in self._early:
            self._inner.data_received(data)


@types.coroutine
def _rest_of(begun: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """A coroutine that was begun outside of a task, to be awaited in one."""
    try:
        while True:
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001 - passed on as it is
                waits_for = begun.throw(error)
            else:
                waits_for = begun.send(value)
    except StopIteration as end:
        return end.value


def guarded_by_tls(
    door: Door, context: ssl.SSLContext | None, direct: Direct | None = None
) -> type[asyncio.Protocol]:
    """The protocol of one listener, for ``uvicorn.Config(http=…)``; in clear where there is no context."""
    behind = guarded(door, direct)
    if context is None:
        return behind
    return type("ListenerTlsGate", (TlsGate,), {"door": door, "context": context, "behind": behind})
