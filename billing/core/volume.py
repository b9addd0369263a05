"""Tiers by volume: which part of a quantity costs what, by how much came before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

Counter = str
"""The name of a tenant's count: a period, and the item of a book."""


class Tier(NamedTuple):
    """The price of a million units, of those beyond the first ``above`` of a period."""

    above: int
    microcredits_per_million: int


class Part(NamedTuple):
    """``quantity`` units that are of one tier; ``before`` came before them in the period."""

    tier: Tier
    before: int
    quantity: int


def parts_of(quantity: int, before: int, tiers: Sequence[Tier]) -> Iterator[Part]:
    """``quantity`` units cut at the tiers' bounds, where ``before`` units came first. ``tiers`` are in order,
    the first is above 0. Each unit is in exactly one part; a part is never empty."""
    end = before + quantity
    for number, tier in enumerate(tiers):
        following = tiers[number + 1].above if number + 1 < len(tiers) else end
        first, last = max(before, tier.above), min(end, following)
        if first < last:
            yield Part(tier, first, last - first)
