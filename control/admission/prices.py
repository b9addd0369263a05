"""What may be written to a price book: items that can match, and nothing that changes the past.

Usage waits in spools while control is away, so it may be posted long after it ended. It has to find what was
in force then: the price of a moment is settled once that moment is over.
"""

from __future__ import annotations

from collections.abc import Sequence

from billing.store.books import book_of
from common.clock import rfc3339
from common.errors import Conflict
from common.resources import Price
from control.admission.price_items import check_items, refused


def check_prices(new: Price, old: Price | None, now_ms: int) -> None:
    """Raise ``InvalidInput`` unless the book may be written in place of ``old`` (None = there is none).

    A book that says no beginning keeps the one that it had; a new one begins now.
    """
    if new.spec.effective_from is None:
        new.spec.effective_from = rfc3339(now_ms if old is None else begin_ms(old))
    if old is None or (new.spec.items, new.spec.tenant) != (old.spec.items, old.spec.tenant):
        check_items(new.spec)
    if old is not None and has_begun(old, now_ms):
        _refuse_change_of_past(old, new, now_ms)
    else:
        _refuse_past(new, now_ms)


def check_beginning(new: Price, books: Sequence[Price]) -> None:
    """Raise ``InvalidInput`` where another of ``books`` for the same tenant, or for all, begins at the same
    moment: which of them counts would hang on their names."""
    for other in books:
        same = other.spec.tenant == new.spec.tenant and begin_ms(other) == begin_ms(new)
        if other.name != new.name and same:
            raise refused(
                "spec.effectiveFrom",
                f"{other.key} begins at {rfc3339(begin_ms(new))} too, and of two books the one that began "
                "last counts; let one of them begin later",
            )


def check_price_delete(price: Price, now_ms: int) -> None:
    """Raise ``Conflict`` when the book is or was in force."""
    if has_begun(price, now_ms):
        raise Conflict(
            f"{price.key} is or was in force and its usage may not be posted yet, so it cannot be deleted; "
            "set spec.effectiveUntil to end it, or apply a Price with another name that begins later",
            code="in_force",
        )


def begin_ms(price: Price) -> int:
    """When the book begins; when it was made, if it does not say."""
    return book_of(price).from_ms


def end_ms(price: Price) -> int | None:
    """When the book ends; None = open."""
    return book_of(price).until_ms


def has_begun(price: Price, now_ms: int) -> bool:
    """Whether the book is in force, or was."""
    return begin_ms(price) <= now_ms


def has_ended(price: Price, now_ms: int) -> bool:
    """Whether the book is over: no usage of now or later finds it."""
    end = end_ms(price)
    return end is not None and end <= now_ms


def _refuse_past(new: Price, now_ms: int) -> None:
    begin, end = begin_ms(new), end_ms(new)
    if begin < now_ms:
        raise refused(
            "spec.effectiveFrom",
            f"{new.spec.effective_from} is over: usage of then has its price. Leave it out to begin now",
        )
    if end is not None and end <= begin:
        raise refused("spec.effectiveUntil", "must be after effectiveFrom")


def _refuse_change_of_past(old: Price, new: Price, now_ms: int) -> None:
    ends = [end for end in (end_ms(old), end_ms(new)) if end is not None]
    if end_ms(old) != end_ms(new) and min(ends) < now_ms:
        raise refused(
            "spec.effectiveUntil", "a book can end only from now on, and one that has ended stays so"
        )
    other_items = new.spec.items != old.spec.items
    same = begin_ms(new) == begin_ms(old) and new.spec.tenant == old.spec.tenant
    if other_items or not same or new.spec.time_zone != old.spec.time_zone:
        raise refused(
            "spec.items" if other_items else "spec",
            f"these prices are in force since {rfc3339(begin_ms(old))} and cannot change; apply a Price with "
            "another name that begins now or later: the book that began last counts",
        )
