"""What hard budgets stop, as it follows from the counts of the ledger."""

from collections.abc import Collection, Mapping
from typing import Any, cast

import pytest

from billing.core.budgets import Terms
from billing.store import Ledger
from billing.store.budgets import Budgets, Spending
from common.clock import VirtualClock
from common.labels import KEY_LABEL
from common.resources import Budget, Metadata, Owner, Workload
from common.resources.budgets import BudgetSpec
from common.resources.workload import WorkloadRole, WorkloadSpec
from common.store.memory import MemoryStore
from control.stops import budget_stops
from control.stops.budget_stops import LOOK_SECONDS, BudgetStops
from tests.contract.test_ledger import NOON, chat, ledger, prices
from tests.unit.billing.test_ledger_store import database, migrated

__all__ = ["database", "ledger", "migrated", "prices"]


class Counts:
    """What has been spent, by the names of budgets; ``looks`` counts questions."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}
        self.looks = 0

    async def spending(self, budgets: Collection[Terms], at_ms: int) -> Mapping[str, Spending]:
        self.looks += 1
        return {terms.id: Spending(self.spent.get(terms.name, 0)) for terms in budgets}


class Scene:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)
        self.counts = Counts()
        self.stops = self.another()

    def another(self) -> BudgetStops:
        return BudgetStops(self.store, cast(Budgets, self.counts), self.clock)

    async def budget(self, name: str = "cap", **spec: Any) -> None:
        content = {"scope": {"tenant": "acme"}, "limit": {"microcredits": 100}, "period": "day", **spec}
        await self.store.apply(Budget(metadata=Metadata(name=name), spec=BudgetSpec.model_validate(content)))

    async def look(self) -> Collection[str]:
        self.clock.advance(LOOK_SECONDS)
        return await self.stops.look()


def workload(project: str = "p", key: str = "", owner: str = "") -> Workload:
    return Workload(
        metadata=Metadata(
            name="w",
            project=project,
            labels={KEY_LABEL: key},
            owner=Owner(kind=owner, name="w", uid="u") if owner else None,
        ),
        spec=WorkloadSpec(roles=[WorkloadRole(name="main", command=["true"])]),
    )


async def test_a_spent_budget_stops_and_a_raised_one_lets_go_on() -> None:
    scene = Scene()
    await scene.budget()
    assert not await scene.look()
    scene.counts.spent["cap"] = 100
    assert set(await scene.look()) == {"acme"}
    stop = scene.stops.why(workload(), "acme")
    assert stop is not None
    why = stop.message
    assert why.startswith("the budget cap is spent: 100 micro-credits for ")
    assert "; it goes on at " in why
    assert not scene.stops.why(workload(), "other")
    assert not await scene.look()
    await scene.budget(limit={"microcredits": 200})
    assert set(await scene.look()) == {"acme"}
    assert not scene.stops.why(workload(), "acme")


async def test_the_next_period_and_the_end_of_a_budget_let_go_on() -> None:
    scene = Scene()
    await scene.budget()
    scene.counts.spent["cap"] = 100
    await scene.look()
    scene.clock.advance(24 * 3600)
    scene.counts.spent["cap"] = 0
    assert set(await scene.look()) == {"acme"}
    scene.counts.spent["cap"] = 100
    await scene.look()
    await scene.store.delete(Budget, "cap")
    assert set(await scene.look()) == {"acme"}
    assert not scene.stops.why(workload(), "acme")


async def test_the_ledger_is_asked_now_and_then_and_not_at_all_without_hard_budgets() -> None:
    scene = Scene()
    await scene.budget("soft", enforcement="soft")
    await scene.look()
    assert scene.counts.looks == 0
    await scene.budget()
    for _ in range(10):
        await scene.stops.look()
    assert scene.counts.looks == 0
    await scene.look()
    for _ in range(10):
        await scene.stops.look()
    assert scene.counts.looks == 1


@pytest.mark.parametrize(
    ("scope", "stopped"),
    [
        ({}, True),
        ({"project": "p"}, True),
        ({"project": "q"}, False),
        ({"key": "ci"}, True),
        ({"key": "other"}, False),
        ({"user": "ada"}, False),
        ({"tags": {"team": "x"}}, False),
    ],
)
async def test_stopped_is_what_the_budget_counts(scope: dict[str, Any], stopped: bool) -> None:
    scene = Scene()
    await scene.budget(scope={"tenant": "acme", **scope})
    scene.counts.spent["cap"] = 100
    await scene.look()
    assert bool(scene.stops.why(workload(key="ci"), "acme")) == stopped


async def test_a_budget_of_tokens_stops_fine_tunes_only() -> None:
    scene = Scene()
    await scene.budget(limit={"tokens": 100})
    scene.counts.spent["cap"] = 100
    await scene.look()
    assert scene.stops.why(workload(owner="FineTune"), "acme")
    assert not scene.stops.why(workload(owner="Job"), "acme")


async def test_one_budget_that_cannot_be_read_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    await scene.budget("bad")
    await scene.budget("cap")
    scene.counts.spent = {"bad": 100, "cap": 100}
    known = budget_stops.terms_of

    def broken(budget: Budget) -> Terms:
        if budget.name == "bad":
            raise ValueError("no such zone")
        return known(budget)

    monkeypatch.setattr(budget_stops, "terms_of", broken)
    await scene.look()
    stop = scene.stops.why(workload(), "acme")
    assert stop is not None
    assert "the budget cap is spent" in stop.message


async def test_what_the_ledger_has_posted_is_what_stops(ledger: Ledger, prices: MemoryStore) -> None:
    content = {"scope": {"tenant": "acme"}, "limit": {"microcredits": 112}, "period": "day"}
    await prices.apply(Budget(metadata=Metadata(name="cap"), spec=BudgetSpec.model_validate(content)))
    clock = VirtualClock(NOON)
    stops = BudgetStops(prices, ledger.budgets, clock)
    for number in range(2):
        assert not await stops.look()
        assert stops.why(workload("web"), "acme") is None
        await ledger.post([chat(f"use-{number}"), chat(f"use-{number}")])
        clock.advance(LOOK_SECONDS)
    assert set(await stops.look()) == {"acme"}
    stop = stops.why(workload("web"), "acme")
    assert stop is not None
    assert "112 micro-credits for 2026-03-01" in stop.message
    await ledger.reverse("use-0", "made in error")
    clock.advance(LOOK_SECONDS)
    assert set(await stops.look()) == {"acme"}
    assert stops.why(workload("web"), "acme") is None
