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


class Asking:
    """An application's answer to one request."""

    def __init__(self, app: Any, scope: dict[str, Any]) -> None:
        self._app, self._scope = app, scope

    async def __call__(self, request: Request) -> None:
        cycle = Cycle(request)
        await self._app(self._scope, cycle.receive, cycle.send)


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
        self._idle: asyncio.Future[tuple[Request, Answer]] | None = None
        """Waits for the next request."""

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
        return Asking(self._app, {**scope_of(request, self._scope), "state": self._state.copy()})

    def begin(self, request: Request, answer: Answer, connection: HttpProtocol) -> None:
        """Have it answered: by the task of the last one where that is done with it. Applications have a task
        for each request, since they may keep things in its context."""
        if self._idle is not None and not self._idle.done() and not isinstance(answer, Asking):
            self._idle.set_result((request, answer))
            return
        task = connection.loop.create_task(self._answer_all(request, answer, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def end(self) -> None:
        """The client has gone."""
        if self._idle is not None:
            self._idle.cancel()

    async def _answer_all(self, request: Request, answer: Answer, connection: HttpProtocol) -> None:
        """The request, and those that come after it, for as long as no other task waits for them."""
        await _answered(request, answer, connection)
        is_direct = not isinstance(answer, Asking)
        while is_direct and self._idle is None and connection.has_client():
            del request, answer  # nothing of an answer is kept while its connection is idle
            following = await self._next(connection)
            if following is None:
                return
            request, answer = following
            del following
            await _answered(request, answer, connection)

    async def _next(self, connection: HttpProtocol) -> tuple[Request, Answer] | None:
        """The next request; None where the client has gone."""
        self._idle = connection.loop.create_future()
        try:
            return await self._idle
        except asyncio.CancelledError:
            if connection.has_client():
                raise
            return None
        finally:
            self._idle = None

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
