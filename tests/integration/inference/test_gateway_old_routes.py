"""Without control requests are served on for a while: a key that was revoked meanwhile must not work for
ever."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from common.auth import engine_key
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import SCRAPES, TOKEN, Serving, serving, table

pytestmark = pytest.mark.integration

ASK: Any = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(key=engine_key(TOKEN))
    await engine.start()
    yield engine
    await engine.stop()


async def look(front: Serving) -> tuple[int, float]:
    """The status of /readyz, and the age of the routing table."""
    async with httpx.AsyncClient() as client:
        ready = await client.get(f"{front.url}/readyz")
        text = (await client.get(f"{front.url}/metrics", headers=SCRAPES)).text
    name = "computility_gateway_routes_age_seconds "
    return ready.status_code, next(float(x.split()[1]) for x in text.splitlines() if x.startswith(name))


async def test_a_table_that_control_has_not_confirmed_for_too_long_serves_nobody(
    engine: FakeEngine, tmp_path: Path
) -> None:
    async with serving(
        tmp_path, table([("r0", engine.url)]), control_up=False, routes_max_age_seconds=1.5
    ) as front:
        await front.client().chat.completions.create(**ASK)
        assert (await look(front))[0] == 200
        async with asyncio.timeout(15):
            while (await look(front))[0] == 200:
                await asyncio.sleep(0.05)
        with pytest.raises(openai.InternalServerError, match="no keys are known") as refused:
            await front.client().chat.completions.create(**ASK)
        assert refused.value.status_code == 503
        assert (await look(front))[1] > 1.5
        await front.control.start()
        async with asyncio.timeout(15):
            while (await look(front))[0] != 200:
                await asyncio.sleep(0.05)
        await front.client().chat.completions.create(**ASK)
        assert (await look(front))[1] < 1.5
        await front.control.stop()


async def test_what_control_confirms_is_as_new_as_that_for_the_next_gateway(
    engine: FakeEngine, tmp_path: Path
) -> None:
    async with serving(tmp_path, table([("r0", engine.url)])) as front:
        kept = tmp_path / "spool" / "routes.json"
        async with asyncio.timeout(5):
            while not kept.exists():
                await asyncio.sleep(0.02)
        at = time.time() - 3600
        os.utime(kept, (at, at))
        assert not await front.gateway.routes.poll(0)
        assert time.time() - kept.stat().st_mtime < 60
