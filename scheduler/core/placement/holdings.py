"""What a placement holds."""

from __future__ import annotations

from collections.abc import Iterable

from scheduler.core.model.types import Placement
from scheduler.core.pool.layout import ModelKey


def items_by_model(placement: Placement) -> Iterable[tuple[ModelKey, int]]:
    """The items of ``millis_by_model``, without a dict where one device is all of it, as mostly."""
    if len(placement) == 1 and len(shares := placement[0].shares) == 1:
        _, _, vendor, model, _, millis = shares[0]
        return (((vendor, model), millis),)
    return millis_by_model(placement).items()


def millis_by_model(placement: Placement) -> dict[ModelKey, int]:
    """What a placement holds of each vendor's models."""
    total: dict[ModelKey, int] = {}
    for assignment in placement:
        for share in assignment.shares:
            key = (share.vendor, share.model)
            total[key] = total.get(key, 0) + share.millis
    return total
