"""The door of an engine opens only for what the platform asks, and only to the platform."""

from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from inference.engine_guard import ROUTES, EngineGuard

KEY = "key of the engine"
OPEN, KNOWN = b"", f"Bearer {KEY}".encode()


async def engine(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers everything."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def ask(path: str, method: str, *authorization: bytes, kind: str = "http") -> Message:
    """What the door says first."""
    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        said.append(message)

    headers = [(b"authorization", value) for value in authorization]
    scope: dict[str, Any] = {"type": kind, "path": path, "method": method, "headers": headers}
    await EngineGuard(engine)(scope, receive, send)
    return said[0]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)


@pytest.mark.parametrize(("path", "method"), ROUTES.items())
async def test_the_platform_is_let_in(path: str, method: str) -> None:
    assert (await ask(path, method, KNOWN))["status"] == 200


@pytest.mark.parametrize(("path", "method"), [route for route in ROUTES.items() if route[0] != "/health"])
@pytest.mark.parametrize(
    "authorization", [(), (b"Bearer wrong",), (KEY.encode(),), (KNOWN, KNOWN), (b"Bearer ",)]
)
async def test_nobody_else_is(path: str, method: str, authorization: tuple[bytes, ...]) -> None:
    assert (await ask(path, method, *authorization))["status"] == 401


async def test_whether_it_works_may_be_asked_by_all() -> None:
    assert (await ask("/health", "GET"))["status"] == 200


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/adapters", "POST"),
        ("/adapters/ft:tiny:acme::good", "DELETE"),
        ("/invocations", "POST"),
        ("/scale_elastic_ep", "POST"),
        ("/tokenizer_info", "GET"),
        ("/openapi.json", "GET"),
        ("/v1/chat/completions/", "POST"),
        ("//v1/models", "GET"),
        ("/v1/models", "POST"),
        ("/health", "POST"),
        ("/v1/Models", "GET"),
    ],
)
async def test_what_the_platform_does_not_use_is_not_there_even_with_the_key(path: str, method: str) -> None:
    assert (await ask(path, method, KNOWN))["status"] == 404


async def test_there_are_no_web_sockets() -> None:
    assert (await ask("/v1/realtime", "GET", KNOWN, kind="websocket"))["type"] == "websocket.close"


async def test_an_engine_without_a_key_serves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY")
    assert (await ask("/v1/models", "GET", b"Bearer "))["status"] == 401


async def test_the_trace_of_a_request_goes_in_with_it() -> None:
    seen: list[Any] = []

    async def behind(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["headers"])

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        raise AssertionError

    headers = [(b"authorization", KNOWN), (b"traceparent", b"00-1-2-01"), (b"tracestate", b"a=b")]
    scope = {"type": "http", "path": "/v1/chat/completions", "method": "POST", "headers": headers}
    await EngineGuard(behind)(scope, receive, send)
    assert seen == [headers]
