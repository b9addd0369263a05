"""What the gateway is to any HTTP client: browsers, probes, old and compressing ones, and strangers."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.auth import engine_key
from common.ids import secret_digest
from common.wire import RouteKey
from inference.gateway import metrics
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import METRICS_TOKEN, SCRAPES, SECRET, TOKEN, Serving, as_events, serving, table

pytestmark = pytest.mark.integration

ASK: Any = {"model": "tiny", "messages": [{"role": "user", "content": "What is a watt?"}], "max_tokens": 4}
CHAT = "/v1/chat/completions"
KEY = {"Authorization": f"Bearer {SECRET}"}
JSON = {"Content-Type": "application/json"}
BODY = json.dumps(ASK).encode()
PAGE = "http://localhost:3000"


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(key=engine_key(TOKEN))
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def front(engine: FakeEngine, tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path, table([("r0", engine.url)]), body_limit_bytes=100_000) as front:
        yield front


@pytest.fixture
async def http(front: Serving) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=front.url, trust_env=False) as client:
        yield client


async def raw(front: Serving, request: bytes) -> tuple[bytes, bytes]:
    """Head and rest of what a connection answers until it ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.settings.gateway.port)
    writer.write(request)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return head.lower(), rest


def upload_head(path: str, length: int) -> bytes:
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {SECRET}",
        f"Content-Length: {length}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def code_of(answer: httpx.Response) -> Any:
    return answer.json()["error"]["code"]


