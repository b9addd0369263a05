"""Price resources as price books, and Budgets as their terms."""

from __future__ import annotations

from collections.abc import Iterable
from zoneinfo import ZoneInfo

from billing.core.budgets import Scope, Terms, Unit
from billing.core.rating import BookItem, PriceBook
from billing.core.volume import Tier
from common.clock import parse_rfc3339
from common.errors import ComputilityError
from common.resources import Budget, Price
from common.resources.budgets import SECONDS_PER_HOUR
from common.resources.money import PriceItem
from common.telemetry import get_logger

_log = get_logger("billing.budgets")


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


def terms_of(budget: Budget) -> Terms:
    """What a Budget resource declares."""
    spec, scope = budget.spec, budget.spec.scope
    unit, limit = _limit_of(budget)
    return Terms(
        id=budget.metadata.uid,
        name=budget.name,
        scope=Scope(
            scope.tenant,
            scope.project or "",
            scope.key or "",
            scope.user or "",
            tuple(sorted(scope.tags.items())),
        ),
        period=spec.period,
        unit=unit,
        limit=limit,
        hard=spec.enforcement == "hard",
        from_ms=parse_rfc3339(spec.effective_from) if spec.effective_from else budget.metadata.created_ms,
        until_ms=parse_rfc3339(spec.effective_until) if spec.effective_until else None,
        zone=ZoneInfo(spec.time_zone),
    )


def readable_terms(budgets: Iterable[Budget]) -> list[Terms]:
    """What Budgets declare. One that cannot be read (its time zone is unknown to this machine) is told of
    and left out: it holds up no other."""
    found = []
    for budget in budgets:
        try:
            found.append(terms_of(budget))
        except (ComputilityError, ValueError, LookupError, ArithmeticError, TypeError) as error:
            _log.error("a budget cannot be read", budget=budget.name, error=repr(error))
    return found


def _limit_of(budget: Budget) -> tuple[Unit, int]:
    """Of what there is how much in a period."""
    limit = budget.spec.limit
    if limit.microcredits is not None:
        return "microcredits", limit.microcredits
    if limit.tokens is not None:
        return "tokens", limit.tokens
    return "device_seconds", (limit.device_hours or 0) * SECONDS_PER_HOUR
