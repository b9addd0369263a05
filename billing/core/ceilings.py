"""What a request may cost at most, before anybody knows which engine answers it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from billing.core.events import UsageEvent
from billing.core.rating import BookItem, PriceBook, amount_microcredits, pick_item
from common.vocabulary import MAX_TIME_MS

_METERS = ("prompt_tokens", "cached_tokens", "completion_tokens")
_STEP_MS = 60_000
"""Hours of prices begin and end with a minute."""
_REMEMBERED = 4096


class Ceiling(NamedTuple):
    """The highest price of a million tokens of each kind, in micro-credits."""

    prompt: int
    cached: int
    completion: int

    def most(self, prompt_tokens: int, completion_tokens: int) -> int:
        """What so many tokens cost at most, cached or not."""
        return amount_microcredits(prompt_tokens, max(self.prompt, self.cached)) + amount_microcredits(
            completion_tokens, self.completion
        )

    def amount(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> int:
        """What they cost at these prices; ``cached_tokens`` are among those of the prompt."""
        return (
            amount_microcredits(prompt_tokens - cached_tokens, self.prompt)
            + amount_microcredits(cached_tokens, self.cached)
            + amount_microcredits(completion_tokens, self.completion)
        )


class Doer(NamedTuple):
    """Who may do the work, as far as a price goes by it: see ``UsageEvent``."""

    model_identity: str
    model_shared: bool
    device_class: str


@dataclass(frozen=True)
class _Kept:
    """A ceiling, and when it is the one."""

    ceiling: Ceiling
    from_ms: int
    until_ms: int


class Ceilings:
    """Price books, asked for the highest price that a request can have. Where a price goes by volume, that of
    its dearest tier counts; where no engine is known yet, that of the dearest item."""

    def __init__(self, books: Sequence[PriceBook]) -> None:
        self._of_tenant: dict[str | None, list[PriceBook]] = {}
        for book in sorted(books, key=lambda one: (one.from_ms, one.name), reverse=True):
            self._of_tenant.setdefault(book.tenant, []).append(book)
        self._turns = [at for book in books for at in (book.from_ms, book.until_ms) if at is not None]
        self._has_hours = any(item.hours for book in books for item in book.items)
        self._kept: dict[tuple[str, str, frozenset[Doer]], _Kept] = {}

    def of(self, tenant: str, adapter: str, doers: frozenset[Doer], at_ms: int) -> Ceiling:
        """The ceiling for a request that is admitted then. ``adapter``: its identity, empty for none."""
        alike = (tenant, adapter, doers)
        kept = self._kept.get(alike)
        if kept is None or not kept.from_ms <= at_ms < kept.until_ms:
            if len(self._kept) >= _REMEMBERED:
                self._kept.clear()
            kept = _Kept(self._found(tenant, adapter, doers, at_ms), *self._same_until(at_ms))
            self._kept[alike] = kept
        return kept.ceiling

    def _same_until(self, at_ms: int) -> tuple[int, int]:
        """From when on and until when prices are those of a moment."""
        turns = [0, *self._turns, MAX_TIME_MS]
        if self._has_hours:
            minute = at_ms // _STEP_MS * _STEP_MS
            turns += (minute, minute + _STEP_MS)
        return max(turn for turn in turns if turn <= at_ms), min(turn for turn in turns if turn > at_ms)

    def _found(self, tenant: str, adapter: str, doers: frozenset[Doer], at_ms: int) -> Ceiling:
        asked = [book for whose in (tenant, None) for book in self._in_force(whose, at_ms)]
        if not doers:
            items = [item for book in asked for item in book.items]
            prompt, cached, completion = (
                _dearest(item for item in items if item.meter == meter) for meter in _METERS
            )
            return Ceiling(prompt, max(cached, prompt), completion)
        found = [
            [_price(asked, _event(tenant, adapter, doer, at_ms), meter) for meter in _METERS]
            for doer in doers
        ]
        return Ceiling(*(max(prices) for prices in zip(*found, strict=True)))

    def _in_force(self, tenant: str | None, at_ms: int) -> list[PriceBook]:
        """The one that began last, if any."""
        return [book for book in self._of_tenant.get(tenant, ()) if book.in_force(at_ms)][:1]


def _event(tenant: str, adapter: str, doer: Doer, at_ms: int) -> UsageEvent:
    return UsageEvent(
        id="use",
        kind="inference",
        tenant=tenant,
        project="-",
        started_ms=at_ms,
        ended_ms=at_ms,
        quantities={},
        model_identity=doer.model_identity,
        model_shared=doer.model_shared,
        device_class=doer.device_class,
        adapter_identity=adapter,
        admitted_ms=at_ms,
    )


def _price(books: Sequence[PriceBook], event: UsageEvent, meter: str) -> int:
    """As rating finds it: what is cached costs what the prompt does where a book has no price of its own."""
    for book in books:
        item = pick_item(book, event, meter)
        if item is None and meter == "cached_tokens":
            item = pick_item(book, event, "prompt_tokens")
        if item is not None:
            return _dearest([item])
    return 0


def _dearest(items: Iterable[BookItem]) -> int:
    return max((tier.microcredits_per_million for item in items for tier in item.ladder), default=0)
