"""Fair shares: hierarchical weighted dominant-resource fairness, with the recent past counted in.

The share of a queue or cohort is ``(dominant + recent) / weight``. ``dominant`` is the largest part that it
uses of any device model's capacity (DRF, Ghodsi et al., NSDI 2011; compared cohort by cohort as in H-DRF,
Bhattacharya et al., SoCC 2013). ``recent`` is the part of the pool that it held on average lately, older use
counting half after each half-life (Slurm's multifactor priority has the same decay). Who has no weight comes
after all who have one, and shares evenly with others who have none (as in Kueue).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

from scheduler.core.model.device_classes import ModelKey
from scheduler.core.model.types import WHOLE_MILLIS

HALF_LIFE_SECONDS = 7 * 24 * 3600
"""After so long without use, the past counts half."""

NO_WEIGHT = 1e-12
"""Stands for a weight of 0: the least use is then a larger share than the whole pool with a weight of 1."""


class Using(Protocol):
    """What has a share: a queue or a cohort."""

    used: dict[ModelKey, int]
    total: int
    dominant: float
    recent: float

    def settle(self) -> None: ...


def decayed_use(before: float, used_device_seconds: float, elapsed_seconds: float) -> float:
    """Device-seconds used lately, ``elapsed_seconds`` after they were ``before``, with what was used evenly
    meanwhile."""
    rate = math.log(2) / HALF_LIFE_SECONDS
    fade = math.exp(-rate * elapsed_seconds)
    spread = (1 - fade) / (rate * elapsed_seconds) if elapsed_seconds > 0 else 1.0
    return before * fade + used_device_seconds * spread


def recent_share(decayed_device_seconds: float, capacity_millis: int) -> float:
    """The part of the pool that steady use of this size would be: 1.0 = all of it for ever."""
    if capacity_millis <= 0:
        return 0.0
    full = capacity_millis / WHOLE_MILLIS * HALF_LIFE_SECONDS / math.log(2)
    return decayed_device_seconds / full


def weighted(part: float, weight: int) -> float:
    """The share of who uses this part of the pool."""
    return part / (weight or NO_WEIGHT)


def use_more(member: Using, model: ModelKey, millis: int, capacity: int) -> None:
    """Count ``millis`` more of a model. What the pool has no capacity of does not count in shares."""
    used = member.used[model] = member.used.get(model, 0) + millis
    member.total += millis
    part = used / capacity if capacity else 0.0
    if part > member.dominant:
        member.dominant = part
        member.settle()


def use_less(member: Using, model: ModelKey, millis: int, capacity: Mapping[ModelKey, int]) -> None:
    """The opposite of ``use_more``."""
    before = member.used[model]
    member.used[model] -= millis
    if not member.used[model]:
        del member.used[model]
    member.total -= millis
    there = capacity.get(model)
    if there and before / there >= member.dominant:
        member.dominant = _dominant(member.used, capacity)
        member.settle()


def share_with(
    member: Using, weight: int, model: ModelKey, change_millis: int, capacity: Mapping[ModelKey, int]
) -> float:
    """The share that the member would have if it used so much more (or less) of the model."""
    used = {**member.used, model: member.used.get(model, 0) + change_millis}
    return weighted(_dominant(used, capacity) + member.recent, weight)


def _dominant(used: Mapping[ModelKey, int], capacity: Mapping[ModelKey, int]) -> float:
    parts = (millis / capacity[model] for model, millis in used.items() if capacity.get(model))
    return max(parts, default=0.0)
