"""Rating: what an event costs, line by line, in whole micro-credits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from billing.core.events import UsageEvent

MICROCREDITS_PER_UNIT = 1_000_000
ANY = "*"
_SORTED = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_FALLBACKS = {"cached_tokens": "prompt_tokens"}
_REMEMBERED = 10_000


def digest_of(content: object) -> str:
    """The id of what is told from others by its content: 128 bits as hexadecimal digits."""
    return _digest(_SORTED(content))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class BookItem:
    """The price of a million units (tokens, seconds). ``model`` and ``device_class`` may be ``*``.

    ``model`` names a Model: ``project/name``, or ``name`` alone for one that is shared with all tenants.
    """

    meter: str
    microcredits_per_million: int
    model: str = ANY
    device_class: str = ANY


@dataclass(frozen=True)
class PriceBook:
    """Prices that hold from ``from_ms`` (included) to ``until_ms`` (not included; None = open).

    ``tenant`` None means for all. ``version`` tells two states of the same book apart.
    """

    name: str
    version: int
    from_ms: int
    items: tuple[BookItem, ...]
    until_ms: int | None = None
    tenant: str | None = None

    def in_force(self, at_ms: int) -> bool:
        return self.from_ms <= at_ms and (self.until_ms is None or at_ms < self.until_ms)


@dataclass(frozen=True)
class PinnedPrice:
    """The price that a line was rated with: the item, and the book that it stood in."""

    book: str
    version: int
    item: BookItem

    def canonical(self) -> str:
        """The JSON that the id is the digest of."""
        return _SORTED({"book": self.book, "version": self.version, **vars(self.item)})

    @cached_property
    def id(self) -> str:
        """Tells this price from all others, by what it says."""
        return _digest(self.canonical())


@dataclass(frozen=True)
class RatedLine:
    """One meter of an event. Without a price it costs nothing and counts as unpriced."""

    meter: str
    quantity: int
    microcredits: int
    price: PinnedPrice | None

    @property
    def unpriced(self) -> bool:
        return self.price is None


def amount_microcredits(quantity: int, microcredits_per_million: int) -> int:
    """``quantity`` times the price of one unit, rounded half up to whole micro-credits. Exact."""
    return (quantity * microcredits_per_million + MICROCREDITS_PER_UNIT // 2) // MICROCREDITS_PER_UNIT


def pick_item(book: PriceBook, event: UsageEvent, meter: str) -> BookItem | None:
    """The item of the book that fits the event's meter most exactly, or None.

    The Model decides first (``project/name``, then the name of a shared one, then ``*``), the device class
    second; of equally exact items the first one counts. Device time has a price by device class only.
    """
    best: tuple[tuple[int, int], BookItem] | None = None
    for item in book.items:
        rank = (_model_rank(item, event), _device_rank(item, event))
        if item.meter == meter and 0 not in rank and (best is None or rank > best[0]):
            best = rank, item
    return best[1] if best else None


def _model_rank(item: BookItem, event: UsageEvent) -> int:
    """How exactly the item names the Model that did the work. What tenants name themselves (an Endpoint's
    served name, a Model that is not shared, an adapter) never leads to the price of something else."""
    if item.model == ANY:
        return 1
    if event.kind == "device":
        return 0
    if not event.model_identity:
        return _rank_by_name(item, event)
    if item.model == event.model_identity:
        return 3
    name = event.model_identity.rpartition("/")[2]
    return 2 if event.model_shared and item.model == name else 0


def _rank_by_name(item: BookItem, event: UsageEvent) -> int:
    """For events that are older than the Model's identity: they were promised the price of their name."""
    if item.model == event.model:
        return 3
    return 2 if item.model == event.base_model else 0


def _device_rank(item: BookItem, event: UsageEvent) -> int:
    if item.device_class == ANY:
        return 1
    return 2 if item.device_class.lower() == event.device_class.lower() else 0


def rate(event: UsageEvent, books: Sequence[PriceBook]) -> tuple[RatedLine, ...]:
    """The lines of one event: what ``Rates(books)`` gives."""
    return Rates(books).lines(event)


class Rates:
    """Price books, asked about many events. What was found for one is remembered, within bounds, for others
    that are alike in all that a price goes by."""

    def __init__(self, books: Sequence[PriceBook]) -> None:
        self._of_tenant: dict[str | None, list[PriceBook]] = {}
        for book in sorted(books, key=lambda b: (b.from_ms, b.name), reverse=True):
            self._of_tenant.setdefault(book.tenant, []).append(book)
        self._pins: dict[tuple[object, ...], PinnedPrice | None] = {}

    def lines(self, event: UsageEvent) -> tuple[RatedLine, ...]:
        """The lines of the event, one for each meter above zero.

        ``prompt_tokens`` becomes what was not cached; ``cached_tokens`` has its own price or, where a book
        has none, that book's price of prompt tokens.
        """
        asked = self.books_for(event)
        return tuple(
            self._line(event, asked, meter, quantity) for meter, quantity in _sold(event) if quantity
        )

    def books_for(self, event: UsageEvent) -> tuple[PriceBook, ...]:
        """The books that rate the event, first to be asked first: the tenant's own, then the one for all.

        Of several in force at the event's end the one that began last counts (of those, the last by name).
        """
        found = (self._in_force(tenant, event.ended_ms) for tenant in (event.tenant, None))
        return tuple(book for book in found if book is not None)

    def _in_force(self, tenant: str | None, at_ms: int) -> PriceBook | None:
        return next((book for book in self._of_tenant.get(tenant, ()) if book.in_force(at_ms)), None)

    def _line(self, event: UsageEvent, books: tuple[PriceBook, ...], meter: str, quantity: int) -> RatedLine:
        alike = (
            *(id(book) for book in books),
            meter,
            event.kind,
            event.model_identity or (event.model, event.base_model),
            event.model_shared,
            event.device_class,
        )
        if alike not in self._pins:
            if len(self._pins) >= _REMEMBERED:
                self._pins.clear()
            self._pins[alike] = _pinned(event, books, meter)
        pin = self._pins[alike]
        amount = amount_microcredits(quantity, pin.item.microcredits_per_million) if pin else 0
        return RatedLine(meter, quantity, amount, pin)


def _sold(event: UsageEvent) -> tuple[tuple[str, int], ...]:
    """What is paid for: each meter once, no token twice."""
    quantity = event.quantities.get
    cached = quantity("cached_tokens", 0)
    return (
        ("prompt_tokens", quantity("prompt_tokens", 0) - cached),
        ("cached_tokens", cached),
        ("completion_tokens", quantity("completion_tokens", 0)),
        ("trained_tokens", quantity("trained_tokens", 0)),
        ("device_seconds", quantity("device_seconds", 0)),
    )


def _pinned(event: UsageEvent, books: Sequence[PriceBook], meter: str) -> PinnedPrice | None:
    fallback = _FALLBACKS.get(meter)
    for book in books:
        item = pick_item(book, event, meter) or (pick_item(book, event, fallback) if fallback else None)
        if item is not None:
            return PinnedPrice(book.name, book.version, item)
    return None
