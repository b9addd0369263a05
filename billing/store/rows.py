"""Events, transactions and prices as rows, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from billing.core.events import METERS, UsageEvent
from billing.core.ledger import Entry, Transaction, TransactionType
from billing.core.rating import BookItem, PinnedPrice, RatedLine
from billing.store.bulk import Row
from common.clock import rfc3339

_DAY_MS = 24 * 3600 * 1000


@lru_cache(maxsize=1000)
def _day(days: int) -> str:
    return rfc3339(days * _DAY_MS)[:10]


def day_of(event: UsageEvent) -> str:
    """That of the event's end, in UTC."""
    return _day(event.ended_ms // _DAY_MS)


def event_row(event: UsageEvent, lines: Sequence[RatedLine], posted_ms: int, digest: str, series: str) -> Row:
    """The row of ``usage_events``: with what the usage costs, whether an order has paid for it or not."""
    quantity = event.quantities.get
    if lines and lines[-1].is_cover:
        lines = [line for line in lines if not line.is_cover]
    return (
        event.id,
        digest,
        event.canonical(),
        event.kind,
        event.tenant,
        event.project,
        event.key,
        event.model,
        event.device_class,
        day_of(event),
        event.ended_ms,
        posted_ms,
        None,
        *(quantity(meter, 0) for meter in METERS),
        sum([line.microcredits for line in lines]),
        sum([line.price is None for line in lines]),
        event.model_identity,
        series,
    )


def transaction_row(transaction: Transaction, posted_ms: int) -> Row:
    """The row of ``journal``: a line's price is named by the id of its row in ``prices_pinned``."""
    entries = ",".join([_entry_text(entry) for entry in transaction.entries])
    return (transaction.event_id, transaction.type, posted_ms, transaction.reason, f"[{entries}]")


def _entry_text(entry: Entry) -> str:
    """The entry as JSON; the texts in it are few and remembered."""
    line = entry.line
    if line is None:
        return f"[{_quoted(entry.account)},{entry.microcredits}]"
    price = _quoted(line.price.id) if line.price else "null"
    text = f"{_quoted(entry.account)},{entry.microcredits},{_quoted(line.meter)},{line.quantity},{price}"
    return f"[{text}]" if line.counter is None else f"[{text},{_quoted(line.counter)},{line.before}]"


@lru_cache(maxsize=10_000)
def _quoted(text: str) -> str:
    return json.dumps(text)


def price_row(price: PinnedPrice) -> Row:
    """The row of ``prices_pinned``."""
    return (price.id, price.canonical())


def price_of(document: str) -> PinnedPrice:
    """The price whose document in ``prices_pinned`` this is."""
    content = json.loads(document)
    book, version = content.pop("book"), content.pop("version")
    return PinnedPrice(book, version, BookItem.from_content(content))


def price_ids(entries: str) -> set[str]:
    """The ids of the prices that a journal row's entries name."""
    return {entry[4] for entry in json.loads(entries) if len(entry) > 2 and entry[4]}


def transaction_of(row: Any, prices: Mapping[str, PinnedPrice]) -> Transaction:
    """The transaction of a journal row; ``prices`` are those that it names."""
    kind = cast(TransactionType, row.type)
    entries = tuple(_entry_of(entry, prices) for entry in json.loads(row.entries))
    return Transaction(row.event_id, kind, entries, row.reason)


def _entry_of(content: list[Any], prices: Mapping[str, PinnedPrice]) -> Entry:
    account, microcredits, *line = content
    if not line:
        return Entry(account, microcredits)
    meter, quantity, price, *volume = line
    amount = -abs(microcredits) if quantity < 0 else abs(microcredits)
    return Entry(account, microcredits, RatedLine(meter, quantity, amount, price and prices[price], *volume))
