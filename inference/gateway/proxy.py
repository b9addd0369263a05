"""The paths that control serves, under the gateway's base URL: passed on as they are, streaming both ways."""

from __future__ import annotations

from collections.abc import Iterable

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from common.errors import Unavailable
from common.settings import Settings
from inference.gateway.exchange import ClientGone, Exchange

PROXIED_PREFIXES = ("/v1/files", "/v1/fine_tuning")

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

    def __init__(self, settings: Settings) -> None:
        self._base = settings.control_url
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=settings.gateway.connect_timeout_seconds, sock_read=300
        )
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3.0),
            auto_decompress=False,
            skip_auto_headers=_AUTO_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._session.close()

    async def handle(self, exchange: Exchange) -> None:
        """Raises ``Unavailable`` when control is not there, ``ClientGone`` when the upload breaks off."""
        target = exchange.scope["raw_path"].decode("ascii")
        if query := exchange.scope["query_string"]:
            target += "?" + query.decode("ascii")
        try:
            async with self._session.request(
                exchange.method,
                URL(self._base + target, encoded=True),
                headers=_request_headers(exchange),
                data=None if exchange.method in _BODILESS else exchange.body_chunks(),
                allow_redirects=False,
            ) as response:
                await _send_back(exchange, response)
        except ClientGone:
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error.__cause__, ClientGone):
                raise ClientGone from error
            if exchange.started:
                raise
            raise Unavailable(
                "control, which answers this, is not available right now; try again in a moment"
            ) from error


async def _send_back(exchange: Exchange, response: aiohttp.ClientResponse) -> None:
    skipped = _HOP_BY_HOP | {"x-request-id", "date", "server"}
    headers = _lower(response.headers.items(), skipped)
    if response.status == 409 and "x-should-retry" not in response.headers:
        headers.append((b"x-should-retry", b"false"))
    await exchange.start(response.status, headers)
    async for data in response.content.iter_any():
        await exchange.write(data)
    await exchange.write(b"", more=False)


def _request_headers(exchange: Exchange) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in exchange.scope["headers"]:
        text = name.decode("latin-1")
        if text not in _HOP_BY_HOP and text not in ("host", "x-request-id"):
            headers.add(text, value.decode("latin-1"))
    headers["x-request-id"] = exchange.request_id
    return headers


def _lower(items: Iterable[tuple[str, str]], skipped: frozenset[str]) -> list[tuple[bytes, bytes]]:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in items
        if name.lower() not in skipped
    ]