@pytest.mark.parametrize("path", ["/v1/files", "/v1/fine_tuning/jobs"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_slash_at_the_end_changes_nothing(http: httpx.AsyncClient, path: str, method: str) -> None:
    for asked in (path, f"{path}/", f"{path}//"):
        answer = await http.request(method, asked, headers=KEY)
        assert (answer.status_code, answer.json()) == (200, {"path": path, "method": method})
    assert (await http.get("/v1/models/", headers=KEY)).json()["data"][0]["id"] == "tiny"
    assert (await http.post(f"{CHAT}/", headers=KEY, json=ASK)).status_code == 200


async def test_no_answer_tells_the_address_of_the_inner_server(
    front: Serving, http: httpx.AsyncClient
) -> None:
    answer = await http.get("/v1/files/moved", headers=KEY)
    assert answer.status_code == 307
    assert str(front.control.port) not in str(answer.headers)
    assert "location" not in answer.headers


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/models", "/v1/models/tiny", "/v1/files"])
async def test_head_is_get_without_the_body(front: Serving, http: httpx.AsyncClient, path: str) -> None:
    whole, bare = await http.get(path, headers=KEY), await http.head(path, headers=KEY)
    assert (bare.status_code, bare.content) == (200, b"")
    assert bare.headers["content-length"] == whole.headers["content-length"] == str(len(whole.content))
    line = f"HEAD {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nConnection: close\r\n\r\n"
    assert (await raw(front, line.encode()))[1] == b""


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST"),
        ("HEAD", CHAT, "POST"),
        ("PUT", "/v1/embeddings", "POST"),
        ("OPTIONS", "/v1/completions", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("PATCH", "/v1/models/tiny", "DELETE, GET, HEAD"),
        ("DELETE", "/healthz", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    http: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    if method != "HEAD":
        assert code_of(answer) == "method_not_allowed"


async def test_an_unknown_path_is_not_found_by_any_method(http: httpx.AsyncClient) -> None:
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        assert (await http.request(method, "/v1/nothing", headers=KEY)).status_code == 404


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/chat/completions", "the base URL of clients ends with /v1: /v1/chat/completions"),
        ("/v1/v1/chat/completions", "ends with /v1: /v1/chat/completions"),
        ("/openai/v1/embeddings", "ends with /v1: /v1/embeddings"),
        ("/models", "ends with /v1: /v1/models"),
        ("/models/tiny", "ends with /v1: /v1/models/tiny"),
        ("/fine_tuning", "ends with /v1: /v1/fine_tuning"),
        ("/", "the base URL of clients ends with /v1"),
        ("/v1", "the base URL of clients ends with /v1"),
        ("/api/v1/models", "resources are at control's address, not at the gateway's"),
    ],
)
async def test_a_base_url_that_is_a_little_wrong_is_told_the_right_one(
    http: httpx.AsyncClient, path: str, hint: str
) -> None:
    for method in ("GET", "POST"):
        answer = await http.request(method, path, headers=KEY)
        assert (answer.status_code, code_of(answer)) == (404, "unknown_url")
        assert answer.json()["error"]["message"].endswith(hint)
    assert (await http.get("/v1/nothing")).json()["error"]["message"] == "no such route: GET /v1/nothing"


async def test_a_browser_may_call_from_any_page(http: httpx.AsyncClient) -> None:
    asks = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
    }
    for path in (CHAT, "/v1/files", "/v1/models"):
        preflight = await http.options(path, headers=asks)
        assert (preflight.status_code, preflight.content) == (204, b"")
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert preflight.headers["access-control-allow-headers"] == asks["Access-Control-Request-Headers"]
        assert "access-control-allow-credentials" not in preflight.headers
    for answer in (
        await http.post(CHAT, headers={**KEY, "Origin": PAGE}, json=ASK),
        await http.post(CHAT, headers={"Origin": PAGE}, json=ASK),
        await http.get("/v1/files", headers={**KEY, "Origin": PAGE}),
    ):
        assert answer.headers.get_list("access-control-allow-origin") == ["*"]
    assert "access-control-allow-origin" not in (await http.get("/v1/files", headers=KEY)).headers


async def test_which_pages_may_call_is_a_setting(engine: FakeEngine, tmp_path: Path) -> None:
    async with (
        serving(tmp_path, table([("r0", engine.url)]), cors_origins=[PAGE]) as front,
        httpx.AsyncClient(base_url=front.url, trust_env=False) as http,
    ):
        for origin, status, told in ((PAGE, 204, PAGE), ("https://evil.example", 403, None)):
            asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            preflight = await http.options(CHAT, headers=asks)
            assert (preflight.status_code, preflight.headers["vary"]) == (status, "origin")
            assert preflight.headers.get("access-control-allow-origin") == told
            answer = await http.get("/v1/models", headers={**KEY, "Origin": origin})
            assert answer.headers.get("access-control-allow-origin") == told


async def test_a_client_of_http_1_0_gets_a_stream_without_chunks(front: Serving) -> None:
    body = json.dumps({**ASK, "stream": True}).encode()
    head = f"POST {CHAT} HTTP/1.0\r\nAuthorization: Bearer {SECRET}\r\nContent-Length: {len(body)}\r\n\r\n"
    headers, rest = await raw(front, head.encode() + body)
    assert b"transfer-encoding" not in headers
    assert rest.startswith(b"data: {")
    assert as_events(rest)[-1] == "[DONE]"


async def test_a_stream_is_neither_kept_nor_held_back_on_its_way(http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, headers=KEY, json={**ASK, "stream": True})
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-content-type-options"] == "nosniff"


def _bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(BODY)),
        ("X-GZIP", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", _bare_deflate(BODY)),
        ("identity", BODY),
    ],
)
async def test_a_compressed_body_is_understood(http: httpx.AsyncClient, coding: str, body: bytes) -> None:
    answer = await http.post(CHAT, headers={**KEY, **JSON, "Content-Encoding": coding}, content=body)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("coding", "body", "status", "code"),
    [
        ("zstd", b"\x28\xb5\x2f\xfd", 415, "unsupported_content_encoding"),
        ("gzip, gzip", gzip.compress(gzip.compress(BODY)), 415, "unsupported_content_encoding"),
        ("gzip", BODY, 400, "invalid_content_encoding"),
        ("gzip", gzip.compress(BODY)[:-9], 400, "invalid_content_encoding"),
        ("gzip", gzip.compress(BODY) + b"more", 400, "invalid_content_encoding"),
        ("gzip", gzip.compress(b" " * 200_000_000, 9), 413, "request_too_large"),
        ("deflate", zlib.compress(b" " * 100_001), 413, "request_too_large"),
    ],
)
async def test_a_compressed_body_is_refused_for_what_it_is(
    http: httpx.AsyncClient, coding: str, body: bytes, status: int, code: str
) -> None:
    answer = await http.post(CHAT, headers={**KEY, **JSON, "Content-Encoding": coding}, content=body)
    assert (answer.status_code, code_of(answer)) == (status, code)
    if status == 415:
        assert repr(coding) in answer.json()["error"]["message"]
        assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    "media_type", ["text/plain", "multipart/form-data; boundary=x", "application/json; charset=utf-16"]
)
async def test_a_body_that_is_not_json_is_told_what_would_be(
    http: httpx.AsyncClient, media_type: str
) -> None:
    answer = await http.post(CHAT, headers={**KEY, "Content-Type": media_type}, content=BODY)
    assert (answer.status_code, code_of(answer)) == (415, "unsupported_content_type")
    assert media_type in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer ck-nobody"}, {"Authorization": "Basic eDp5"}]
)
async def test_a_stranger_does_not_reach_control(
    front: Serving, http: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    for method, path in (("GET", "/v1/files"), ("POST", "/v1/fine_tuning/jobs"), ("DELETE", "/v1/models/x")):
        answer = await http.request(method, path, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert front.control.seen_headers == []


async def test_what_is_announced_as_too_long_does_not_reach_control(front: Serving) -> None:
    for path, length in (("/v1/files", 1 << 40), ("/v1/fine_tuning/jobs", 5 << 20)):
        answer, _ = await raw(front, upload_head(path, length))
        assert answer.startswith(b"http/1.1 413")
    assert front.control.seen_headers == []


async def test_an_upload_waits_at_the_client_where_control_does_not_read(front: Serving) -> None:
    front.control.reads.clear()
    _, writer = await asyncio.open_connection("127.0.0.1", front.settings.gateway.port)
    size, sent, part = 300 << 20, 0, bytes(1 << 20)
    writer.write(upload_head("/v1/files", size))
    try:
        while sent < size:
            writer.write(part)
            async with asyncio.timeout(1):
                await writer.drain()
            sent += len(part)
    except TimeoutError:
        pass
    assert sent < 64 << 20, "what nobody reads has to wait where it comes from"
    writer.transport.abort()
    front.control.reads.set()


async def test_a_download_ends_with_its_client(front: Serving, http: httpx.AsyncClient) -> None:
    async with http.stream("GET", "/v1/files/endless", headers=KEY) as answer:
        async for _ in answer.aiter_raw():
            break
    assert (await http.head("/v1/files/endless", headers=KEY)).status_code == 200
    async with asyncio.timeout(10):
        while front.control.downloads_ended < 2:
            await asyncio.sleep(0.02)


async def test_a_download_waits_for_a_client_that_does_not_read(front: Serving) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", front.settings.gateway.port, limit=1024)
    lines = ("GET /v1/files/endless HTTP/1.1", "Host: x", f"Authorization: Bearer {SECRET}")
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    before = -1
    async with asyncio.timeout(20):
        while before != front.control.sent_bytes:
            before = front.control.sent_bytes
            await asyncio.sleep(0.5)
    assert 0 < before < 64 << 20
    writer.transport.abort()


async def test_metrics_are_for_who_runs_the_platform(front: Serving, http: httpx.AsyncClient) -> None:
    admin = RouteKey(digest=secret_digest("ck-admin"), name="admin", role="platform-admin")
    old = front.control.table
    front.control.table = old.model_copy(update={"version": "2", "keys": (*old.keys, admin)})
    async with asyncio.timeout(5):
        while front.gateway.routes.index.version != "2":
            await asyncio.sleep(0.02)
    assert (await http.get("/metrics")).status_code == 401
    assert (
        await http.get("/metrics", headers={"Authorization": f"Basic {METRICS_TOKEN}"})
    ).status_code == 401
    assert (await http.get("/metrics", headers=KEY)).status_code == 403
    for headers in (SCRAPES, {"Authorization": "Bearer ck-admin"}):
        answer = await http.get("/metrics", headers=headers)
        assert "computility_gateway_in_flight" in answer.text


async def test_the_series_of_a_model_end_with_its_route(front: Serving, http: httpx.AsyncClient) -> None:
    assert (await http.post(CHAT, headers=KEY, json=ASK)).status_code == 200
    assert 'model="tiny"' in (await http.get("/metrics", headers=SCRAPES)).text
    front.control.table = table([], version="2", model="other-model")
    async with asyncio.timeout(5):
        while front.gateway.routes.index.version != "2":
            await asyncio.sleep(0.02)
    assert 'model="tiny"' not in (await http.get("/metrics", headers=SCRAPES)).text


def test_there_is_an_end_to_the_series_of_models() -> None:
    labels = metrics.ModelLabels()
    names = [f"model-{number}" for number in range(metrics.MAX_MODELS + 50)]
    labels.serve(names)
    assert len({labels.of(name) for name in names}) == metrics.MAX_MODELS + 1
    labels.serve(names[-100:])
    assert {labels.of(name) for name in names[-100:]} == set(names[-100:])
    assert labels.of("never-served") == metrics.OTHER_MODELS
