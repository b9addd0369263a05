"""What goes first when a store holds too much: the oldest of whoever has the most. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TypeVar

Group = tuple[str, str]
"""A tenant, and one of its projects or keys."""
K = TypeVar("K", str, Group)


def allowances(weights: Mapping[Group, int], keep: int) -> dict[Group, int]:
    """How much each group that has to be cut may keep, so that all keep no more than ``keep`` together.

    Tenants are cut to one level, those below it not at all; then the groups of a tenant in the same way. So
    nobody's writes push out what another tenant, or a quieter project of the same one, has left behind.
    """
    tenants: dict[str, dict[Group, int]] = defaultdict(dict)
    for group, weight in weights.items():
        tenants[group[0]][group] = weight
    allowed = _levelled({tenant: sum(parts.values()) for tenant, parts in tenants.items()}, keep)
    cut: dict[Group, int] = {}
    for tenant, parts in tenants.items():
        for group, share in _levelled(parts, allowed[tenant]).items():
            if share < weights[group]:
                cut[group] = share
    return cut


def _levelled(weights: Mapping[K, int], keep: int) -> dict[K, int]:
    """Each weight, or the one level above which the heaviest are cut so that the sum is at most ``keep``."""
    shares: dict[K, int] = {}
    left = keep
    lightest_first = sorted(weights, key=lambda name: (weights[name], name))
    for position, name in enumerate(lightest_first):
        shares[name] = min(weights[name], left // (len(lightest_first) - position))
        left -= shares[name]
    return shares
