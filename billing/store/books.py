"""Price resources as price books."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from billing.core.rating import BookItem, PriceBook
from billing.core.volume import Tier
from common.clock import parse_rfc3339
from common.resources import Price
from common.resources.money import PriceItem


def book_of(price: Price) -> PriceBook:
    """The price book that a Price resource declares; its version is the resourceVersion."""
    spec = price.spec
    return PriceBook(
        name=price.name,
        version=price.metadata.resource_version,
        from_ms=parse_rfc3339(spec.effective_from) if spec.effective_from else price.metadata.created_ms,
        until_ms=parse_rfc3339(spec.effective_until) if spec.effective_until else None,
        tenant=spec.tenant,
        items=tuple(map(item_of, spec.items)),
        zone=ZoneInfo(spec.time_zone),
    )


def item_of(item: PriceItem) -> BookItem:
    """The item as rating has it."""
    return BookItem(
        item.meter,
        item.microcredits_per_million,
        item.model,
        item.device_class,
        item.adapter,
        item.service_tier,
        item.hours or "",
        item.period,
        tuple(Tier(tier.above, tier.microcredits_per_million) for tier in item.tiers),
    )
