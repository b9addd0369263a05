"""Which hard budgets are spent, and whose work they stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from billing.core.budgets import BudgetIndex, Terms


def may_stop(terms: Terms) -> bool:
    """Whether the budget stops work when it is spent. Device time is told of only."""
    return terms.hard and terms.unit != "device_seconds"


@dataclass(frozen=True)
class Exhausted:
    """A budget of which nothing is left in ``period``. ``resets_ms``: when the next one begins, or the budget
    ends; None = never."""

    terms: Terms
    period: str
    resets_ms: int | None


def exhausted(terms: Terms, spent: int, at_ms: int) -> Exhausted | None:
    """The budget as one that stops work; None where it does not."""
    if not may_stop(terms) or not terms.in_force(at_ms) or spent < terms.limit:
        return None
    return Exhausted(terms, terms.period_at(at_ms), terms.resets_ms(at_ms))


class ExhaustedBudgets:
    """Those that stop work now. Never changes."""

    def __init__(self, found: Sequence[Exhausted] = ()) -> None:
        self._index = BudgetIndex([one.terms for one in found])
        self._by_id = {one.terms.id: one for one in found}

    def stopping(self, tenant: str, project: str, key: str, trains: bool) -> Exhausted | None:
        """The budget for which device time of these may not go on; None where it may. One of tokens stops
        what ``trains`` only: nothing else uses any. Of several it is the one that lasts longest."""
        if not self._by_id:
            return None
        found = [
            self._by_id[terms.id]
            for terms in self._index.of(tenant, project, key, "", {})
            if trains or terms.unit != "tokens"
        ]
        return max(found, key=_lasts, default=None)

    def differing(self, other: ExhaustedBudgets) -> set[str]:
        """The tenants to whom the two do not mean the same."""
        mine, theirs = set(self._by_id.values()), set(other._by_id.values())
        return {one.terms.scope.tenant for one in mine ^ theirs}


def _lasts(one: Exhausted) -> tuple[float, str]:
    return (one.resets_ms if one.resets_ms is not None else float("inf")), one.terms.name
