"""The paths that control serves, under the gateway's base URL: passed on as they are, streaming both ways."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from common.errors import TooLarge, Unavailable
from common.http_server.request import ClientGone
from common.settings import Settings
from common.units import format_bytes
from common.wire import JSON_LIMIT_BYTES, MULTIPART_OVERHEAD_BYTES
from inference.gateway.control_link.addresses import ControlAddresses
from inference.gateway.exchange import Exchange

PROXIED_PREFIXES = ("/v1/batches", "/v1/files", "/v1/fine_tuning", "/v1/organization")

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OF_THE_INNER_SERVER = frozenset(
    {"content-location", "date", "location", "server", "x-content-type-options", "x-request-id"}
)
"""What control says about itself, or the gateway says again."""
_UPLOADS = "/v1/files"
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
_AUTO_HEADERS = ("User-Agent", "Accept-Encoding", "Accept", "Content-Type")


def is_proxied(method: str, path: str) -> bool:
    """Whether control answers the request. Dot segments never are passed on."""
    if "/../" in f"{path}/" or "/./" in f"{path}/":
        return False
    if method == "DELETE" and path.startswith("/v1/models/"):
        return True
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in PROXIED_PREFIXES)


class ControlProxy:
    """Passes requests on to control, which authenticates them itself."""

    def __init__(self, settings: Settings, trust: ssl.SSLContext | bool = True) -> None:
        self._control = ControlAddresses(settings)
        self._upload_limit_bytes = settings.control.upload_limit_bytes + MULTIPART_OVERHEAD_BYTES
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=settings.gateway.connect_timeout_seconds, sock_read=300
        )
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3.0, ssl=trust),
            auto_decompress=False,
            skip_auto_headers=_AUTO_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._session.close()

    async def handle(self, exchange: Exchange) -> None:
        """Raises ``Unavailable`` when control is not there, ``ClientGone`` when the upload breaks off,
        ``TooLarge`` for a body that control would not take.
        """
        self._check_length(exchange)
        target = exchange.scope["raw_path"].decode("ascii")
        if query := exchange.scope["query_string"]:
            target += "?" + query.decode("ascii")
        try:
            await self._ask(exchange, target)
        except ClientGone:
            raise
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error.__cause__, ClientGone):
                raise ClientGone from error
            if exchange.started:
                raise
            raise Unavailable(
                "control, which answers this, is not available right now; try again in a moment"
            ) from error

    async def _ask(self, exchange: Exchange, target: str) -> None:
        """At the first address that takes a connection. Raises aiohttp's errors."""
        for tries_left in reversed(range(len(self._control))):
            try:
                with self._control.asking(target) as url:
                    async with self._session.request(
                        exchange.method,
                        URL(url, encoded=True),
                        headers=_request_headers(exchange),
                        data=None if exchange.method in _BODILESS else exchange.body_chunks(),
                        allow_redirects=False,
                    ) as response:
                        await _send_back(exchange, response)
                return
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):  # nothing was sent
                if not tries_left:
                    raise

    def _check_length(self, exchange: Exchange) -> None:
        """Control counts what comes; what is announced as too long does not come that far."""
        limit = self._upload_limit_bytes if exchange.path == _UPLOADS else JSON_LIMIT_BYTES
        announced = exchange.headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > limit:
            raise TooLarge(f"the body is over the limit of {format_bytes(limit)}")


async def _send_back(exchange: Exchange, response: aiohttp.ClientResponse) -> None:
    headers = _lower(response.headers.items(), _HOP_BY_HOP | _OF_THE_INNER_SERVER)
    if response.status == 409 and "x-should-retry" not in response.headers:
        headers.append((b"x-should-retry", b"false"))
    await exchange.start(response.status, headers)
    # An upload may still be read. A download is watched: who has left shall not have the rest fetched.
    watch = asyncio.create_task(exchange.disconnected()) if exchange.method in _BODILESS else None
    try:
        async for data in response.content.iter_any():
            if watch is not None and watch.done():
                raise ClientGone
            await exchange.write(data)
    finally:
        if watch is not None:
            watch.cancel()
    await exchange.write(b"", more=False)


def _request_headers(exchange: Exchange) -> CIMultiDict[str]:
    """Those of the request. A length goes only with its body: control would take what comes next on the
    connection, somebody else's request, for one that is not sent."""
    own = {"host", "x-request-id", *({"content-length"} if exchange.method in _BODILESS else ())}
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in exchange.pairs:
        text = name.decode("latin-1")
        if text not in _HOP_BY_HOP and text not in own:
            headers.add(text, value.decode("latin-1"))
    headers["x-request-id"] = exchange.request_id
    if exchange.trace is not None:
        headers.update(exchange.trace.headers)
    return headers


def _lower(items: Iterable[tuple[str, str]], skipped: frozenset[str]) -> list[tuple[bytes, bytes]]:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in items
        if name.lower() not in skipped and not name.lower().startswith("access-control-")
    ]
