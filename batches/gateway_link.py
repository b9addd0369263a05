"""Asking a gateway for the answer to a line."""

from __future__ import annotations

import ssl
from contextlib import suppress

import aiohttp

from batches.core.answer import Answer
from common.batch_line import LINE_HEADER, USAGE_HEADER, LineTold, signed_line
from common.clock import Clock
from common.settings import Settings
from common.tls import ClientTrust

_TOO_SLOW = b'{"error": {"message": "no answer came in time", "code": "line_timeout"}}'
_HEADER_BYTES = 128 * 1024
"""A usage event has at most a part of it."""
_LOOK_AGAIN_SECONDS = 30.0
"""Between two looks at the files of the authorities that are trusted."""


class GatewayLink:
    """To whichever gateway answers at the address in the settings."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._url = settings.batches.gateway_url or settings.gateway.base_url
        self._trust = ClientTrust(settings, self._url)
        self._looked_seconds = clock.monotonic_seconds()
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, path: str, line: LineTold, body: bytes, request_id: str) -> Answer | None:
        """What it says; None where nobody answers."""
        headers = {
            "Content-Type": "application/json",
            "X-Request-Id": request_id,
            LINE_HEADER: signed_line(self._settings.internal_token, line, self._clock.now_ms()),
        }
        try:
            async with self._opened().post(
                f"{self._url}{path}", data=body, headers=headers, ssl=self._verify(), allow_redirects=False
            ) as response:
                content = await _read(response, self._settings.batches.max_answer_bytes)
        except aiohttp.ClientError:
            return None
        except TimeoutError:  # it counts as a try: an engine may have worked on it all the while
            return Answer(504, _TOO_SLOW, True, request_id)
        except OSError:
            return None
        return Answer(
            status=response.status,
            content=content,
            is_told=response.headers.get(LINE_HEADER) == line.id,
            request_id=response.headers.get("x-request-id", request_id),
            event=response.headers.get(USAGE_HEADER, ""),
            retry_after_seconds=_seconds(response.headers.get("retry-after", "")),
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            limit = self._settings.batches.line_timeout_seconds
            connect = self._settings.gateway.connect_timeout_seconds
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=limit, sock_connect=connect),
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3.0),
                max_field_size=_HEADER_BYTES,
                max_line_size=_HEADER_BYTES,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _verify(self) -> ssl.SSLContext | bool:
        now_seconds = self._clock.monotonic_seconds()
        if now_seconds - self._looked_seconds >= _LOOK_AGAIN_SECONDS:
            self._looked_seconds = now_seconds
            self._trust.look()
        return self._trust.verify


async def _read(response: aiohttp.ClientResponse, most_bytes: int) -> bytes | None:
    """The body; None where it is longer than that."""
    held = bytearray()
    async for piece in response.content.iter_any():
        held += piece
        if len(held) > most_bytes:
            return None
    return bytes(held)


def _seconds(text: str) -> float:
    with suppress(ValueError):
        return max(0.0, min(float(text), 3600.0))
    return 0.0
