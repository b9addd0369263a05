"""Work that hard budgets stop, for the scheduler: fine-tunes, jobs and all else that no Endpoint made."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from billing.core.budgets import Terms
from billing.core.stops import Exhausted, ExhaustedBudgets, exhausted, may_stop
from billing.store.books import terms_of
from billing.store.budgets import Budgets
from common.clock import Clock, rfc3339
from common.guard import Guard
from common.labels import KEY_LABEL
from common.resources import Budget, Workload
from common.resources.workload import BUDGET_EXHAUSTED
from common.store.kept import KeptList
from common.store.port import Store
from scheduler.ports import Stop

_UNITS = {"microcredits": "micro-credits", "tokens": "tokens", "device_seconds": "device-seconds"}
LOOK_SECONDS = 1.0
"""Between two looks at what budgets have come to."""


class BudgetStops:
    """Follows from the counts of the ledger alone, so a new process stops what the old one stopped. A budget
    that cannot be looked at stops nothing, and holds up no other."""

    def __init__(self, store: Store, budgets: Budgets, clock: Clock) -> None:
        self._budgets, self._clock = budgets, clock
        self._kept = KeptList(store, Budget)
        self._guard = Guard("budget-stops", clock)
        self._exhausted = ExhaustedBudgets()
        self._looked_seconds = float("-inf")

    async def look(self) -> Collection[str]:
        """See ``scheduler.ports.Stops``."""
        now_seconds = self._clock.monotonic_seconds()
        if now_seconds - self._looked_seconds < LOOK_SECONDS:
            return ()
        now_ms = self._clock.now_ms()
        hard = list(self._hard(await self._kept.now(), now_ms))
        spending = await self._budgets.spending(hard, now_ms) if hard else {}
        found = [exhausted(terms, spending[terms.id].spent, now_ms) for terms in hard]
        self._looked_seconds = now_seconds
        return self._take([one for one in found if one is not None])

    def why(self, workload: Workload, tenant: str) -> Stop | None:
        """See ``scheduler.ports.Stops``. Goes by what its device time is billed to."""
        key, owner = workload.metadata.labels.get(KEY_LABEL, ""), workload.metadata.owner
        trains = owner is not None and owner.kind == "FineTune"
        found = self._exhausted.stopping(tenant, workload.project or "", key, trains)
        return Stop(BUDGET_EXHAUSTED, _words(found)) if found is not None else None

    def _hard(self, budgets: Collection[Budget], now_ms: int) -> Iterator[Terms]:
        for budget in budgets:
            found: Terms | None = None
            with self._guard.item("Budget", ("terms", budget.metadata.uid), budget.metadata.generation):
                terms = terms_of(budget)
                terms.period_at(now_ms)
                found = terms if may_stop(terms) and terms.in_force(now_ms) else None
            if found is not None:
                yield found
        self._guard.forget_gone()

    def _take(self, found: list[Exhausted]) -> Collection[str]:
        before, self._exhausted = self._exhausted, ExhaustedBudgets(found)
        return self._exhausted.differing(before)


def _words(found: Exhausted) -> str:
    """Which budget, how much it had, and until when nothing goes on."""
    terms = found.terms
    until = f"at {rfc3339(found.resets_ms)} or " if found.resets_ms is not None else ""
    return (
        f"the budget {terms.name} is spent: {terms.limit} {_UNITS[terms.unit]} for {found.period}; "
        f"it goes on {until}when the budget has more"
    )
