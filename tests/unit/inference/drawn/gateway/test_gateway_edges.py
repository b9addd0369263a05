"""The gateway's edges in drawn courses: engines and control that fail, requests of all kinds."""

import asyncio
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.clock import VirtualClock
from common.errors import (
    ComputilityError,
    Conflict,
    EngineFailed,
    Forbidden,
    InvalidInput,
    MethodNotAllowed,
    NotAwake,
    NotFound,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from common.http_server.request import ClientGone
from common.settings import ControlSettings, GatewaySettings, Settings
from common.wire import RouteReplica
from inference.gateway.control_link import proxy
from inference.gateway.control_link.proxy import ControlProxy, is_proxied
from inference.gateway.engines import upstream, whole_answer
from inference.gateway.engines.upstream import EngineCall, Upstream
from inference.gateway.engines.whole_answer import read_answer, read_error
from inference.gateway.exchange import Exchange
from tests.unit.inference.drawn.gateway.session import Engines, Reply, Session, broken, broken_engine
from tests.unit.inference.drawn.worlds import Worlds, check_worlds, said

Patch = pytest.MonkeyPatch


ERRORS: tuple[ComputilityError, ...] = (
    InvalidInput("no", param="x", code="c"),
    Unauthenticated("who"),
    Forbidden("not you"),
    NotFound("gone", code="g", param="model"),
    MethodNotAllowed("not so", allowed=("GET", "POST")),
    Conflict("twice"),
    TooLarge("long"),
    TooManyRequests("many", retry_after_seconds=7),
    NotAwake("asleep", code="w", retry_after_seconds=9),
    Unavailable("away"),
    EngineFailed("broke"),
)


async def _exchange(rng: random.Random, _: Patch, __: Path) -> str:
    """What is read of a request, and what is sent for an answer."""
    sent: list[Any] = []
    messages: list[dict[str, Any]] = []
    for _number in range(rng.choice((1, 2, 5))):
        body = b"x" * rng.choice((0, 1, 4, 5, 30))
        messages.append({"type": "http.request", "body": body, "more_body": True})
    messages[-1] = {**messages[-1], "more_body": False}
    if rng.random() < 0.2:
        messages[-1] = {"type": "http.disconnect"}
    if rng.random() < 0.2:
        messages[-1].pop("more_body", None)
        messages[-1].pop("body", None)

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": rng.choice(("http.request", "http.disconnect"))}

    async def send(message: Any) -> None:
        sent.append(message)

    asked = rng.choice((b"mine-1", b"a" * 128, b"a" * 129, b"with blank", b""))
    scope: Any = {"method": "POST", "path": "/v1/x", "headers": [(b"x-request-id", asked)]}
    exchange = Exchange(scope, receive, send)
    own = exchange.request_id == asked.decode()
    lines = [f"{exchange.method} {exchange.path} {own} {exchange.request_id[:4]} {len(exchange.request_id)}"]
    sizes: list[int] = []

    async def keep(size: int) -> None:
        sizes.append(size)

    try:
        body = await exchange.read_body(rng.choice((4, 5, 9, 100)), rng.choice((keep, None)))
        lines.append(f"{body!r}")
    except (ComputilityError, ClientGone) as error:
        lines.append(said(error))
    lines.append(f"{sizes} {len(messages)}")
    await exchange.disconnected()
    kind = rng.randrange(3)
    if kind == 0:
        await exchange.respond_json(200, {"a": 1}, [(b"x-a", b"b")])
    elif kind == 1:
        await exchange.respond_error(rng.choice(ERRORS))
    else:
        await exchange.start(rng.choice((200, 404)), [(b"x-b", b"c")])
        await exchange.write(b"part")
        await exchange.write(b"end", more=False)
    lines.append(f"{exchange.started} {exchange.status} {sent}".replace(exchange.request_id, "ID"))
    return "\n".join(lines)


HEADERS = (
    (b"host", b"h"),
    (b"connection", b"close"),
    (b"te", b"trailers"),
    (b"expect", b"100-continue"),
    (b"authorization", b"Bearer x"),
    (b"x-request-id", b"theirs"),
    (b"accept", b"a"),
    (b"accept", b"b"),
    (b"x-odd", b"\xe9"),
    (b"upgrade", b"h2c"),
)
GIVEN = (
    ("Content-Type", "text/plain"),
    ("Location", "http://inside"),
    ("Server", "inner"),
    ("X-Request-Id", "inner"),
    ("Access-Control-Allow-Origin", "*"),
    ("Transfer-Encoding", "chunked"),
    ("X-Should-Retry", "true"),
    ("Set-Cookie", "a"),
    ("Set-Cookie", "b"),
)
PATHS = (
    *("/v1/files", "/v1/files/a", "/v1/filesx", "/v1/files/../x", "/v1/files/./x", "/v1/files/..", "/"),
    *("/v1/fine_tuning/jobs", "/v1/fine_tuning", "/v1/models/a", "/v1/models/", "/v1/models"),
)


async def _proxy(rng: random.Random, patch: Patch, _: Path) -> str:
    """What control is asked for a client, and what the client gets of its answer."""
    made: list[Any] = []

    def session(**options: Any) -> Session:
        made.append({name: options[name] for name in ("timeout", "auto_decompress", "skip_auto_headers")})
        return Session(draw)  # the rest of the options are objects of the library

    def draw(*_: Any) -> Reply | BaseException:
        if rng.random() < 0.2:
            return broken(rng)
        parts: Any = rng.choice(((), (b"a",), (b"a", b"bc"), (b"a", broken(rng))))
        return Reply(rng.choice((200, 200, 404, 409, 500)), parts, rng.sample(GIVEN, rng.randrange(6)))

    def connector(**options: Any) -> str:
        made.append(options)
        return "connector"

    patch.setattr(proxy, "aiohttp", _Library(ClientSession=session, TCPConnector=connector))
    settings = Settings(
        control=ControlSettings(upload_limit_bytes=10), gateway=GatewaySettings(connect_timeout_seconds=3)
    )
    control, sent = ControlProxy(settings, rng.choice((True, False))), list[Any]()
    method, path = rng.choice(("GET", "HEAD", "OPTIONS", "POST", "DELETE")), rng.choice(PATHS)
    limit = 10 + proxy.MULTIPART_OVERHEAD_BYTES if path == "/v1/files" else proxy.JSON_LIMIT_BYTES
    length = rng.choice((None, b"5", b"x", str(limit).encode(), str(limit + 1).encode()))
    headers = rng.sample(HEADERS, rng.randrange(6)) + ([(b"content-length", length)] if length else [])

    async def receive() -> Any:
        if rng.random() < 0.3:
            await asyncio.sleep(0)
        return {"type": "http.request", "body": b"up", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)
        await asyncio.sleep(0)

    scope: Any = {"method": method, "path": path, "headers": headers, "raw_path": path.encode()}
    exchange = Exchange({**scope, "query_string": rng.choice((b"", b"a=b%20c"))}, receive, send)
    exchange.request_id = "req-1"
    asked: Any = control._session
    exchange.body_chunks = lambda: "the body"  # type: ignore[assignment, method-assign, return-value]
    stays: Any = asyncio.Event().wait
    exchange.disconnected = stays if rng.random() < 0.7 else _left  # type: ignore[method-assign]
    lines = [f"{is_proxied(method, path)}"]
    try:
        await control.handle(exchange)
    except (ComputilityError, ClientGone, OSError, proxy.aiohttp.ClientError) as error:
        lines.append(said(error))
    return "\n".join([*lines, str(made), *asked.asked, str(sent), str([one.closed for one in asked.given])])


async def _left() -> Any:
    return None


class _Library:
    """aiohttp with some parts of it noted."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)

    def __getattr__(self, name: str) -> Any:
        import aiohttp

        return getattr(aiohttp, name)


def _stream(rng: random.Random) -> tuple[Any, ...]:
    parts = (b": wait\n\n", b'data: {"a": 1}\n\n', b'data: {"b": 2}\n\n', b"data: [DONE]\n\n", b": more")
    found: list[Any] = [rng.choice(parts) for _ in range(rng.randrange(5))]
    return tuple([*found, broken_engine(rng)] if rng.random() < 0.2 else found)


async def _calls(rng: random.Random, patch: Patch, _: Path) -> str:
    """One attempt at an engine after the other: what it is sent, what comes, and what follows from it."""
    made: list[Any] = []
    patch.setattr(upstream, "COMMENT_LIMIT_BYTES", 12)
    patch.setattr(upstream, "new_id", lambda kind: f"{kind}-1")

    def draw(_: str, url: str, __: dict[str, Any]) -> Reply | BaseException:
        if rng.random() < 0.15:
            return broken_engine(rng)
        body = json.dumps({"usage": {"prompt_tokens": 2}, "error": {"message": "no", "code": 1}}).encode()
        parts = _stream(rng) if rng.random() < 0.5 else rng.choice(((body,), (body[:9], body[9:])))
        return Reply(rng.choice((200,) * 8 + (400, 404, 429, 500, 502, 503)), parts)

    def client(*told: Any) -> Engines:
        made.append(told)
        return Engines(draw)

    patch.setattr(upstream, "EngineClient", client)
    engines = Upstream(GatewaySettings(connect_timeout_seconds=3), "internal", VirtualClock())
    lines = [str(made)]
    noted: Any = _Noted(lines)
    engines.replicas = noted
    asked: Any = engines._client
    for _number in range(3):
        task = rng.choice(("chat", "completions", "embeddings"))
        request: Any = SimpleNamespace(
            task=task,
            api=task,
            stream=rng.random() < 0.5,
            prompts=rng.choice((1, 2)),
            input_field="prompt",
            prompt=b"",
        )
        replica = RouteReplica(id="r", url="http://r", model_identity="p/m")
        call = EngineCall(asked, replica, noted, request, "req-1")
        room = rng.choice((10, 1000)).__gt__
        try:
            failure = await engines._attempt(call, b"body", request, noted.comments, room)
            lines.append((failure and said(failure)) or "answered")
            if failure is None and request.stream:
                lines.append(str([part async for part in call.chunks()]))
        except (ComputilityError, OSError) as error:
            lines.append(f"raised {said(error)}")
        lines.append(f"{call.status} {call.content!r} {call.answer} {call._open}")
        lines.append(f"{await call.abort()} {await call.is_healthy()}")
        call.close()
        lines.append(str(await engines.tell(replica, "/path", b"x", rng.choice((1.0, 5.0)))))
        engines.rest(replica)
    return "\n".join([*lines, *asked.asked, str([one.closed for one in asked.given])])


class _Noted:
    """Notes what it is told, by whatever name."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def __getattr__(self, name: str) -> Any:
        def note(*told: Any, **more: Any) -> None:
            self._lines.append(f"{name} {told} {more}")

        return note

    async def comments(self, data: bytes) -> None:
        self._lines.append(f"comments {data!r}")


async def _answers(rng: random.Random, patch: Patch, _: Path) -> str:
    """Answers in one piece that are too large to be kept, or are not."""
    for name, value in (("ANSWER_LIMIT_BYTES", 120), ("ERROR_LIMIT_BYTES", 40), ("_WINDOW_BYTES", 90)):
        patch.setattr(whole_answer, name, value)
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}
    text = rng.choice(("", "x" * 30, "x" * 100, '"' * 20))
    content = json.dumps({"text": text, "usage": usage, "more": text[:20]}).encode()
    parts, size = list[Any](), rng.choice((1, 7, 60, 500))
    while content:
        parts, content = [*parts, content[:size]], content[size:]
    if rng.random() < 0.1:
        parts.append(broken_engine(rng))
    held: list[int] = []

    def hold(more: int) -> bool:
        held.append(more)
        return sum(held) <= room

    room = rng.choice((50, 120, 10_000))
    lines = []
    for read in (lambda: read_answer(Reply(200, parts), hold), lambda: read_error(Reply(500, parts))):  # type: ignore[arg-type]
        try:
            lines.append(str(await read()))
        except OSError as error:
            lines.append(said(error))
    return f"{lines} {held}"


WORLDS: Worlds = {
    "exchanges": (_exchange, 300, 2),
    "proxied": (_proxy, 300, 2),
    "calls": (_calls, 250, 1),
    "answers": (_answers, 200, 2),
}


@pytest.mark.parametrize("name", WORLDS)
async def test_the_edges_of_the_gateway_do_what_was_approved(name: str, tmp_path: Path) -> None:
    await check_worlds(Path(__file__), name, WORLDS, tmp_path)
