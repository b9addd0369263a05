"""A small client of models at the gateway, for a command line that would take longer to load the official one
than to be answered."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from common.error_bodies import error_from_body
from common.errors import Unavailable

Message = Mapping[str, str]
ANSWER_SECONDS = 600.0
_DATA, _DONE = "data:", "[DONE]"
_ENGINE_FAILED = 502
"""What an error in mid-stream would have been as an answer."""


class ChatClient:
    """Asks at ``base_url`` (with ``/v1``) with an API key; in tests ``transport`` replaces the network.

    Every method raises the error that the gateway says, or ``Unavailable`` where it cannot be reached.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = base_url.rstrip("/")
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {key}"},
            timeout=ANSWER_SECONDS,
            verify=verify,
            transport=transport,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def answer(self, model: str, messages: Sequence[Message], **options: Any) -> Iterator[str]:
        """The text of the answer, in pieces as it comes."""
        body = {"model": model, "messages": list(messages), "stream": True, **options}
        try:
            with self._http.stream("POST", f"{self._url}/chat/completions", json=body) as response:
                if response.is_error:
                    response.read()
                    raise error_from_body(response.status_code, response.text)
                yield from _texts(response.iter_lines())
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def models(self) -> list[str]:
        """The names of the models that the key may use."""
        try:
            response = self._http.get(f"{self._url}/models")
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise error_from_body(response.status_code, response.text)
        return [str(one["id"]) for one in response.json()["data"]]

    def _unreachable(self, error: httpx.HTTPError) -> Unavailable:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Unavailable(f"the gateway is not running at {self._url}; start it with `computility up`")
        return Unavailable(f"the gateway at {self._url} broke off ({error or type(error).__name__})")


def _texts(lines: Iterator[str]) -> Iterator[str]:
    """What the events of a stream say; raises the error that one of them is."""
    for line in lines:
        if not line.startswith(_DATA):
            continue
        data = line.removeprefix(_DATA).strip()
        if data == _DONE:
            return
        chunk = json.loads(data)
        if "error" in chunk:
            raise error_from_body(_ENGINE_FAILED, data)
        for choice in chunk["choices"][:1]:
            if text := choice["delta"].get("content"):
                yield text
