"""What budgets have come to, told: an event for each threshold that is passed, the status, and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import cast

from prometheus_client import Counter, Gauge

from billing.core.budgets import Terms
from billing.store.books import terms_of
from billing.store.budgets import Budgets, Spending
from common.clock import Clock, rfc3339
from common.errors import ComputilityError
from common.guard import Guard
from common.loop import LoopHealth, run_passes
from common.resources import Budget
from common.store.kept import KeptList
from common.store.port import Event, StatusWrite, Store
from common.store.transitions import event_of

LOOK_SECONDS = 2.0
"""Between two looks, where there are budgets."""
REST_SECONDS = 60.0
TIDY_MS = 3_600_000
MAX_SERIES = 500
"""Budgets that have a metric of their own: the first by name."""
MAX_PERCENT = 10**9
SPENT = Gauge(
    "computility_budget_spent_ratio", "Part of a budget's limit that is spent in its period", ["budget"]
)
THRESHOLDS = Counter(
    "computility_budget_thresholds", "Thresholds of budgets that were passed, by enforcement", ["enforcement"]
)


class BudgetWatch:
    """Looks at the counts of all budgets that are in force. The trouble of one holds up no other."""

    def __init__(self, store: Store, budgets: Budgets, clock: Clock) -> None:
        self._store, self._budgets, self._clock = store, budgets, clock
        self._guard = Guard("budgets", clock)
        self._kept = KeptList(store, Budget)
        self._told: dict[str, set[str]] = {}
        self._shown: set[str] = set()
        self._tidied_ms = 0

    async def run(self, stop: asyncio.Event, health: LoopHealth | None = None) -> None:
        """Until ``stop`` is set."""
        kinds = ["Budget"]
        await run_passes(
            "budgets", self.step, self._store, stop, self.tick_seconds, health, rests=True, kinds=kinds
        )

    def tick_seconds(self) -> float:
        """Until the next look."""
        return LOOK_SECONDS if self._told else REST_SECONDS

    async def step(self) -> None:
        """Tell what has changed since the last look."""
        now_ms = self._clock.now_ms()
        found = await self._kept.now()
        current: dict[str, tuple[Budget, Terms]] = {}
        in_force: list[Terms] = []
        for budget in found:
            with self._guard.item("Budget", ("read", budget.metadata.uid), budget.metadata.generation):
                terms = terms_of(budget)
                current[terms.id] = budget, terms
                if terms.in_force(now_ms):
                    in_force.append(terms)
        spending = await self._budgets.spending(in_force, now_ms) if in_force else {}
        writes: list[StatusWrite] = []
        ratios: dict[str, float] = {}
        for terms in in_force:
            budget = current[terms.id][0]
            with self._guard.item("Budget", ("look", terms.id), budget.metadata.generation):
                writes += self._looked_at(budget, terms, spending[terms.id], now_ms)
                ratios[terms.name] = spending[terms.id].spent / terms.limit
        await self._write(writes)
        known = {one.metadata.uid for one in found}
        self._told = {id_: told for id_, told in self._told.items() if id_ in known}
        self._show(ratios)
        self._guard.forget_gone()
        if found and now_ms - self._tidied_ms > TIDY_MS:
            self._tidied_ms = now_ms
            await self._budgets.tidy(known)

    async def _write(self, writes: Sequence[StatusWrite]) -> None:
        """Write what has changed. Told is only what was written: where another writer was first, the next
        look does it again."""
        if not writes:
            return
        for write, written in zip(writes, await self._store.set_statuses(writes), strict=True):
            if write.resource is None or isinstance(written, ComputilityError):
                continue
            budget = cast(Budget, write.resource)
            self._told[budget.metadata.uid].update(event.id for event in write.events)
            THRESHOLDS.labels(budget.spec.enforcement).inc(len(write.events))

    def _looked_at(
        self, budget: Budget, terms: Terms, spending: Spending, now_ms: int
    ) -> Iterator[StatusWrite]:
        """What is to be written of one budget, if anything."""
        period, percent = terms.period_at(now_ms), min(MAX_PERCENT, spending.spent * 100 // terms.limit)
        told = self._told.setdefault(terms.id, set())
        events = [event for event in _passed(budget, terms, percent, now_ms) if event.id not in told]
        status = budget.status
        if not events and (status.period, status.spent_percent) == (period, percent):
            return
        changed = budget.copy_deep()
        changed.status.period, changed.status.spent = period, spending.spent
        changed.status.spent_percent = percent
        changed.status.observed_generation = budget.metadata.generation
        yield StatusWrite(changed, tuple(events))

    def _show(self, ratios: dict[str, float]) -> None:
        shown = dict(sorted(ratios.items())[:MAX_SERIES])
        for name in self._shown - shown.keys():
            SPENT.remove(name)
        for name, ratio in shown.items():
            SPENT.labels(name).set(ratio)
        self._shown = set(shown)


def _passed(budget: Budget, terms: Terms, percent: int, now_ms: int) -> Iterator[Event]:
    """An event for each threshold that the period has passed, the same each time."""
    period = terms.period_at(now_ms)
    resets_ms = terms.resets_ms(now_ms)
    until = f" until {rfc3339(resets_ms)}" if resets_ms is not None else ""
    for threshold in budget.spec.notify_at_percent:
        if percent < threshold:
            return
        is_over = threshold >= 100
        reason = "BudgetSpent" if is_over else "ThresholdPassed"
        stops = f"; what would go beyond it is refused{until}" if is_over and terms.hard else ""
        message = f"{threshold} % of {_amount(terms)} are spent in {period}{stops}"
        level = "warning" if is_over else "info"
        yield event_of(budget, level, reason, message, now_ms, period, threshold, terms.limit)


def _amount(terms: Terms) -> str:
    unit = {"microcredits": "micro-credits", "tokens": "tokens", "device_seconds": "device-seconds"}
    return f"{terms.limit} {unit[terms.unit]}"
