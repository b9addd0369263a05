"""Limits that somebody set for a key, project, tenant or model, as official clients meet them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from common.wire import RouteLimits, RoutingTable
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import OTHER_SECRET, SECRET, StandInControl, serving, table
from tests.integration.inference.test_gateway_workers import site

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

LIMIT = 30
ASK: Any = {"model": "tiny", "messages": [{"role": "user", "content": "three words here"}]}


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    engine = FakeEngine()
    await engine.start()
    yield engine
    await engine.stop()


def limited(
    engine: FakeEngine, version: str = "1", same_project: bool = False, **limits: Any
) -> RoutingTable:
    """One shared model, and ``limits`` of ``alice``, ``model``, ``projects`` and ``tenants``."""
    routes = table([("r0", engine.url)], version, shared=True, limits=limits.pop("model", None))
    alice, mallory = routes.keys
    if same_project:
        mallory = mallory.model_copy(update={"tenant": alice.tenant, "project": alice.project})
    alice = alice.model_copy(update={"limits": limits.pop("alice", None)})
    return routes.model_copy(update={"keys": (alice, mallory), **limits})


async def test_a_key_over_its_limit_is_told_when_to_ask_again_and_disturbs_no_other(
    engine: FakeEngine, tmp_path: Path
) -> None:
    routes = limited(engine, alice=RouteLimits(requests_per_minute=2))
    async with serving(tmp_path, routes) as front:
        create = front.client().chat.completions.with_raw_response.create
        for left in (b"1", b"0"):
            answer = await create(**ASK, max_tokens=1)
            assert answer.headers["x-ratelimit-limit-requests"] == "2"
            assert answer.headers["x-ratelimit-remaining-requests"] == left.decode()
            assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
            assert "x-ratelimit-limit-tokens" not in answer.headers
        with pytest.raises(openai.RateLimitError, match="the key alice has 2 requests a minute") as refused:
            await create(**ASK, max_tokens=1)
        assert 0 < int(refused.value.response.headers["retry-after"]) <= 30
        assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"
        told = refused.value.response.json()["error"]
        assert (told["type"], told["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert (told["limit"]["scope"], told["limit"]["name"]) == ("key", "alice")
        other = await front.client(OTHER_SECRET).chat.completions.with_raw_response.create(
            **ASK, max_tokens=1
        )
        assert not [name for name in other.headers if name.startswith("x-ratelimit")]
        assert len(engine.bodies) == 3, "no engine hears of what is refused"


async def test_tokens_are_counted_as_they_are_billed_of_streams_too(
    engine: FakeEngine, tmp_path: Path
) -> None:
    routes = limited(engine, alice=RouteLimits(tokens_per_minute=10_000))
    async with serving(tmp_path, routes) as front:
        create = front.client().chat.completions.with_raw_response.create
        first = await create(**ASK, max_tokens=2000)
        set_aside = 10_000 - int(first.headers["x-ratelimit-remaining-tokens"])
        assert set_aside >= 2000
        stream = await front.client().chat.completions.create(**ASK, max_tokens=20, stream=True)
        async for _ in stream:
            pass
        events = await front.billed(2)
        billed = sum(e["quantities"]["prompt_tokens"] + e["quantities"]["completion_tokens"] for e in events)
        last = await create(**ASK, max_tokens=2000)
        left = int(last.headers["x-ratelimit-remaining-tokens"])
        assert 10_000 - billed - set_aside <= left <= 10_000 - set_aside
        with pytest.raises(openai.BadRequestError) as never:
            await create(**ASK, max_tokens=10_001)
        assert never.value.param == "max_tokens"


async def test_the_limit_of_a_project_and_of_a_model_is_that_of_all_who_use_it(
    engine: FakeEngine, tmp_path: Path
) -> None:
    async with serving(tmp_path, limited(engine)) as front:
        clients = [front.client(), front.client(OTHER_SECRET)]
        for version, scope, limits in (
            (
                "2",
                "project",
                {"same_project": True, "projects": {"acme-bots": RouteLimits(requests_per_minute=2)}},
            ),
            ("3", "tenant", {"same_project": True, "tenants": {"acme": RouteLimits(requests_per_minute=2)}}),
            ("4", "model", {"model": RouteLimits(requests_per_minute=2)}),
        ):
            await front.follow(limited(engine, version, **limits))
            for client in clients:
                await client.chat.completions.create(**ASK, max_tokens=1)
            for client in clients:
                with pytest.raises(openai.RateLimitError, match=f"the {scope} "):
                    await client.chat.completions.create(**ASK, max_tokens=1)
        await front.follow(limited(engine, "5"))
        assert await clients[0].chat.completions.create(**ASK, max_tokens=1), (
            "a limit that is gone binds nobody"
        )


async def test_open_requests_are_limited_and_counted_to_their_end(engine: FakeEngine, tmp_path: Path) -> None:
    engine.token_seconds = 0.02
    routes = limited(engine, alice=RouteLimits(concurrent_requests=1, sequences_per_request=2))
    async with serving(tmp_path, routes) as front:
        create = front.client().chat.completions.create
        stream = await create(**ASK, max_tokens=200, stream=True)
        with pytest.raises(openai.RateLimitError, match="1 requests open"):
            await create(**ASK, max_tokens=1)
        await stream.close()
        await front.billed(1)
        assert await create(**ASK, max_tokens=1, n=2)
        with pytest.raises(openai.BadRequestError) as refused:
            await create(**ASK, max_tokens=1, n=3)
        assert refused.value.param == "n"


async def test_workers_keep_one_limit_together_also_when_one_is_killed(tmp_path: Path) -> None:
    async with site(tmp_path) as two:
        routes = limited(two.engine, "2", alice=RouteLimits(requests_per_minute=LIMIT))
        two.control = StandInControl(two.settings.control.port, routes)
        await two.start_control()
        answers: list[httpx.Response] = []
        began = time.monotonic()

        async def ask() -> bool:
            """Whether the limit is known where the request went, a connection of its own."""
            headers = {"Authorization": f"Bearer {SECRET}"}
            async with httpx.AsyncClient(headers=headers, timeout=30) as client:
                url = f"{two.settings.gateway_url}/chat/completions"
                with suppress(httpx.HTTPError):
                    answers.append(await client.post(url, json={**ASK, "max_tokens": 1}))
                    return "x-ratelimit-limit-requests" in answers[-1].headers
            return False

        in_a_row = 0
        async with asyncio.timeout(20):
            while in_a_row < 10:
                in_a_row = in_a_row + 1 if await ask() else 0
        two.workers[0].kill()
        await asyncio.sleep(0.5)
        await two.until_serving()
        await asyncio.gather(*(ask() for _ in range(2 * LIMIT)))
        counted = [answer for answer in answers if "x-ratelimit-limit-requests" in answer.headers]
        through = [answer for answer in counted if answer.is_success]
        refused = [answer for answer in counted if answer.status_code == 429]
        assert all(answer.json()["error"]["limit"]["name"] == "alice" for answer in refused)
        assert len(through) + len(refused) == len(counted)
        assert LIMIT <= len(through) <= LIMIT * (1 + (time.monotonic() - began) / 60)
