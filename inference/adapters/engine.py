"""vLLM engines over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from common.auth import engine_headers
from common.errors import EngineFailed, InvalidInput, Unavailable
from common.load import EngineLoad
from inference.adapters.engine_metrics import read_counters, read_load
from inference.ports import EngineCounters, LoadedModel

_LOADED = "has already been loaded"


class VllmEngines:
    """Implements ``inference.ports.Engines`` and ``CountingEngines``.

    Engines are shown the key that ``internal_token`` gives.
    ``load_timeout_seconds`` is for reading an adapter's weights, ``timeout_seconds`` for all else.
    """

    def __init__(
        self, internal_token: str, timeout_seconds: float = 5.0, load_timeout_seconds: float = 120.0
    ) -> None:
        self._load_timeout_seconds = load_timeout_seconds
        headers = engine_headers(internal_token)
        self._client = httpx.AsyncClient(timeout=timeout_seconds, trust_env=False, headers=headers)

    async def loaded_models(self, url: str) -> Sequence[LoadedModel]:
        response = await self._send("GET", f"{url}/v1/models")
        _require_success(response)
        try:
            return [_loaded_model(card) for card in response.json()["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise EngineFailed(
                f"the engine at {url} lists its models in an unknown form: {error!r}"
            ) from error

    async def load_adapter(self, url: str, name: str, path: str) -> None:
        """vLLM (0.32) reads the weights of an adapter that was loaded in place again for every step of every
        request. So one that replaces another is loaded in place only to see that it can be, and then once
        more as new; in between the engine says 404 to the name."""
        response = await self._load(url, name, path)
        if _is_loaded(response):
            _require_loaded(await self._load(url, name, path, load_inplace=True), name, path)
            await self.unload_adapter(url, name)
            response = await self._load(url, name, path)
        _require_loaded(response, name, path)

    async def _load(self, url: str, name: str, path: str, **how: bool) -> httpx.Response:
        body = {"lora_name": name, "lora_path": path, **how}
        return await self._send("POST", f"{url}/v1/load_lora_adapter", body, self._load_timeout_seconds)

    async def unload_adapter(self, url: str, name: str) -> None:
        response = await self._send("POST", f"{url}/v1/unload_lora_adapter", {"lora_name": name})
        if response.status_code == 404 and "error" in _body(response):
            return
        _require_success(response)

    async def load(self, url: str) -> EngineLoad:
        response = await self._send("GET", f"{url}/metrics")
        _require_success(response)
        try:
            return read_load(response.text)
        except ValueError as error:
            raise EngineFailed(f"the engine at {url} tells no load: {error}") from error

    async def counters(self, url: str) -> EngineCounters:
        response = await self._send("GET", f"{url}/metrics")
        _require_success(response)
        try:
            return read_counters(response.text)
        except ValueError as error:
            raise EngineFailed(f"the engine at {url} does not count: {error}") from error

    async def close(self) -> None:
        await self._client.aclose()

    async def _send(
        self, method: str, url: str, body: dict[str, Any] | None = None, timeout_seconds: float | None = None
    ) -> httpx.Response:
        timeout = httpx.USE_CLIENT_DEFAULT if timeout_seconds is None else httpx.Timeout(timeout_seconds)
        try:
            return await self._client.request(method, url, json=body, timeout=timeout)
        except httpx.HTTPError as error:
            raise Unavailable(f"the engine did not answer {method} {url}: {error!r}") from error


def _loaded_model(card: dict[str, Any]) -> LoadedModel:
    return LoadedModel(
        name=str(card["id"]),
        base=card.get("parent"),
        path=card.get("root") or "",
        context_tokens=card.get("max_model_len"),
    )


def _require_success(response: httpx.Response) -> None:
    if response.status_code >= 300:
        what = f"{response.request.method} {response.request.url}"
        raise EngineFailed(f"the engine answered {response.status_code} to {what}: {_message(response)}")


def _require_loaded(response: httpx.Response, name: str, path: str) -> None:
    if response.status_code in (400, 404, 422):
        text = f"the engine refused adapter {name} at {path}: {_message(response)}"
        raise InvalidInput(text, param="path")
    _require_success(response)


def _is_loaded(response: httpx.Response) -> bool:
    """Whether the engine refused an adapter because it has one of that name."""
    return response.status_code == 400 and _LOADED in _message(response)


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _message(response: httpx.Response) -> str:
    error = _body(response).get("error")
    if isinstance(error, dict) and error.get("message"):
        return str(error["message"])
    return response.text[:500]
