"""Events and transactions as rows, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, cast

from billing.core.events import METERS, UsageEvent
from billing.core.ledger import Entry, Transaction
from billing.core.rating import BookItem, PinnedPrice, RatedLine
from common.clock import rfc3339

Row = dict[str, Any]


def event_row(event: UsageEvent, lines: Sequence[RatedLine], posted_ms: int) -> Row:
    """The row of ``usage_events``; ``day`` is that of the event's end in UTC."""
    return {
        "id": event.id,
        "digest": event.digest(),
        "document": json.dumps(event.to_dict()),
        "kind": event.kind,
        "tenant": event.tenant,
        "project": event.project,
        "key": event.key,
        "model": event.model,
        "model_identity": event.model_identity,
        "device_class": event.device_class,
        "day": rfc3339(event.ended_ms)[:10],
        "ended_ms": event.ended_ms,
        "posted_ms": posted_ms,
        **{meter: event.quantity(meter) for meter in METERS},
        "microcredits": sum(line.microcredits for line in lines),
        "unpriced_lines": sum(line.unpriced for line in lines),
    }


def transaction_row(transaction: Transaction, posted_ms: int) -> Row:
    """The row of ``journal_transactions``."""
    return {
        "id": transaction.id,
        "event_id": transaction.event_id,
        "type": transaction.type,
        "posted_ms": posted_ms,
        "reason": transaction.reason,
    }


def entry_rows(transaction: Transaction) -> list[Row]:
    """The rows of ``journal_entries``: the line's price stands on the entry that it made."""
    return [
        {
            "transaction_id": transaction.id,
            "number": number,
            "account": entry.account,
            "microcredits": entry.microcredits,
            "meter": entry.line.meter if entry.line else None,
            "quantity": entry.line.quantity if entry.line else None,
            **_price_columns(entry.line.price if entry.line else None),
        }
        for number, entry in enumerate(transaction.entries)
    ]


def _price_columns(price: PinnedPrice | None) -> Row:
    return {
        "price_book": price.book if price else None,
        "price_version": price.version if price else None,
        "price_meter": price.item.meter if price else None,
        "price_model": price.item.model if price else None,
        "price_device_class": price.item.device_class if price else None,
        "price_microcredits_per_million": price.item.microcredits_per_million if price else None,
    }


def transaction_of(event_id: str, type_: str, reason: str, entries: Sequence[Any]) -> Transaction:
    """The transaction whose rows these are."""
    kind = cast(Literal["usage", "reversal"], type_)
    return Transaction(event_id, kind, tuple(_entry_of(row) for row in entries), reason)


def _entry_of(row: Any) -> Entry:
    if row.meter is None:
        return Entry(row.account, row.microcredits)
    price = None
    if row.price_book is not None:
        item = BookItem(
            row.price_meter, row.price_microcredits_per_million, row.price_model, row.price_device_class
        )
        price = PinnedPrice(row.price_book, row.price_version, item)
    line = RatedLine(row.meter, row.quantity, abs(row.microcredits), price)
    return Entry(row.account, row.microcredits, line)
