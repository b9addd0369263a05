"""What gateways must know of Budgets and prices."""

from __future__ import annotations

from billing.core.budgets import Terms
from billing.core.rating import PriceBook
from billing.store.books import book_of, readable_terms
from common.resources import Budget, Price
from common.store.port import Store
from common.wire import RouteBook, RouteBudget


async def budgets_and_books(
    store: Store, priced: bool
) -> tuple[tuple[RouteBudget, ...], tuple[RouteBook, ...]]:
    """The budgets that refuse requests and, where some are of money, the price books that it goes by; where
    Routes go by prices (``priced``), all of them. Device time is used by no request."""
    terms = readable_terms(await store.list(Budget))
    hard = tuple(_budget(one) for one in terms if one.hard and one.unit != "device_seconds")
    tenants = {one.tenant for one in hard if one.unit == "microcredits"}
    if not (tenants or priced):
        return hard, ()
    books = [book_of(price) for price in await store.list(Price)]
    asked = (book for book in books if priced or book.tenant is None or book.tenant in tenants)
    return hard, tuple(_book(book) for book in asked)


def _budget(terms: Terms) -> RouteBudget:
    scope = terms.scope
    return RouteBudget(
        id=terms.id,
        name=terms.name,
        tenant=scope.tenant,
        project=scope.project,
        key=scope.key,
        user=scope.user,
        tags=dict(scope.tags),
        period=terms.period,
        unit=terms.unit,
        limit=terms.limit,
        from_ms=terms.from_ms,
        until_ms=terms.until_ms,
        zone=str(terms.zone),
    )


def _book(book: PriceBook) -> RouteBook:
    return RouteBook(
        name=book.name,
        version=book.version,
        from_ms=book.from_ms,
        until_ms=book.until_ms,
        tenant=book.tenant,
        zone=str(book.zone),
        items=tuple(item.content() for item in book.items),
    )
