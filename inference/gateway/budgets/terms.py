"""Budgets and price books of the routing table as billing has them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from billing.core.budgets import Scope, Terms
from billing.core.rating import BookItem, PriceBook
from common.wire import RouteBook, RouteBudget


def terms_of(budget: RouteBudget) -> Terms:
    """What a budget says."""
    tags = tuple(sorted(budget.tags.items()))
    return Terms(
        id=budget.id,
        name=budget.name,
        scope=Scope(budget.tenant, budget.project, budget.key, budget.user, tags),
        period=budget.period,
        unit=budget.unit,
        limit=budget.limit,
        hard=True,
        from_ms=budget.from_ms,
        until_ms=budget.until_ms,
        zone=ZoneInfo(budget.zone),
    )


def book_of(book: RouteBook) -> PriceBook:
    """A price book."""
    return PriceBook(
        name=book.name,
        version=book.version,
        from_ms=book.from_ms,
        until_ms=book.until_ms,
        tenant=book.tenant,
        zone=ZoneInfo(book.zone),
        items=tuple(BookItem.from_content(item) for item in book.items),
    )
