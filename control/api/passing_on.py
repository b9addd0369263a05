"""What a control process that does not lead does with a request: reads it answers from the database, all else
it passes on to the one that leads, as it came."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterable

import aiohttp
from multidict import CIMultiDict
from prometheus_client import Counter
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from yarl import URL

from common.errors import NO_LEADER, ComputilityError, InvalidInput, Unavailable
from common.leadership.elector import Elector
from common.settings import Settings
from common.telemetry import get_logger
from common.tls import ClientTrust
from control.api.errors import error_response

MARK = b"x-computility-passed-on"
"""Has been passed on once: who gets it and does not lead either passes it on no further."""
CONNECT_SECONDS = 3.0
SILENCE_SECONDS = 700.0
"""A drain answers nothing for ten minutes. A log that is followed may stay silent for days."""
READS = frozenset(("GET", "HEAD", "OPTIONS"))
OF_THE_LEADER = re.compile(
    r"/api/v1/overview|/api/v1/reconciliation|/api/v1/(workloads|nodes|endpoints)/[^/]+/(explain|logs|series)"
    r"|/api/v1/jobs/[^/]+/output"
)
"""Reads of what only the leader has: it is in its memory, or asked of the nodes."""
_OF_ONE_CONNECTION = frozenset(
    (
        b"connection",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"origin",
        b"date",
        b"server",
    )
)
"""And what is said here as well: who may call from a browser, for one."""
PASSED_ON = Counter(
    "computility_control_passed_on", "Requests passed on to the control process that leads", ("outcome",)
)
_log = get_logger("control.api")


class PassingOn:
    """ASGI middleware. A request whose answer is lost on the way is answered 503: it may have been carried
    out, and an Idempotency-Key tells whoever sends it again."""

    def __init__(self, app: ASGIApp, elector: Elector, settings: Settings) -> None:
        self._app = app
        self._elector = elector
        self._settings = settings
        self._trusted: tuple[str, ClientTrust] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._elector.leads or is_served_here(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        url, answer = self._elector.leader_url, _Answer(send)
        try:
            if not url or any(name == MARK for name, _ in scope["headers"]):
                raise _nobody("no control process leads now")
            await self._pass_on(url, scope, receive, answer)
            PASSED_ON.labels("answered").inc()
        except ClientDisconnect:
            PASSED_ON.labels("abandoned").inc()
        except ComputilityError as error:
            PASSED_ON.labels("failed").inc()
            if answer.started:
                raise
            await error_response(error)(scope, receive, send)

    async def _pass_on(self, url: str, scope: Scope, receive: Receive, answer: _Answer) -> None:
        """Raises ``Unavailable`` where the leader does not answer to the end, or is followed by another: one
        that hangs takes connections and says nothing. Raises ``ClientDisconnect`` where the caller leaves."""
        body = _Body(receive)
        if scope["method"] in READS:
            body.skip()
        passing = asyncio.create_task(self._exchange(url, scope, body, answer))
        leaving = asyncio.create_task(body.until_left())
        moving = asyncio.create_task(self._elector.moved.wait())
        try:
            await asyncio.wait({passing, leaving, moving}, return_when=asyncio.FIRST_COMPLETED)
            if not passing.done() and moving.done():
                raise _nobody("the control process that led does not answer, and does not lead any more")
            if not passing.done():
                raise ClientDisconnect
            passing.result()
        except (aiohttp.ClientError, OSError) as error:
            _log.warning("the leader does not answer", url=url, error=str(error) or type(error).__name__)
            raise _nobody("the control process that leads does not answer") from error
        finally:
            for task in (passing, leaving, moving):
                task.cancel()
            await asyncio.gather(passing, leaving, moving, return_exceptions=True)

    async def _exchange(self, url: str, scope: Scope, body: _Body, answer: _Answer) -> None:
        target = scope["raw_path"].decode("ascii")
        if query := scope["query_string"]:
            target += "?" + query.decode("ascii")
        silence_seconds = None if scope["path"].endswith("/logs") else SILENCE_SECONDS
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence_seconds)
        # One connection for each: none that is kept is one to a process that is gone by now.
        connector = aiohttp.TCPConnector(force_close=True, ssl=self._trust(url))
        async with (
            aiohttp.ClientSession(
                timeout=timeout,
                connector=connector,
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept", "Content-Type"),
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as session,
            session.request(
                scope["method"],
                URL(url + target, encoded=True),
                headers=_headers(scope),
                data=None if scope["method"] in READS else body.chunks(),
                allow_redirects=False,
                server_hostname=self._settings.control.peer_name or None,
            ) as response,
        ):
            await answer.start(response.status, _kept(response.raw_headers))
            async for data in response.content.iter_any():
                await answer.write(data)
            await answer.write(b"", more=False)

    def _trust(self, url: str) -> ssl.SSLContext | bool:
        """Kept for as long as the same one leads: to read all authorities takes 40 ms."""
        if self._trusted is None or self._trusted[0] != url:
            self._trusted = url, ClientTrust(self._settings, url)
        self._trusted[1].look()
        return self._trusted[1].verify


class _Answer:
    """What goes back to the caller."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


class _Body:
    """What comes from the caller; its end is waited for by one, and what comes after it by another."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = asyncio.Event()
        self._has_left = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, piece by piece. Raises ``ClientDisconnect`` where it breaks off."""
        more = True
        while more:
            message: Message = await self._receive()
            if message["type"] == "http.disconnect":
                self._has_left = True
                self._ended.set()
                raise ClientDisconnect
            yield message.get("body", b"")
            more = message.get("more_body", False)
        self._ended.set()

    async def until_left(self) -> None:
        """Return when the caller has left, before or after the end of its body."""
        await self._ended.wait()
        while not self._has_left:
            self._has_left = (await self._receive())["type"] == "http.disconnect"

    def skip(self) -> None:
        """There is none to be read."""
        self._ended.set()


def is_served_here(method: str, path: str) -> bool:
    """Whether any control process answers it by itself. What is no path (``*``, and what is said after it)
    would become part of the leader's address, or of another one, and is answered where it came."""
    return not path.startswith("/") or (method in READS and not OF_THE_LEADER.fullmatch(path))


def _nobody(what: str) -> Unavailable:
    return Unavailable(
        f"{what}; another takes over within some seconds: send it again then, with the same Idempotency-Key",
        code=NO_LEADER,
    )


def _headers(scope: Scope) -> CIMultiDict[str]:
    """Byte for byte as they came, for aiohttp writes UTF-8: an Idempotency-Key that came otherwise would be
    another one. Raises ``InvalidInput`` for what it cannot write."""
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in _kept(scope["headers"]):
        if name == b"content-length" and scope["method"] in READS:
            continue  # the body is not sent either
        try:
            headers.add(name.decode("ascii"), value.decode())
        except UnicodeDecodeError as error:
            raise InvalidInput(
                f"the header {name.decode('latin-1')} has to be UTF-8", "bad_header"
            ) from error
    headers[MARK.decode()] = "1"
    return headers


def _kept(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [
        (name.lower(), value)
        for name, value in headers
        if name.lower() not in _OF_ONE_CONNECTION and not name.lower().startswith(b"access-control-")
    ]
