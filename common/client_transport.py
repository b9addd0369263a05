"""How the client of the control API reaches control: addresses, time-outs, and what is sent again.

Every method raises an error of ``common.errors``: the one that the API's error body says, or ``Unavailable``
when control cannot be reached.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from common.error_bodies import error_from_body
from common.errors import NO_LEADER, NOT_LEADING, Unavailable
from common.ids import new_id

Document = dict[str, Any]
Documents = list[Document]
T = TypeVar("T")

CONNECT_SECONDS = 5.0
"""Where there is another address: a machine that is off says nothing at all."""
TAKEOVER_SECONDS = 30.0
"""So long is waited for a control process to lead, where another one says that none does now."""
_LOOK_AGAIN_SECONDS = 1.0


class Transport:
    """Speaks to control at ``base_url`` (like ``http://127.0.0.1:8001``) with an API key; where nothing takes
    a connection there, at the next of the ``others``.

    ``verify`` says whom to trust at an https URL (see ``common.tls``); in tests ``transport`` replaces the
    network, and ``sleep`` the wait for a control process that leads.
    """

    def __init__(
        self,
        base_url: str,
        key: str = "",
        *,
        timeout_seconds: float = 30.0,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.BaseTransport | None = None,
        others: Sequence[str] = (),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._others = [url.rstrip("/") for url in others]
        self._timeout_seconds = timeout_seconds
        self._sleep = sleep
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(
            base_url=self.base_url,
            headers=headers,
            timeout=self._patience(timeout_seconds),
            verify=_trusted([self.base_url, *self._others], verify),
            transport=transport,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the connections."""
        self._http.close()

    def _read(self, path: str, **params: Any) -> Document:
        return self._answer(self._send("GET", path, params=query_of(params)))

    def _text(self, path: str, **params: Any) -> str:
        response = self._send("GET", path, params=query_of(params))
        if response.is_error:
            self._answer(response)
        return response.text

    def _write(
        self,
        method: str,
        path: str,
        body: object,
        *,
        token: str | None = None,
        timeout_seconds: float | None = None,
        dry_run: bool = False,
        **params: Any,
    ) -> Document:
        """A write with an Idempotency-Key, so that it may be sent again when the answer got lost."""
        headers = {"Idempotency-Key": new_id("idem")}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        query = query_of({**params, "dryRun": dry_run or None})
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            headers["Content-Type"] = "application/json"
        timeout = self._patience(timeout_seconds or self._timeout_seconds)
        return self._answer(
            self._send(method, path, params=query, content=content, headers=headers, timeout=timeout)
        )

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Sent again for as long as no control process leads: a takeover takes some seconds."""
        for _ in range(int(TAKEOVER_SECONDS / _LOOK_AGAIN_SECONDS)):
            response = self._send_once(method, path, **options)
            if not _has_no_leader(response):
                return response
            self._sleep(_LOOK_AGAIN_SECONDS)
        return self._send_once(method, path, **options)

    def _send_once(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            try:
                return self._reach(lambda: self._http.request(method, path, **options))
            except (httpx.ReadError, httpx.RemoteProtocolError):
                return self._reach(lambda: self._http.request(method, path, **options))
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _patience(self, seconds: float, *, ends: bool = True) -> httpx.Timeout:
        """``ends``: an answer may not be silent for longer."""
        connect_seconds = min(seconds, CONNECT_SECONDS) if self._others else seconds
        return httpx.Timeout(seconds, connect=connect_seconds, read=seconds if ends else None)

    def _reach(self, ask: Callable[[], T]) -> T:
        """What ``ask`` gets, at the first address that takes a connection."""
        for _ in self._others:
            try:
                return ask()
            except (httpx.ConnectError, httpx.ConnectTimeout):
                self._others.append(self.base_url)
                self.base_url = self._others.pop(0)
                self._http.base_url = httpx.URL(self.base_url)
        return ask()

    def _stream(self, path: str, params: Mapping[str, Any]) -> Iterator[str]:
        silence = self._patience(self._timeout_seconds, ends=False)
        try:
            ask = partial(self._http.stream, "GET", path, params=query_of(params), timeout=silence)
            with ExitStack() as opened:
                response = self._reach(lambda: opened.enter_context(ask()))
                if response.is_error:
                    response.read()
                    self._answer(response)
                yield from response.iter_lines()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.HTTPError) -> Unavailable:
        reason = str(error) or type(error).__name__
        return Unavailable(
            f"cannot reach control at {self.base_url} ({reason}); is it running? `computility up` starts it"
        )

    def _answer(self, response: httpx.Response) -> Document:
        if response.is_error:
            raise error_from_body(response.status_code, response.text)
        content: Document = response.json()
        return content


def _trusted(urls: Sequence[str], verify: ssl.SSLContext | bool) -> ssl.SSLContext | bool:
    """Whom to trust at these addresses. In clear text nobody has a certificate, so none is trusted: to load
    those of the system takes longer than most questions."""
    is_clear = not any(url.startswith("https:") for url in urls)
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_clear else verify


def _has_no_leader(response: httpx.Response) -> bool:
    """Whether nothing was done because no control process leads, or one that did leads no more."""
    if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
        return False
    return error_from_body(response.status_code, response.text).code in (NO_LEADER, NOT_LEADING)


def query_of(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters that are set, booleans in lower case, lists joined by commas, names as the API spells
    them.
    """
    spelled = {"resource_version": "resourceVersion", "at_head": "atHead"}
    query: dict[str, str] = {}
    for name, value in params.items():
        if value is None or value is False:
            continue
        if isinstance(value, (list, tuple)):
            value = ",".join(str(part) for part in value)
        query[spelled.get(name, name)] = "true" if value is True else str(value)
    return query
