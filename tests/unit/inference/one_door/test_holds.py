"""What requests to a Route hold of hard budgets."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from common.wire import RouteBudget
from inference.core.usage import TokenCounts
from tests.fixtures.doors import door, doors, own
from tests.unit.inference.gateway.front_scene import ASK, StandInBudgets, front_scene

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
