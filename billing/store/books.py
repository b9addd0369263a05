"""Price resources as price books."""

from __future__ import annotations

from billing.core.rating import BookItem, PriceBook
from common.clock import parse_rfc3339
from common.resources import Price


def book_of(price: Price) -> PriceBook:
    """The price book that a Price resource declares; its version is the resourceVersion."""
    spec = price.spec
    return PriceBook(
        name=price.name,
        version=price.metadata.resource_version,
        from_ms=parse_rfc3339(spec.effective_from) if spec.effective_from else price.metadata.created_ms,
        until_ms=parse_rfc3339(spec.effective_until) if spec.effective_until else None,
        tenant=spec.tenant,
        items=tuple(
            BookItem(item.meter, item.microcredits_per_million, item.model, item.device_class)
            for item in spec.items
        ),
    )
