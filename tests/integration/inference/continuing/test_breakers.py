"""What Prometheus is told of replicas that fail."""

import asyncio
import re
from pathlib import Path

import httpx
import pytest

from inference.gateway import metrics
from tests.fixtures.breaking import CHAT, Breaking, scene
from tests.fixtures.gateway import SCRAPES

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


async def states(on: Breaking) -> dict[str, float]:
    async with httpx.AsyncClient() as client:
        page = (await client.get(f"{on.front.url}/metrics", headers=SCRAPES)).text
    found = re.findall(r'computility_gateway_breaker_state{model="tiny",replica="(\w+)"} (\S+)', page)
    return {replica: float(state) for replica, state in found}


async def test_the_state_of_each_breaker_is_told_as_long_as_its_replica_is_there(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        assert await states(on) == {"m0": 0, "m1": 0}
        on.engines[0].fail_with = (503, {"error": {"message": "full"}})
        for _ in range(3):
            await on.events(**CHAT)
        assert await states(on) == {"m0": 1, "m1": 0}
        async with asyncio.timeout(5):
            while (await states(on))["m0"] == 1:
                await asyncio.sleep(0.1)
        assert await states(on) == {"m0": 2, "m1": 0}
        on.engines[0].fail_with = None
        await on.events(**CHAT)
        assert await states(on) == {"m0": 0, "m1": 0}
        [route] = on.front.control.table.routes
        await on.show((route.model_copy(update={"replicas": route.replicas[1:]}),))
        assert await states(on) == {"m1": 0}


def test_series_are_bounded_and_troubled_replicas_come_first() -> None:
    many = {("tiny", f"r{number:05}"): "closed" for number in range(metrics.MAX_BREAKERS)}
    metrics.show_breakers({**many, ("tiny", "z"): "open"})  # type: ignore[dict-item]
    [family] = metrics.BREAKER_STATE.collect()
    assert len(family.samples) == metrics.MAX_BREAKERS
    assert {sample.labels["replica"]: sample.value for sample in family.samples}["z"] == 1
    metrics.show_breakers({})
