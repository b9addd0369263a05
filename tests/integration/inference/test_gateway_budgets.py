"""Hard budgets through real processes: many spend at once, gateways and control are killed, and no budget is
spent beyond its limit."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.fixtures.budget_site import BudgetSite, budget_site

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SPENDERS = 64
TOKENS = 20


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[BudgetSite]:
    async with budget_site(tmp_path) as found:
        yield found


async def spend(site: BudgetSite, client: httpx.AsyncClient, ended: Counter[int]) -> None:
    """Ask until the budget is spent. What breaks off, or has to wait, is asked again."""
    while True:
        try:
            answer = await site.chat(client, TOKENS)
        except httpx.HTTPError:
            ended[0] += 1
            await asyncio.sleep(0.05)
            continue
        ended[answer.status_code] += 1
        if answer.status_code == 200:
            continue
        error = answer.json()["error"]
        if answer.status_code == 503:
            await asyncio.sleep(0.2)
        elif error["budget"]["spent"] + TOKENS > error["budget"]["limit"]:
            return
        else:
            await asyncio.sleep(0.05)


async def test_budgets_as_clients_meet_them(site: BudgetSite) -> None:
    """All before one site: what takes long is to start it."""
    for look in (_spent_to_the_last, _refused_with_reasons, _bound_together, _raised_and_deleted):
        await look(site)
        await site.remove_budgets()


async def _spent_to_the_last(site: BudgetSite) -> None:
    """64 clients at once spend all of a budget, and no more."""
    limit = 10_000
    await site.budget("cap", {"microcredits": limit})
    ended: Counter[int] = Counter()
    async with site.client() as client:
        await asyncio.gather(*(spend(site, client, ended) for _ in range(SPENDERS)))
    balance = await site.settled("cap")
    assert limit - TOKENS < balance["spent"] <= limit
    assert balance["spent"] == site.engine.generated
    assert ended[200] * TOKENS == balance["spent"]
    assert set(ended) <= {200, 429}


async def _refused_with_reasons(site: BudgetSite) -> None:
    """A refusal names the budget, and what is left."""
    await site.budget("small", {"microcredits": 30}, period="day")
    async with site.client() as client:
        assert (await site.ask(client, 20)).status_code == 200
        await site.settled("small")
        refused = await site.ask(client, 20)
        endless = await site.ask(client, None)
        fits = await site.ask(client, 10)
    assert (refused.status_code, endless.status_code, fits.status_code) == (429, 429, 200)
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    told = error["budget"]
    assert (told["name"], told["limit"], told["spent"], told["needs"]) == ("small", 30, 20, 20)
    assert told["resets"] in error["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert int(refused.headers["retry-after"]) > 0
    assert endless.json()["error"]["budget"]["needs"] == 2048, "the context: nobody said less"


async def _bound_together(site: BudgetSite) -> None:
    """All budgets bind, and only those whom they name."""
    scope = {"tenant": "acme", "tags": {"team": "search"}}
    await site.budget("search", {"tokens": 2000}, scope=scope)
    await site.budget("all", {"microcredits": 60})
    async with site.client() as client:
        tagged = [await site.ask(client, 20, metadata={"team": "search"}) for _ in range(2)]
        other = [await site.ask(client, 20, metadata={"team": "sales"}) for _ in range(2)]
        user = await site.ask(client, 1, user="somebody")
    assert [one.status_code for one in (*tagged, *other, user)] == [200, 200, 200, 429, 429]
    assert other[1].json()["error"]["budget"]["name"] == "all"
    search, everything = await site.settled("search"), await site.settled("all")
    assert (search["unit"], search["spent"] > 40, everything["spent"]) == ("tokens", True, 60)


async def _raised_and_deleted(site: BudgetSite) -> None:
    """A budget that is raised or gone holds up nobody."""
    await site.budget("cap", {"microcredits": 20})
    async with site.client() as client:
        assert [(await site.ask(client)).status_code for _ in range(2)] == [200, 429]
        await site.budget("cap", {"microcredits": 40})
        assert [(await site.ask(client)).status_code for _ in range(2)] == [200, 429]
        await site.remove_budgets()
        assert (await site.ask(client)).status_code == 200


async def test_killed_workers_and_a_killed_control_overshoot_nothing(site: BudgetSite) -> None:
    limit = 20_000
    site.engine.token_seconds = 0.002
    await site.budget("cap", {"microcredits": limit})
    ended: Counter[int] = Counter()
    async with site.client() as client:
        spending = [asyncio.create_task(spend(site, client, ended)) for _ in range(SPENDERS)]
        for kill in (0, 1):
            await asyncio.sleep(1.0)
            site.workers[kill].send_signal(signal.SIGKILL)
        await asyncio.sleep(1.0)
        site.control.kill()
        await asyncio.sleep(1.0)
        await site.control.start()
        await asyncio.gather(*spending)
    balance = await site.settled("cap")
    assert balance["spent"] <= limit
    assert limit - balance["spent"] < SPENDERS * TOKENS
