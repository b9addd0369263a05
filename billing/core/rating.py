"""Rating: what an event costs, line by line, in whole micro-credits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from functools import cached_property
from typing import Any

from billing.core.events import METERS, UsageEvent
from billing.core.hours import Period, local_ms, period_of
from billing.core.volume import Counter, Tier, parts_of
from common.weekly import WeeklyWindow, parse_weekly

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
    """The price of a million units (tokens, seconds). What is ``*`` or unset fits anything.

    ``model`` names a Model: ``project/name``, or ``name`` alone for one that is shared with all tenants.
    ``adapter`` is ``project/name`` of an Adapter, ``service_tier`` what was promised of the work (``batch``).
    ``hours`` (``Mon-Fri 22:00-06:00``; empty = always) are those of the book's time zone. ``tiers`` hold
    instead of the price for what is beyond their bounds in a ``period``. ``above`` is set on a pinned price:
    the bound of the tier that the price is of.
    """

    meter: str
    microcredits_per_million: int
    model: str = ANY
    device_class: str = ANY
    adapter: str = ANY
    service_tier: str = ANY
    hours: str = ""
    period: Period = "month"
    tiers: tuple[Tier, ...] = ()
    above: int = 0

    def content(self) -> dict[str, Any]:
        """Plain JSON types, without what is younger than most prices and not used."""
        young = {
            "adapter": self.adapter if self.adapter != ANY else None,
            "service_tier": self.service_tier if self.service_tier != ANY else None,
            "hours": self.hours or None,
            "period": self.period if self.tiers else None,
            "tiers": self.tiers or None,
            "above": self.above or None,
        }
        return {
            "meter": self.meter,
            "microcredits_per_million": self.microcredits_per_million,
            "model": self.model,
            "device_class": self.device_class,
            **{name: value for name, value in young.items() if value is not None},
        }

    @staticmethod
    def from_content(content: Mapping[str, Any]) -> BookItem:
        """What ``content`` made, also after its way through JSON."""
        made = dict(content)
        if "tiers" in made:
            made["tiers"] = tuple(Tier(*tier) for tier in made["tiers"])
        return BookItem(**made)

    @cached_property
    def window(self) -> WeeklyWindow | None:
        """The hours; None = always. Raises ``InvalidInput``."""
        return parse_weekly(self.hours) if self.hours else None

    @cached_property
    def ladder(self) -> tuple[Tier, ...]:
        """All prices by volume, the first above 0."""
        return (Tier(0, self.microcredits_per_million), *self.tiers)

    def priced(self, tier: Tier) -> BookItem:
        """The item as one of its tiers has it."""
        return replace(self, microcredits_per_million=tier.microcredits_per_million, above=tier.above)


@dataclass(frozen=True)
class PriceBook:
    """Prices that hold from ``from_ms`` (included) to ``until_ms`` (not included; None = open).

    ``tenant`` None means for all. ``version`` tells two states of the same book apart. ``zone`` is whose
    clocks and calendar its items go by.
    """

    name: str
    version: int
    from_ms: int
    items: tuple[BookItem, ...]
    until_ms: int | None = None
    tenant: str | None = None
    zone: tzinfo = UTC

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
        return _SORTED({"book": self.book, "version": self.version, **self.item.content()})

    @cached_property
    def id(self) -> str:
        """Tells this price from all others, by what it says."""
        return _digest(self.canonical())


@dataclass(frozen=True, slots=True)
class RatedLine:
    """A meter of an event, or its part at one tier. Without a price it costs nothing and counts as unpriced.

    Where the price is by volume, ``counter`` is what it was counted by and ``before`` what came before. A
    line of less than nothing is what an order has paid for of the others.
    """

    meter: str
    quantity: int
    microcredits: int
    price: PinnedPrice | None
    counter: Counter | None = None
    before: int = 0

    @property
    def unpriced(self) -> bool:
        return self.price is None

    @property
    def is_cover(self) -> bool:
        """Whether it takes from what the event's other lines cost."""
        return self.quantity < 0


