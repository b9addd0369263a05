"""The door of an engine: vLLM's own server with all but a few of its routes closed.

vLLM is told to load it (``--middleware``), so it runs in the engine's process. The engine asks for its key
below ``/v1`` and a few other prefixes only, and has the same handlers elsewhere too (``/invocations``,
``/adapters``), so what is not in ``ROUTES`` is not there, for anybody, and what is there needs the key.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from common.environment import engine_key_of_process
from inference.engine_usage import tell_running_usage

OPEN = frozenset(("/health",))
"""Says only whether the engine works: the node's agent looks at it to know when a rank is ready."""
ROUTES: Mapping[str, str] = {
    "/health": "GET",
    "/metrics": "GET",
    "/v1/models": "GET",
    "/v1/chat/completions": "POST",
    "/v1/completions": "POST",
    "/v1/embeddings": "POST",
    "/v1/responses": "POST",
    "/v1/messages": "POST",
    "/v1/messages/count_tokens": "POST",
    "/rerank": "POST",
    "/score": "POST",
    "/tokenize": "POST",
    "/detokenize": "POST",
    "/v1/load_lora_adapter": "POST",
    "/v1/unload_lora_adapter": "POST",
    "/inference/v1/abort_requests": "POST",
}
"""Path -> method: all that gateway and control use."""


class EngineGuard:
    """ASGI middleware. Without a key in the engine's environment only ``OPEN`` is served."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        tell_running_usage()
        self._expected = f"Bearer {engine_key_of_process()}".encode() if engine_key_of_process() else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif ROUTES.get(scope["path"]) != scope["method"]:
            await _refuse(send, 404, "an engine serves no such route")
        elif scope["path"] in OPEN or self._is_known(scope):
            await self._app(scope, receive, send)
        else:
            await _refuse(send, 401, "an engine answers only to its platform")

    def _is_known(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return bool(self._expected) and len(given) == 1 and hmac.compare_digest(given[0], self._expected)


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
