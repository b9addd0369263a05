"""What work has brought beside what it cost: sums, shares and ratios, in whole numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from billing.core.outcomes import TASK, Work

NO_OUTCOME = ""
"""The outcome of usage whose work has brought none."""


@dataclass(frozen=True)
class Brought:
    """Sums over outcomes. ``judged`` counts those with a quality, ``quality`` adds up count times
    ``quality_millis`` of these."""

    count: int = 0
    value_microcredits: int = 0
    judged: int = 0
    quality: int = 0

    def __add__(self, other: Brought) -> Brought:
        return Brought(
            self.count + other.count,
            self.value_microcredits + other.value_microcredits,
            self.judged + other.judged,
            self.quality + other.quality,
        )


@dataclass(frozen=True)
class Return:
    """What a group cost and brought. Ratios are rounded half up; None = there is nothing to divide by."""

    cost_microcredits: int = 0
    brought: Brought = Brought()

    def __add__(self, other: Return) -> Return:
        return Return(self.cost_microcredits + other.cost_microcredits, self.brought + other.brought)

    @property
    def net_microcredits(self) -> int:
        """Value less cost."""
        return self.brought.value_microcredits - self.cost_microcredits

    @property
    def roi_millis(self) -> int | None:
        """Return on investment: net by cost, in thousandths; -1000 = all is lost."""
        return divided(1000 * self.net_microcredits, self.cost_microcredits)

    @property
    def cost_per_outcome_microcredits(self) -> int | None:
        """Cost by the number of outcomes."""
        return divided(self.cost_microcredits, self.brought.count)

    @property
    def quality_millis(self) -> int | None:
        """The mean over those that were judged."""
        return divided(self.brought.quality, self.brought.judged)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "cost_microcredits": self.cost_microcredits,
            "outcomes": self.brought.count,
            "value_microcredits": self.brought.value_microcredits,
            "net_microcredits": self.net_microcredits,
            "roi_millis": self.roi_millis,
            "cost_per_outcome_microcredits": self.cost_per_outcome_microcredits,
            "quality_millis": self.quality_millis,
        }


def divided(amount: int, by: int) -> int | None:
    """The quotient, rounded half up; None unless ``by`` is above zero."""
    return (2 * amount + by) // (2 * by) if by > 0 else None


def allocated(amount: int, weights: Sequence[int]) -> list[int]:
    """``amount``, not negative, cut by ``weights`` into whole parts that add up to it exactly: what rounding
    down leaves goes to the largest remainders, the first of equals. Some weight is above zero, none below."""
    whole = sum(weights)
    parts = [amount * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda at: (-(amount * weights[at] % whole), at))
    for at in by_remainder[: amount - sum(parts)]:
        parts[at] += 1
    return parts


WorkOf = tuple[str, Work]
"""A tenant and a piece of its work."""


class Claims:
    """Which outcomes usage is the cost of. What a task claims no other tag does; other tags claim in the
    order of their names. The cost of work with several outcomes is shared out by their values, or by their
    counts where a value is negative or all are nothing."""

    def __init__(self, brought: Mapping[WorkOf, Mapping[str, Brought]]) -> None:
        self._weights = {of: _weights_of(outcomes) for of, outcomes in brought.items() if outcomes}
        self.tags = sorted({work.tag for _, work in brought}, key=lambda tag: (tag != TASK, tag))

    def of(self, tenant: str, values: Sequence[str], microcredits: int) -> Sequence[tuple[str, int]]:
        """The names of outcomes, each with its part of the cost of a tenant's usage, which has ``values`` for
        ``tags``."""
        for tag, value in zip(self.tags, values, strict=True):
            claimed = self._weights.get((tenant, Work(tag, value))) if value else None
            if claimed:
                names, weights = claimed
                return list(zip(names, allocated(microcredits, weights), strict=True))
        return [(NO_OUTCOME, microcredits)]


def _weights_of(outcomes: Mapping[str, Brought]) -> tuple[list[str], list[int]]:
    """Names in their order, and their shares."""
    names = sorted(outcomes)
    values = [outcomes[name].value_microcredits for name in names]
    shares = values if min(values) >= 0 and any(values) else [outcomes[name].count for name in names]
    return names, shares
