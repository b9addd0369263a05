"""What requests to a Route hold of hard budgets."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from common.wire import RouteBook, RouteBudget
from inference.core.usage import TokenCounts
from inference.gateway.budgets.guard import Asking
from inference.gateway.budgets.worst_case import most_of
from inference.gateway.control_link.table import RouteIndex
from tests.fixtures.doors import PROJECT, door, doors, external, own
from tests.unit.inference.gateway.front_scene import ASK, StandInBudgets, front_scene
from tests.unit.inference.gateway.test_budgets import Scene, request

BUDGET = RouteBudget(id="b", name="b", tenant="acme", period="total", unit="tokens", limit=1, from_ms=0)


async def test_a_candidate_that_was_waited_for_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with front_scene(tmp_path, monkeypatch) as front:
        budgets, inference = StandInBudgets(), front.gateway._inference
        monkeypatch.setattr(inference, "_budgets", budgets)
        asleep = own("tiny", elastic=("acme-bots/tiny",))
        awake = own("tiny", front.engines[0].url, elastic=("acme-bots/tiny",))
        for number, route in enumerate((asleep, awake)):
            told = doors(door("smart", "tiny"), route)
            front.tell(told.model_copy(update={"version": str(number), "budgets": (BUDGET,)}))
            if route is asleep:
                task = asyncio.create_task(front.ask({**ASK, "model": "smart"}))
                while REGISTRY.get_sample_value("computility_gateway_waking") != 1:
                    await asyncio.sleep(0.001)
        assert (await task).status == 200
    assert [len(asking.route.replicas) for asking in budgets.asked] == [0, 1]
    before, billed = budgets.settled
    assert before == TokenCounts()
    assert billed.completion


async def test_a_model_of_others_is_held_at_its_own_price(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.budget("cap", 100)
    prices = (("big", 1_000_000_000), ("away", 1_000_000))
    items = tuple(
        {"meter": "completion_tokens", "microcredits_per_million": price, "model": f"{PROJECT}/{model}"}
        for model, price in prices
    )
    book = RouteBook(name="p", version=1, from_ms=0, items=items)
    away = external("away", "https://b/v1")
    index = RouteIndex(doors(away, budgets=tuple(scene.budgets), books=(book,)))
    running = asyncio.create_task(scene.keeper.run())
    asking = Asking(request(20), away, "acme", PROJECT, "alice", scene.clock.now_ms())
    held = await scene.guard.admit(index, asking)
    running.cancel()
    assert held is not None
    assert [hold.amount for hold in held.holds] == [20]


def test_a_prompt_is_no_shorter_than_its_bytes_where_nobody_knows_the_context() -> None:
    long = request(20, messages=[{"role": "user", "content": "x" * 1_000_000}])
    assert most_of(long, None).prompt > 1_000_000
    assert most_of(long, 1000).prompt == 1000
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    texts = {"type": "text", "text": "x" * 1_000_000}
    seen = request(20, messages=[{"role": "user", "content": [texts, part]}])
    assert most_of(seen, None).prompt > 1_000_000
