"""Copies of requests: sent when the answer has begun, bounded, and billed to the Endpoint's project."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.wire import RouteReplica, RouteShadow
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import OTHER_SECRET, SCRAPES, SECRET, Serving, serving, table

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

MESSAGES: Any = [{"role": "user", "content": "one two three"}]


@asynccontextmanager
async def shadowed(
    home: Path, percent: float = 100.0, engines: int = 1, **settings: Any
) -> AsyncIterator[tuple[Serving, FakeEngine, FakeEngine]]:
    """A gateway with an engine, and the engine of the Endpoint that has the copies."""
    own, other = FakeEngine(), FakeEngine()
    for engine in (own, other):
        await engine.start()
    replica = RouteReplica(
        id="next-0", url=other.url, endpoint="acme-bots/next", model_identity="acme-bots/tiny-v2"
    )
    shadow = RouteShadow(source="chat", percent=percent, model="next", replicas=(replica,) * engines)
    try:
        async with serving(home, table([("r0", own.url)], shadow=shadow, shared=True), **settings) as front:
            yield front, own, other
    finally:
        for engine in (own, other):
            await engine.stop()


async def ask(front: Serving, secret: str = SECRET, **options: Any) -> None:
    wish = {"model": "tiny", "messages": MESSAGES, "max_tokens": 4, **options}
    answer = await front.client(secret).chat.completions.create(**wish)
    if options.get("stream"):
        async for _ in answer:
            pass


async def outcomes(front: Serving, so_many: int) -> dict[str, int]:
    """What became of copies, once it is known of so many."""
    async with asyncio.timeout(10), httpx.AsyncClient() as client:
        while True:
            page = (await client.get(f"{front.url}/metrics", headers=SCRAPES)).text
            found = {
                line.split('outcome="')[1].split('"')[0]: round(float(line.rpartition(" ")[2]))
                for line in page.splitlines()
                if line.startswith('computility_gateway_shadow_requests_total{model="tiny"')
                or (line.startswith("computility_gateway_shadow_requests_total{") and 'model="tiny"' in line)
            }
            if sum(found.values()) >= so_many:
                return found
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_copy_is_the_request_and_its_answer_is_billed_to_the_endpoints_project(
    tmp_path: Path, stream: bool
) -> None:
    async with shadowed(tmp_path) as (front, own, other):
        await ask(front, OTHER_SECRET, stream=stream, temperature=0.5)
        assert await outcomes(front, 1) == {"answered": 1}
        (copy,), (first,) = other.bodies, own.bodies
        assert (copy["model"], bool(copy.get("stream")), copy.get("stream_options")) == ("next", False, None)
        for member in ("messages", "max_tokens", "temperature", "cache_salt"):
            assert copy[member] == first[member]
        events = {event["key"]: event for event in await front.billed(2)}
        assert set(events) == {"mallory", "shadow:chat"}
        mine, shadow = events["mallory"], events["shadow:chat"]
        assert (mine["tenant"], mine["project"]) == ("evil", "lair")
        assert (shadow["tenant"], shadow["project"]) == ("acme", "acme-bots")
        assert (shadow["model"], shadow["model_identity"]) == ("next", "acme-bots/tiny-v2")
        assert shadow["quantities"]["completion_tokens"] == other.generated == 4


async def test_a_shadow_that_hangs_or_fails_is_nothing_of_the_client(tmp_path: Path) -> None:
    async with shadowed(tmp_path, shadow_requests=2) as (front, own, other):
        other.token_seconds = 30.0
        began = time.monotonic()
        for _ in range(5):
            await ask(front, stream=True)
        assert time.monotonic() - began < 20
        assert await outcomes(front, 3) == {"dropped": 3}
        assert len(own.bodies) == 5


@pytest.mark.parametrize("status", [400, 500, 503])
async def test_what_fails_is_counted_and_billed_to_nobody(tmp_path: Path, status: int) -> None:
    async with shadowed(tmp_path) as (front, _, other):
        other.fail_with = status, {"error": {"message": "broken", "code": status}}
        for _ in range(3):
            await ask(front)
        assert await outcomes(front, 3) == {"failed": 3}
        assert len(await front.billed(3)) == 3


async def test_bodies_of_copies_have_so_many_bytes(tmp_path: Path) -> None:
    async with shadowed(tmp_path, shadow_body_bytes=1000) as (front, _, other):
        await ask(front, messages=[{"role": "user", "content": "word " * 400}])
        assert await outcomes(front, 1) == {"dropped": 1}
        await ask(front)
        assert await outcomes(front, 2) == {"dropped": 1, "answered": 1}
        assert len(other.bodies) == 1


async def test_some_none_or_nowhere(tmp_path: Path) -> None:
    async with shadowed(tmp_path / "some", 30.0) as (front, own, other):
        for _ in range(60):
            await ask(front)
        async with asyncio.timeout(10):
            while front.gateway._inference._shadows._tasks:
                await asyncio.sleep(0.02)
        assert 5 <= len(other.bodies) <= 35
        assert len(own.bodies) == 60
    async with shadowed(tmp_path / "none", 0.0) as (front, _, other):
        await ask(front)
        assert not other.bodies
    async with shadowed(tmp_path / "nowhere", engines=0) as (front, _, other):
        await ask(front)
        assert await outcomes(front, 1) == {"absent": 1}


async def test_a_gateway_that_ends_gives_copies_up(tmp_path: Path) -> None:
    async with shadowed(tmp_path) as (front, _, other):
        other.token_seconds = 30.0
        await ask(front)
        async with asyncio.timeout(10):
            while not other.bodies:
                await asyncio.sleep(0.02)
        began = time.monotonic()
    assert time.monotonic() - began < 20
