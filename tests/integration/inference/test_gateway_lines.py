"""Lines of batches at the gateway: asked for by the platform alone, billed by who keeps the answer, and
behind everybody else."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from billing.core.events import UsageEvent
from common.batch_line import LINE_HEADER, USAGE_HEADER, LineTold, signed_line
from common.clock import SYSTEM_CLOCK
from common.ids import secret_digest
from common.wire import RouteLimits
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import SECRET, TOKEN, Serving, serving, table

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "three words here"}], "max_tokens": 3}


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    engine = FakeEngine()
    await engine.start()
    yield engine
    await engine.stop()


async def ask(front: Serving, id_: str = "use-1", body: Any = BODY, **more: Any) -> httpx.Response:
    told = LineTold(id_, more.get("digest", secret_digest(SECRET)))
    value = signed_line(more.get("token", TOKEN), told, SYSTEM_CLOCK.now_ms())
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(f"{front.url}/v1/chat/completions", json=body, headers={LINE_HEADER: value})


async def test_a_line_tells_what_it_used_and_nobody_else_bills_it(engine: FakeEngine, tmp_path: Path) -> None:
    async with serving(tmp_path, table([("r0", engine.url)])) as front:
        answer = await ask(front)
        assert (answer.status_code, answer.headers[LINE_HEADER]) == (200, "use-1")
        [event] = map(UsageEvent.from_dict, json.loads(answer.headers[USAGE_HEADER]))
        assert (event.id, event.key, event.project, event.service_tier) == (
            "use-1",
            "alice",
            "acme-bots",
            "batch",
        )
        usage = answer.json()["usage"]
        assert event.quantities["completion_tokens"] == usage["completion_tokens"] == 3
        await front.client().chat.completions.create(**BODY)
        [billed] = await front.billed(1)
        assert billed["id"] != "use-1"
        assert "service_tier" not in billed


async def test_only_the_platform_asks_for_lines(engine: FakeEngine, tmp_path: Path) -> None:
    async with serving(tmp_path, table([("r0", engine.url)])) as front:
        for told in ({"token": "another"}, {"digest": secret_digest("ck-nobody")}):
            assert (await ask(front, **told)).status_code == 401
        async with httpx.AsyncClient() as client:
            headers = {LINE_HEADER: "use-1", "Authorization": f"Bearer {SECRET}"}
            refused = await client.post(f"{front.url}/v1/chat/completions", json=BODY, headers=headers)
        assert refused.status_code == 401
        assert LINE_HEADER not in refused.headers
        assert engine.bodies == []


async def test_what_is_refused_says_which_line_it_was_and_uses_nothing(
    engine: FakeEngine, tmp_path: Path
) -> None:
    async with serving(tmp_path, table([("r0", engine.url)])) as front:
        for body, status in (({**BODY, "model": "none"}, 404), ({**BODY, "max_tokens": -1}, 400)):
            answer = await ask(front, body=body)
            assert (answer.status_code, answer.headers[LINE_HEADER]) == (status, "use-1")
            assert USAGE_HEADER not in answer.headers


async def test_limits_of_rate_are_for_what_people_wait_for(engine: FakeEngine, tmp_path: Path) -> None:
    routes = table([("r0", engine.url)])
    limited = routes.keys[0].model_copy(update={"limits": RouteLimits(requests_per_minute=1)})
    async with serving(tmp_path, routes.model_copy(update={"keys": (limited,)})) as front:
        assert [(await ask(front, f"use-{n}")).status_code for n in range(4)] == [200] * 4
        assert (await front.client().chat.completions.create(**BODY)).usage.completion_tokens == 3


async def test_who_asks_online_does_not_wait_for_lines(engine: FakeEngine, tmp_path: Path) -> None:
    engine.token_seconds = 0.05
    async with serving(tmp_path, table([("r0", engine.url)])) as front:
        long = {**BODY, "max_tokens": 100}
        lines = [asyncio.create_task(ask(front, f"use-{n}", long)) for n in range(30)]
        async with asyncio.timeout(20):
            while len(engine.bodies) < 20:
                await asyncio.sleep(0.02)
        assert (await front.client().chat.completions.create(**BODY)).usage.completion_tokens == 3
        assert not any(one.done() for one in lines)
        assert {answer.status_code for answer in await asyncio.gather(*lines)} == {200}
