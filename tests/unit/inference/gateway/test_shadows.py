"""Copies of requests: what they hold of hard budgets, and those that are under way when a gateway ends."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from common.errors import BudgetSpent, BudgetTold, ComputilityError, Unavailable
from common.wire import RouteReplica, RouteShadow
from inference.core.usage import TokenCounts
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import table
from tests.unit.inference.gateway.front_scene import ASK, StandInBudgets, front_scene


async def test_copies_are_given_up_before_the_books_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    async with front_scene(tmp_path, monkeypatch) as front:
        other = await front.add_engine(token_seconds=30.0)
        replica = RouteReplica(id="next-0", url=other.url, model_identity="acme-bots/tiny-v2")
        shadow = RouteShadow(source="chat", percent=100.0, model="next", replicas=(replica,))
        front.tell(table([("r0", front.engines[0].url)], shadow=shadow))
        assert (await front.ask(ASK)).status == 200
        async with asyncio.timeout(10):
            while not other.bodies:
                await asyncio.sleep(0.01)
        close, copies = front.gateway.spool.close, front.gateway._inference._shadows
        assert len(copies._tasks) == 1

        async def closing() -> None:
            left.append(len(copies._tasks))
            await close()

        monkeypatch.setattr(front.gateway.spool, "close", closing)
    assert left == [0]


async def _copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budgets: StandInBudgets, **engine: Any
) -> FakeEngine:
    """One request, and the engine that gets copies, once all is over."""
    async with front_scene(tmp_path, monkeypatch) as front:
        other = await front.add_engine(**engine)
        replica = RouteReplica(id="next-0", url=other.url, model_identity="acme-bots/tiny-v2")
        shadow = RouteShadow(
            source="chat", percent=100.0, model="next", context_tokens=512, replicas=(replica,)
        )
        front.tell(table([("r0", front.engines[0].url)], shadow=shadow))
        copies = front.gateway._inference._shadows
        monkeypatch.setattr(copies, "_budgets", budgets)
        assert (await front.ask(ASK)).status == 200
        await asyncio.gather(*copies._tasks)
    return other


async def test_a_copy_holds_what_it_may_cost_its_payer_until_it_is_billed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = StandInBudgets()
    other = await _copied(tmp_path, monkeypatch, budgets)
    assert len(other.bodies) == 1
    (asking,) = budgets.asked
    assert (asking.tenant, asking.project, asking.key) == ("acme", "acme-bots", "shadow:chat")
    assert asking.route.context_tokens == 512
    assert [one.model_identity for one in asking.route.replicas] == ["acme-bots/tiny-v2"]
    (billed,) = budgets.settled
    assert billed.prompt
    assert billed.completion


@pytest.mark.parametrize(
    "why",
    [
        BudgetSpent(
            "spent",
            retry_after_seconds=1,
            budget=BudgetTold("b", "tokens", 1, 1, 0, 9, "total", None),
            passes_soon=False,
        ),
        Unavailable("control does not answer", code="budget_unknown"),
    ],
)
async def test_a_copy_that_does_not_fit_into_a_hard_budget_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: ComputilityError
) -> None:
    other = await _copied(tmp_path, monkeypatch, StandInBudgets(why))
    assert other.bodies == []


async def test_a_copy_that_fails_gives_back_what_it_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = StandInBudgets()
    await _copied(tmp_path, monkeypatch, budgets, fail_with=(500, {}))
    assert budgets.settled == [TokenCounts()]
