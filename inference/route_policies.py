"""What the routing table says of policies: budgets that refuse requests, their price books, guardrails."""

from __future__ import annotations

from billing.core.budgets import Terms
from billing.core.rating import PriceBook
from billing.store.books import book_of, terms_of
from common.resources import Budget, Guardrail, Price
from common.store.port import Store
from common.wire import RouteBook, RouteBudget, RouteGuardrail


async def budgets_of(store: Store) -> tuple[tuple[RouteBudget, ...], tuple[RouteBook, ...]]:
    """The budgets that refuse requests and, where some are of money, the price books that it goes by. Device
    time is used by no request."""
    terms = [terms_of(one) for one in await store.list(Budget)]
    hard = tuple(_budget(one) for one in terms if one.hard and one.unit != "device_seconds")
    tenants = {one.tenant for one in hard if one.unit == "microcredits"}
    if not tenants:
        return hard, ()
    books = [book_of(price) for price in await store.list(Price)]
    return hard, tuple(_book(book) for book in books if book.tenant is None or book.tenant in tenants)


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


async def guardrails_of(store: Store) -> tuple[RouteGuardrail, ...]:
    """All of them, by name."""
    return tuple(map(_guardrail, sorted(await store.list(Guardrail), key=lambda one: one.name)))


def _guardrail(guardrail: Guardrail) -> RouteGuardrail:
    scope = guardrail.spec.scope
    return RouteGuardrail(
        name=guardrail.name,
        tenant=scope.tenant or "",
        project=scope.project or "",
        key=scope.key or "",
        model=scope.model or "",
        guards=tuple(guard.to_dict() for guard in guardrail.spec.guards),
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
