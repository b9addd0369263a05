"""A canary on real control and gateway processes: taken back by itself though control is killed, and promoted
under load with no request lost."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.fixtures.elastic_site import CONTROL, Site, site
from tests.fixtures.process_fabric import FAILS
from tests.fixtures.tiny_model import shared_tiny_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

CANARY = {"model": "tiny-v2", "weightPercent": 50, "stickyBy": "none"}


def condition(status: dict[str, Any], type_: str) -> tuple[str, str]:
    found = [one for one in status.get("conditions", ()) if one["type"] == type_]
    return (found[0]["status"], found[0]["reason"]) if found else ("", "")


def answering(*workloads: str, starts: int = 1) -> Callable[[dict[str, Any]], bool]:
    """These engines are there, and no others; all of them answer, after so many starts."""
    return lambda status: (
        {one["workload"] for one in status["replicas"]} == set(workloads)
        and all(one["ready"] and not one.get("draining") for one in status["replicas"])
        and min(one["attempt"] for one in status["replicas"]) >= starts
    )


def rolled_back(status: dict[str, Any]) -> bool:
    return condition(status, "CanaryRolledBack")[0] == "True"


async def apply(on: Site, model: str = "tiny", **spec: Any) -> None:
    await on.apply("Endpoint", "tiny", {"model": model, "servedName": "tiny", **spec}, "search")


async def tried(on: Site, **canary: Any) -> None:
    """An Endpoint whose canary answers."""
    await on.apply("Model", "tiny-v2", {"source": str(shared_tiny_model())}, "search")
    await apply(on, canary={**CANARY, **canary})
    await on.until(answering("tiny-0", "tiny-canary-0"))
    await until_gateways_know(on)


async def begun_anew(on: Site, *workloads: str, starts: int) -> None:
    """Control is killed, and so are the engines, its children; the gateway knows of those that follow."""
    on.kill(CONTROL)
    on.start(CONTROL)
    await on.until(answering(*workloads, starts=starts))
    await until_gateways_know(on)


async def until_gateways_know(on: Site) -> None:
    """Control knows first that an engine is ready."""
    async with asyncio.timeout(30):
        while True:
            with suppress(openai.InternalServerError):
                await on.ask(4)
                break
            on.failures.clear()
            await asyncio.sleep(0.2)


async def billed_by_model(on: Site) -> dict[str, int]:
    """Requests in the ledger by the Model that answered."""
    total = await on.billed()
    async with on.control() as client:
        query = {"group_by": "model_identity"}
        rows = (await client.get("/api/v1/usage", params=query)).json()["rows"]
    assert sum(row["requests"] for row in rows) == total["requests"] == on.usage["requests"]
    return {row["model_identity"]: row["requests"] for row in rows if row["requests"]}


async def test_a_bad_canary_is_taken_back_though_control_is_killed_and_no_client_sees_it(
    tmp_path: Path,
) -> None:
    """What gateways had counted before control was killed counts still, and what was decided stays."""
    bad = {"args": [FAILS], "rollback": {"minRequests": 30}}
    async with site(tmp_path, token_seconds=0.005) as on:
        await tried(on, **bad)
        for _ in range(40):
            await on.ask(4)
        assert condition(await on.status(), "CanaryRolledBack") == ("False", "Trying")
        await begun_anew(on, "tiny-0", "tiny-canary-0", starts=2)
        async with asyncio.timeout(60):
            while not rolled_back(status := await on.status()):
                await on.ask(4)
                await asyncio.sleep(0.05)  # so few that control's looks are close together
        assert condition(status, "CanaryRolledBack")[1] == "TooManyErrors"
        assert on.usage["requests"] < 40 + 60
        await begun_anew(on, "tiny-0", starts=3)
        await apply(on, canary={**CANARY, **bad}, replicas=2)
        async with on.load(2):
            status = await on.until(answering("tiny-0", "tiny-1"))
        assert rolled_back(status)
        assert on.failures == []
        async with on.control() as client:
            found = (await client.get("/api/v1/events", params={"kind": "Endpoint"})).json()["items"]
        assert [one["reason"] for one in found].count("CanaryRolledBack") == 1
        assert await billed_by_model(on) == {"search/tiny": on.usage["requests"]}


async def test_a_good_canary_serves_its_part_and_is_promoted_under_load(tmp_path: Path) -> None:
    async with site(tmp_path, token_seconds=0.02) as on:
        await tried(on)
        async with on.load(4):
            await asyncio.sleep(4)
            async with on.control() as client:
                url, query = "/api/v1/endpoints/tiny/explain", {"project": "search"}
                canary = (await client.get(url, params=query)).json()["canary"]
            assert min(canary[side]["requests"] for side in ("stable", "canary")) > 0
            assert canary["rolledBack"] is False
            await apply(on, "tiny-v2")
            await on.until(answering("tiny-canary-0"))
            await asyncio.sleep(1)
        assert on.failures == []
        assert not rolled_back(await on.status())
        billed = await billed_by_model(on)
        assert set(billed) == {"search/tiny", "search/tiny-v2"}
