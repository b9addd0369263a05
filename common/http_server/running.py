"""What answers the requests of a connection, and the tasks in which it does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config

from common.http_server.asgi import Cycle, scope_of
from common.http_server.request import Headers, Request
from common.telemetry import get_logger

if TYPE_CHECKING:
    from common.http_server.protocol import Direct, HttpProtocol

Answer = Callable[[Request], Awaitable[None]]
_log = get_logger("http_server")


class Run:
    """``direct`` says what answers a request; the application of ``config`` answers all others. ``tasks`` are
    waited for when the server ends."""

    _common: tuple[Headers, bytes] = ([], b"")
    """What all answers of the process begin with, as it was last said."""

    def __init__(
        self,
        config: Config,
        app_state: dict[str, Any],
        tasks: set[asyncio.Task[None]],
        direct: Direct | None,
    ) -> None:
        self._app = config.loaded_app
        self._state = app_state
        self._tasks = tasks
        self._direct = direct
        self._scope: dict[str, Any] = {}

    def meets(self, transport: asyncio.Transport) -> str:
        """A client has connected. Returns its address; empty where it has none."""
        peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        client = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else None
        self._scope = {
            "server": (str(here[0]), int(here[1])) if isinstance(here, tuple) else None,
            "client": client,
            "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
        }
        return client[0] if client is not None else ""

    def answer_of(self, request: Request) -> Answer:
        """What is going to answer it. Raises ``HttpParserError`` where what it asks for is no path."""
        answer = self._direct(request) if self._direct is not None else None
        if answer is not None:
            return answer
        scope = {**scope_of(request, self._scope), "state": self._state.copy()}

        async def ask(request: Request) -> None:
            cycle = Cycle(request)
            await self._app(scope, cycle.receive, cycle.send)

        return ask

    def begin(self, request: Request, answer: Answer, connection: HttpProtocol) -> None:
        """Have it answered."""
        task = connection.loop.create_task(_answered(request, answer, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def common_lines(self, headers: Headers) -> bytes:
        """``headers`` as lines; they change once a second."""
        if Run._common[0] is not headers:
            Run._common = headers, b"".join(b"%b: %b\r\n" % header for header in headers)
        return Run._common[1]


async def _answered(request: Request, answer: Answer, connection: HttpProtocol) -> None:
    """The boundary where what an application raises ends a connection, and no more."""
    try:
        await answer(request)
    except asyncio.CancelledError:  # the server ends
        connection.fail(request)
        raise
    except Exception:  # noqa: BLE001
        _log.exception("a request was not answered")
        connection.fail(request)
    else:
        if not (request.ended or request.is_gone):
            _log.error("an application has ended without an answer")
            connection.fail(request)
