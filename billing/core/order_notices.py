"""What is told of an order before it ends, each once. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from billing.core.allotments import Allotment, Taken
from billing.core.products import DAY_MS

NEARLY_PERCENT = 80
BEFORE_MS = (7 * DAY_MS, DAY_MS)
"""So long before the end it is told."""


@dataclass(frozen=True)
class Notice:
    """``name`` tells it from the others of an order. ``at_ms`` is when it came to be; 0 = now."""

    name: str
    reason: str
    message: str
    warns: bool
    at_ms: int = 0


def notices_of(terms: Allotment, taken: Taken, at_ms: int) -> Iterator[Notice]:
    """All that is to be told of an order by this moment. Nothing of what came to be before it began."""
    yield from _of_use(terms, taken, at_ms)
    if terms.carried and terms.ends_ms > terms.until_ms:
        yield from _of_end(terms, taken, at_ms, terms.until_ms, "term")
    yield from _of_end(terms, taken, at_ms, terms.ends_ms, "end")


def _of_use(terms: Allotment, taken: Taken, at_ms: int) -> Iterator[Notice]:
    used, granted = taken.used, terms.granted
    if at_ms < terms.ends_ms and used * 100 >= granted * NEARLY_PERCENT:
        message = f"{NEARLY_PERCENT} % of order {terms.id} are used: {used} of {granted} {_units(terms)}"
        yield Notice("nearly", "OrderNearlyUsed", message, False)
    if at_ms < terms.ends_ms and used == granted:
        message = f"order {terms.id} is used up: {granted} {_units(terms)}; what follows is owed in money"
        yield Notice("used", "OrderUsed", message, True)


def _of_end(terms: Allotment, taken: Taken, at_ms: int, ends_ms: int, name: str) -> Iterator[Notice]:
    left = taken.room(terms, name == "end" and ends_ms > terms.until_ms)
    if not left:
        return
    whats = f"{left} {_units(terms)} of order {terms.id}"
    for before_ms in BEFORE_MS:
        due_ms = ends_ms - before_ms
        if terms.from_ms < due_ms <= at_ms < ends_ms:
            days = before_ms // DAY_MS
            within = f"{days} days" if days > 1 else "a day"
            message = f"{whats} are unused and end within {within}"
            yield Notice(f"{name}-{days}", "OrderEndsSoon", message, days == 1, due_ms)
    if at_ms >= ends_ms:
        kept = min(left, terms.carried - taken.carried) if name == "term" else 0
        later = f"; {kept} of these can be used later" if kept else ""
        yield Notice(name, "OrderEnded", f"{whats} were unused when it ended{later}", True, ends_ms)


def _units(terms: Allotment) -> str:
    return {"microcredits": "micro-credits", "device_seconds": "device-seconds"}.get(
        terms.unit, terms.unit.replace("_", " ")
    )
