"""Requests that people reported elsewhere as answered wrongly, sent as they are to a gateway."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from common.auth import engine_key
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import SECRET, TOKEN, Serving, serving, table

pytestmark = pytest.mark.integration

REPORTED = Path(__file__).parents[2] / "fixtures" / "reported"
PATH = "/v1/chat/completions"


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(key=engine_key(TOKEN))
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def front(engine: FakeEngine, tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path, table([("r0", engine.url)])) as front:
        yield front


async def send(front: Serving, name: str) -> tuple[str, str, str]:
    """A whole request over a socket; status line, headers in lower case, body."""
    request = (REPORTED / name).read_bytes().replace(b"\r\n", b"\n")
    head, _, body = request.partition(b"\n\n")
    raw = head.replace(b"\n", b"\r\n").replace(b"KEY", SECRET.encode()) + b"\r\n\r\n" + body
    reader, writer = await asyncio.open_connection("127.0.0.1", front.settings.gateway.port)
    writer.write(raw)
    answer = (await asyncio.wait_for(reader.read(), 20)).decode()
    writer.close()
    head_text, _, content = answer.partition("\r\n\r\n")
    status, _, headers = head_text.partition("\r\n")
    return status, headers.lower(), content


async def test_a_path_with_a_slash_at_its_end_is_answered_and_names_no_inner_server(front: Serving) -> None:
    status, headers, body = await send(front, "trailing-slash.http")
    assert " 200 " in status
    assert "location" not in headers
    assert str(front.control.port) not in headers + body


async def test_a_browsers_preflight_is_allowed(front: Serving) -> None:
    status, headers, _ = await send(front, "preflight.http")
    assert status.split()[1] in ("200", "204")
    assert "access-control-allow-origin: *" in headers
    assert "authorization" in headers


async def test_a_probe_with_head_is_answered_like_get(front: Serving) -> None:
    status, _, body = await send(front, "head.http")
    assert (" 200 " in status, body) == (True, "")


async def test_an_old_client_gets_a_stream_without_chunks(front: Serving) -> None:
    status, headers, body = await send(front, "stream-http10.http")
    assert " 200 " in status
    assert "transfer-encoding" not in headers
    assert body.startswith("data: ")
    assert body.endswith("data: [DONE]\n\n")


async def test_a_compressed_body_is_understood(front: Serving) -> None:
    headers = {
        "Authorization": f"Bearer {SECRET}",
        "Content-Encoding": "gzip",
        "Content-Type": "application/json",
    }
    async with httpx.AsyncClient(headers=headers) as client:
        answer = await client.post(f"{front.url}{PATH}", content=(REPORTED / "body.json.gz").read_bytes())
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("name", "param", "said"),
    [
        ("content-null", "messages[0].content", "content"),
        ("name-number", "messages[0].name", "name"),
        ("part-without-text", "messages[0].content[0]", "text"),
        ("stop-five", "stop", "4"),
        ("stop-half-surrogate", "stop[0]", "half"),
        ("schema-self-reference", "response_format", "leads to itself"),
    ],
)
async def test_a_mistake_is_named_by_its_field_and_reaches_no_engine(
    front: Serving, engine: FakeEngine, name: str, param: str, said: str
) -> None:
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
    async with httpx.AsyncClient(headers=headers) as client:
        answer = await client.post(f"{front.url}{PATH}", content=(REPORTED / f"{name}.json").read_bytes())
    error = answer.json()["error"]
    assert (answer.status_code, engine.bodies) == (400, [])
    assert error["param"].startswith(param)
    assert said in error["message"]
