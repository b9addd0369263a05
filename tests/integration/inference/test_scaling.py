"""Real control and gateway processes, and engines that come and go with their load: no request fails, and the
bill is what clients were told."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.fixtures.elastic_site import CONTROL, engines, scaled, site

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]


async def test_from_none_to_three_to_one_to_none_and_back_under_load(tmp_path: Path) -> None:
    async with site(tmp_path, token_seconds=0.05) as on:
        await scaled(on)
        assert engines(0)(await on.status())
        async with on.load(1):
            await on.until(engines(1))
            async with on.load(11):
                await on.until(engines(3))
            await on.until(engines(1))
        await on.until(engines(0))
        await on.ask()
        assert engines(1)(await on.status())
        assert on.failures == []
        bill = await on.billed()
        assert bill["requests"] == on.usage["requests"] > 20
        assert bill["completion_tokens"] == on.usage["completion_tokens"]
        async with on.control() as client:
            found = (await client.get("/api/v1/events", params={"kind": "Endpoint"})).json()["items"]
        changes = [(one["data"]["from"], one["data"]["to"]) for one in found if "from" in one.get("data", {})]
        assert changes[0] == (0, 1)
        assert [after for before, after in changes if before > after][-1] == 0
        assert max(after for _, after in changes) == 3


async def test_who_waits_is_answered_though_control_is_killed_meanwhile(tmp_path: Path) -> None:
    async with site(tmp_path, token_seconds=0.01) as on:
        await scaled(on)
        on.kill(CONTROL)
        waiting = [asyncio.create_task(on.ask()) for _ in range(5)]
        await asyncio.sleep(1)
        on.start(CONTROL)
        await asyncio.wait_for(asyncio.gather(*waiting), 90)
        assert (await on.billed())["requests"] == 5


async def test_a_real_engine_wakes_for_those_who_wait_and_goes_when_nobody_asks(tmp_path: Path) -> None:
    async with site(tmp_path) as on:
        await scaled(on, maxReplicas=1)
        began = time.monotonic()
        await asyncio.gather(*(on.ask(extra_body={"ignore_eos": True}) for _ in range(3)))
        print(f"from nothing to the end of the first answers: {time.monotonic() - began:.1f} s")
        assert (on.failures, on.usage["completion_tokens"]) == ([], 60)
        began = time.monotonic()
        async with asyncio.timeout(60):
            for _ in range(5):
                await on.ask(extra_body={"ignore_eos": True})
        print(f"five answers of an engine that is there: {time.monotonic() - began:.1f} s")
        await on.until(engines(0), 90)
        bill = await on.billed()
        assert (bill["requests"], bill["completion_tokens"]) == (8, 160)
