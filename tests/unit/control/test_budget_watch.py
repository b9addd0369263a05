"""Budgets tell of each threshold once a period, and show what they have come to."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from prometheus_client import REGISTRY

from billing.core.budgets import Terms
from billing.store.budgets import Budgets, Spending
from common.clock import VirtualClock
from common.db import Database
from common.errors import ComputilityError, Conflict
from common.resources import Budget, Metadata, Resource
from common.resources.budgets import BudgetSpec
from common.store.memory import MemoryStore
from common.store.port import StatusWrite
from control.budget_watch import LOOK_SECONDS, REST_SECONDS, TIDY_MS, BudgetWatch


class Counts:
    """What has been spent, by the names of budgets."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}
        self.tidied: list[set[str]] = []

    async def spending(self, budgets: Collection[Terms], at_ms: int) -> Mapping[str, Spending]:
        return {terms.id: Spending(self.spent.get(terms.name, 0)) for terms in budgets}

    async def tidy(self, known: Collection[str]) -> None:
        self.tidied.append(set(known))


class Contested(MemoryStore):
    """A store to which others write, too: ``lost`` times they are first."""

    lost = 0

    async def set_statuses(
        self, writes: Sequence[StatusWrite]
    ) -> Sequence[Resource | ComputilityError | None]:
        if not self.lost:
            return await super().set_statuses(writes)
        self.lost -= 1
        return [Conflict("it has changed meanwhile") for _ in writes]


class Scene:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = Contested(self.clock)
        self.counts = Counts()
        self.watch = self.another()

    def another(self) -> BudgetWatch:
        return BudgetWatch(self.store, cast(Budgets, self.counts), self.clock)

    async def budget(self, name: str = "cap", most: int = 100, **spec: Any) -> None:
        content = {"scope": {"tenant": "acme"}, "limit": {"tokens": most}, "period": "day", **spec}
        await self.store.apply(Budget(metadata=Metadata(name=name), spec=BudgetSpec.model_validate(content)))

    async def told(self) -> list[tuple[str, str]]:
        found = await self.store.events(kind="Budget", limit=100)
        return [
            (event.reason, event.level)
            for event in found
            if event.reason in ("ThresholdPassed", "BudgetSpent")
        ]


async def test_each_threshold_is_told_once_a_period_also_by_the_next_process() -> None:
    scene = Scene()
    await scene.budget()
    for spent, expected in ((49, 0), (50, 1), (79, 1), (100, 3), (120, 3)):
        scene.counts.spent["cap"] = spent
        await scene.watch.step()
        await scene.another().step()
        assert len(await scene.told()) == expected
    told = sorted(await scene.told())  # those of one moment stand in any order
    assert told == [("BudgetSpent", "warning"), *[("ThresholdPassed", "info")] * 2]
    [budget] = await scene.store.list(Budget)
    assert (budget.status.spent, budget.status.spent_percent) == (120, 120)
    scene.clock.advance(24 * 3600)
    scene.counts.spent["cap"] = 51
    await scene.watch.step()
    assert len(await scene.told()) == 4


async def test_a_raised_limit_has_thresholds_of_its_own() -> None:
    scene = Scene()
    await scene.budget()
    scene.counts.spent["cap"] = 60
    await scene.watch.step()
    await scene.budget(most=200)
    await scene.watch.step()
    assert len(await scene.told()) == 1
    scene.counts.spent["cap"] = 100
    await scene.watch.step()
    assert len(await scene.told()) == 2


async def test_the_status_is_written_once_for_each_percent() -> None:
    scene = Scene()
    await scene.budget(most=1000)
    scene.counts.spent["cap"] = 11
    await scene.watch.step()
    revision = await scene.store.revision()
    scene.counts.spent["cap"] = 19
    await scene.watch.step()
    assert await scene.store.revision() == revision
    scene.counts.spent["cap"] = 20
    await scene.watch.step()
    assert await scene.store.revision() > revision


async def test_what_is_gone_has_no_metric_and_is_tidied_away() -> None:
    scene = Scene()
    assert scene.watch.tick_seconds() == REST_SECONDS
    await scene.budget("one")
    await scene.budget("two")
    scene.counts.spent["one"] = 25
    await scene.watch.step()
    assert scene.watch.tick_seconds() == LOOK_SECONDS
    assert REGISTRY.get_sample_value("computility_budget_spent_ratio", {"budget": "one"}) == 0.25
    await scene.store.delete(Budget, "one")
    scene.clock.advance(TIDY_MS / 1000 + 1)
    await scene.watch.step()
    assert REGISTRY.get_sample_value("computility_budget_spent_ratio", {"budget": "one"}) is None
    assert [len(known) for known in scene.counts.tidied] == [2, 1]


async def test_a_threshold_is_told_although_another_writer_was_first() -> None:
    scene = Scene()
    await scene.budget()
    scene.counts.spent["cap"] = 100
    scene.store.lost = 1
    await scene.watch.step()
    assert await scene.told() == []
    await scene.watch.step()
    assert len(await scene.told()) == 3


async def test_a_budget_that_cannot_be_read_holds_up_no_other() -> None:
    scene = Scene()
    for name, odd in (("a-odd", {"time_zone": "Nowhere/Atlantis"}), ("cap", {})):
        content = {"scope": {"tenant": "acme"}, "limit": {"tokens": 100}, "period": "day"}
        spec = BudgetSpec.model_validate(content).model_copy(update=odd)
        await scene.store.apply(Budget(metadata=Metadata(name=name), spec=spec))
    scene.counts.spent["cap"] = 100
    await scene.watch.step()
    assert len(await scene.told()) == 3
    assert [len(known) for known in scene.counts.tidied] == [2]
    index = await Budgets(cast(Database, None), scene.store, scene.clock).index()
    assert [terms.name for terms in index.by_id.values()] == ["cap"]