def amount_microcredits(quantity: int, microcredits_per_million: int) -> int:
    """``quantity`` times the price of one unit, rounded half up to whole micro-credits. Exact."""
    return (quantity * microcredits_per_million + MICROCREDITS_PER_UNIT // 2) // MICROCREDITS_PER_UNIT


def pick_item(book: PriceBook, event: UsageEvent, meter: str) -> BookItem | None:
    """The item of the book that fits the event's meter most exactly, or None.

    The adapter decides first, then the Model (``project/name``, then the name of a shared one, then ``*``),
    the device class, the service tier and the hours; of equally exact items the first one counts. Device time
    has a price by device class only.
    """
    best: tuple[tuple[int, ...], BookItem] | None = None
    for item in book.items:
        window = item.window
        if item.meter != meter or (window and not window.open_at(local_ms(event.priced_ms, book.zone))):
            continue
        rank = (
            _exactly(item.adapter, event.adapter_identity),
            _model_rank(item, event),
            _device_rank(item, event),
            _exactly(item.service_tier, event.service_tier),
            2 if item.hours else 1,
        )
        if 0 not in rank and (best is None or rank > best[0]):
            best = rank, item
    return best[1] if best else None


def _exactly(wanted: str, found: str) -> int:
    if wanted == ANY:
        return 1
    return 2 if wanted == found else 0


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


def rate(
    event: UsageEvent, books: Sequence[PriceBook], used: Mapping[Counter, int] | None = None
) -> tuple[RatedLine, ...]:
    """The lines of one event: what ``Rates(books)`` gives."""
    return Rates(books).lines(event, used)


class Rates:
    """Price books, asked about many events. What was found for one is remembered, within bounds, for others
    that are alike in all that a price goes by."""

    def __init__(self, books: Sequence[PriceBook]) -> None:
        self._of_tenant: dict[str | None, list[PriceBook]] = {}
        for book in sorted(books, key=lambda b: (b.from_ms, b.name), reverse=True):
            self._of_tenant.setdefault(book.tenant, []).append(book)
        self._timed = {id(book) for book in books if any(item.hours for item in book.items)}
        self._pins: dict[tuple[object, ...], dict[str, _Found | None]] = {}

    def lines(self, event: UsageEvent, used: Mapping[Counter, int] | None = None) -> tuple[RatedLine, ...]:
        """The lines of the event, one for each meter above zero and each tier that it reaches.

        ``prompt_tokens`` becomes what was not cached; ``cached_tokens`` has its own price or, where a book
        has none, that book's price of prompt tokens. ``used`` is how much came before, by the tenant's
        counters.
        """
        asked = self.books_for(event)
        prices = self._prices(event, asked)
        here: dict[Counter, int] = {}
        lines: list[RatedLine] = []
        for meter, quantity in _sold(event):
            if not quantity:
                continue
            if meter not in prices:
                prices[meter] = _find(event, asked, meter)
            found = prices[meter]
            if found is None:
                lines.append(RatedLine(meter, quantity, 0, None))
            elif not found.by_volume:
                pin = found.pins[0]
                amount = amount_microcredits(quantity, pin.item.microcredits_per_million)
                lines.append(RatedLine(meter, quantity, amount, pin))
            else:
                counter = found.counter(event)
                before = (used or {}).get(counter, 0) + here.get(counter, 0)
                here[counter] = here.get(counter, 0) + quantity
                lines += by_volume(meter, quantity, found.pins, counter, before)
        return tuple(lines)

    def books_for(self, event: UsageEvent) -> tuple[PriceBook, ...]:
        """The books that rate the event, first to be asked first: the tenant's own, then the one for all.

        Of several in force when the event was admitted (on older ones: at its end) the one that began last
        counts (of those, the last by name).
        """
        own, always = self._in_force(event.tenant, event.priced_ms), self._in_force(None, event.priced_ms)
        if own is None:
            return () if always is None else (always,)
        return (own,) if always is None else (own, always)

    def _in_force(self, tenant: str | None, at_ms: int) -> PriceBook | None:
        for book in self._of_tenant.get(tenant, ()):
            if book.in_force(at_ms):
                return book
        return None

    def _prices(self, event: UsageEvent, books: tuple[PriceBook, ...]) -> dict[str, _Found | None]:
        """What was found by meter for events that are alike; nothing is remembered where hours count."""
        if self._timed and not self._timed.isdisjoint(map(id, books)):
            return {}
        alike = (
            *map(id, books),
            event.kind,
            event.model_identity or (event.model, event.base_model),
            event.model_shared,
            event.device_class,
            event.adapter_identity,
            event.service_tier,
        )
        found = self._pins.get(alike)
        if found is None:
            if len(self._pins) >= _REMEMBERED:
                self._pins.clear()
            found = self._pins[alike] = {}
        return found


def by_volume(
    meter: str, quantity: int, pins: Sequence[PinnedPrice], counter: Counter, before: int
) -> Iterator[RatedLine]:
    """A line for each tier that ``quantity`` reaches; ``pins`` are the prices of all tiers, in order."""
    of_tier = {pin.item.above: pin for pin in pins}
    for part in parts_of(quantity, before, pins[0].item.ladder):
        pin = of_tier[part.tier.above]
        amount = amount_microcredits(part.quantity, part.tier.microcredits_per_million)
        yield RatedLine(meter, part.quantity, amount, pin, counter, part.before)


def charged_again(event: UsageEvent, lines: Sequence[RatedLine]) -> tuple[RatedLine, ...]:
    """The lines of an event, made once more of its quantities and of the prices that its lines name, without
    any book. What allotments covered is no part of it. Raises ``ValueError`` where they do not fit what the
    event says."""
    sold = {meter: quantity for meter, quantity in _sold(event) if quantity}
    lines = [line for line in lines if line.meter in METERS]
    for line in lines:
        sold[line.meter] = sold.get(line.meter, 0) - line.quantity
    if any(sold.values()):
        raise ValueError(f"the lines of {event.id} are not of what it says: {sold}")
    return tuple(
        replace(
            line, microcredits=amount_microcredits(line.quantity, line.price.item.microcredits_per_million)
        )
        if line.price
        else replace(line, microcredits=0)
        for line in lines
    )


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


@dataclass(frozen=True)
class _Found:
    """The item at a place of a book, and its pinned prices by tier."""

    book: PriceBook
    place: int
    pins: tuple[PinnedPrice, ...]

    @cached_property
    def by_volume(self) -> bool:
        """Whether there are tiers."""
        return bool(self.book.items[self.place].tiers)

    @cached_property
    def _name(self) -> str:
        return digest_of([self.book.name, self.book.items[self.place].content()])

    def counter(self, event: UsageEvent) -> Counter:
        """What the volume of the event's tenant at this item is counted by. An item of a book is told by its
        content, which no longer changes once the book has begun."""
        item = self.book.items[self.place]
        return f"{period_of(event.priced_ms, item.period, self.book.zone)}/{self._name}"


def _find(event: UsageEvent, books: Sequence[PriceBook], meter: str) -> _Found | None:
    fallback = _FALLBACKS.get(meter)
    for book in books:
        item = pick_item(book, event, meter) or (pick_item(book, event, fallback) if fallback else None)
        if item is not None:
            pins = tuple(PinnedPrice(book.name, book.version, item.priced(tier)) for tier in item.ladder)
            return _Found(book, book.items.index(item), pins)
    return None
