"""What the items of a price book may say: each can match, no two say the price of the same thing, and none
holds only for a part of the day with nothing for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from common.errors import InvalidInput, Problem
from common.resources.money import PriceItem, PriceSpec
from common.vocabulary import NAME_PATTERN, matches
from common.weekly import DAY_MINUTES, parse_weekly

ANY = "*"
_WEEK = frozenset(range(7 * DAY_MINUTES))
_Selectors = tuple[str, str, str, str, str]
"""Meter, Model, device class, adapter and service tier."""


def check_items(spec: PriceSpec) -> None:
    """Raise ``InvalidInput`` naming the path of the first item that is wrong."""
    for index, item in enumerate(spec.items):
        _check_names(f"spec.items[{index}]", item)
        _check_tiers(f"spec.items[{index}].tiers", item)
    open_at = _check_overlaps(spec.items)
    if spec.tenant is None:
        _check_rest_of_day(spec.items, open_at)


def refused(path: str, message: str) -> InvalidInput:
    """The error for a field of a price book."""
    return InvalidInput(f"{path}: {message}", param=path, problems=(Problem(path, message),))


def _check_names(path: str, item: PriceItem) -> None:
    """An item that could never match would leave its usage without the price that was meant."""
    if item.model != ANY:
        if item.meter == "device_seconds":
            message = "device time has a price by deviceClass only; write * or leave it out"
            raise refused(f"{path}.model", message)
        if not all(matches(NAME_PATTERN, part) for part in item.model.split("/", 1)):
            message = f"{item.model!r} names no Model; write project/name, the name of a shared Model, or *"
            raise refused(f"{path}.model", message)
    if item.adapter != ANY:
        if item.meter in ("device_seconds", "trained_tokens"):
            raise refused(f"{path}.adapter", "only tokens of answers have a price by adapter; leave it out")
        parts = item.adapter.split("/")
        if len(parts) != 2 or not all(matches(NAME_PATTERN, part) for part in parts):
            raise refused(f"{path}.adapter", f"{item.adapter!r} names no Adapter; write project/name, or *")


def _check_tiers(path: str, item: PriceItem) -> None:
    bounds = [0, *(tier.above for tier in item.tiers)]
    for index, (lower, upper) in enumerate(pairwise(bounds)):
        if upper <= lower:
            raise refused(f"{path}[{index}].above", f"{upper} is not above {lower}, the bound before it")


def _check_overlaps(items: Sequence[PriceItem]) -> dict[_Selectors, set[int]]:
    """The minutes of the week for which items say a price, by what they are for."""
    always: dict[_Selectors, int] = {}
    open_at: dict[_Selectors, set[int]] = {}
    for index, item in enumerate(items):
        key = _selectors(item)
        if item.hours is None:
            if key in always:
                message = f"says the price of the same as items[{always[key]}]; keep one of them"
                raise refused(f"spec.items[{index}]", message)
            always[key] = index
            continue
        minutes, taken = parse_weekly(item.hours).minutes(), open_at.setdefault(key, set())
        if not taken.isdisjoint(minutes):
            other = _first_open(items[:index], key, minutes)
            raise refused(f"spec.items[{index}].hours", f"{item.hours} overlaps the hours of items[{other}]")
        taken |= minutes
    return open_at


def _first_open(items: Sequence[PriceItem], key: _Selectors, minutes: frozenset[int]) -> int:
    return next(
        index
        for index, item in enumerate(items)
        if item.hours
        and _selectors(item) == key
        and not minutes.isdisjoint(parse_weekly(item.hours).minutes())
    )


def _check_rest_of_day(items: Sequence[PriceItem], open_at: dict[_Selectors, set[int]]) -> None:
    """A book for all has no other behind it: outside of an item's hours there is another item."""
    rest = {_selectors(item) for item in items if item.hours is None}
    for index, item in enumerate(items):
        key = _selectors(item)
        if item.hours is None or open_at[key] == _WEEK or any(_fits(other, key) for other in rest):
            continue
        message = "outside of these hours there would be no price; add the item without hours"
        raise refused(f"spec.items[{index}].hours", message)


def _fits(other: _Selectors, key: _Selectors) -> bool:
    """Whether an item for ``other`` is one for ``key`` too."""
    meters = (key[0], "prompt_tokens") if key[0] == "cached_tokens" else (key[0],)
    return other[0] in meters and all(
        one in (ANY, mine) for one, mine in zip(other[1:], key[1:], strict=True)
    )


def _selectors(item: PriceItem) -> _Selectors:
    return (item.meter, item.model, item.device_class.lower(), item.adapter, item.service_tier)
