"""What may be written to a price book: items that can match, and nothing that changes the past."""

from __future__ import annotations

from common.clock import parse_rfc3339
from common.errors import InvalidInput, Problem
from common.resources.money import PriceItem, PriceSpec
from common.vocabulary import NAME_PATTERN, matches

ANY = "*"


def check_prices(new: PriceSpec, old: PriceSpec | None, now_ms: int) -> None:
    """Raise ``InvalidInput`` unless the book may be written in place of ``old`` (None = there is none)."""
    if old is None or new.items != old.items:
        _check_items(new)
    if old is not None:
        _refuse_change_of_past(old, new, now_ms)


def _check_items(spec: PriceSpec) -> None:
    """An item that could never match would leave its usage without the price that was meant."""
    for index, item in enumerate(spec.items):
        message = _trouble_of(item)
        if message is not None:
            raise _refused(f"spec.items[{index}].model", message)


def _trouble_of(item: PriceItem) -> str | None:
    if item.model == ANY:
        return None
    if item.meter == "device_seconds":
        return "device time has a price by deviceClass only; write * or leave it out"
    if not all(matches(NAME_PATTERN, part) for part in item.model.split("/", 1)):
        return f"{item.model!r} names no Model; write project/name, the name of a shared Model, or *"
    return None


def _refuse_change_of_past(old: PriceSpec, new: PriceSpec, now_ms: int) -> None:
    """Usage of the past may not be posted yet: it has to find the prices that were in force when it ended."""
    if parse_rfc3339(old.effective_from) > now_ms:
        return
    ends = [parse_rfc3339(end) for end in (old.effective_until, new.effective_until) if end]
    if old.effective_until != new.effective_until and min(ends) < now_ms:
        raise _refused(
            "spec.effectiveUntil", "a book can end only from now on, and one that has ended stays so"
        )
    if new.model_copy(update={"effective_until": old.effective_until}) != old:
        raise _refused(
            "spec.items" if new.items != old.items else "spec",
            f"these prices are in force since {old.effective_from} and cannot change; apply a Price with "
            "another name that begins now or later: the book that began last counts",
        )


def _refused(path: str, message: str) -> InvalidInput:
    return InvalidInput(f"{path}: {message}", param=path, problems=(Problem(path, message),))
