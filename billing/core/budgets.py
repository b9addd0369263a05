"""Budgets: which of them a use counts against, in which of their periods, and how much of each it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal, NamedTuple

from billing.core.events import UsageEvent

BudgetPeriod = Literal["day", "week", "month", "total"]
Unit = Literal["microcredits", "tokens", "device_seconds"]
TOTAL = "total"
"""The name of the only period of a budget that never begins anew."""
_FIRST_MONTH, _MONTHS = 1, 12


@dataclass(frozen=True)
class Scope:
    """Whose use a budget counts: all of ``tenant``, or what is also of the ``project``, ``key``, end ``user``
    and all ``tags`` that are given. Empty = any."""

    tenant: str
    project: str = ""
    key: str = ""
    user: str = ""
    tags: tuple[tuple[str, str], ...] = ()

    def has_tags(self, tags: Mapping[str, str]) -> bool:
        """Whether all tags that it asks for are among these."""
        return all(tags.get(name) == value for name, value in self.tags)


@dataclass(frozen=True)
class Terms:
    """What a budget says. ``id`` is never another budget's, also where one is made anew under its name.

    ``limit`` is in ``unit``, for each period. ``hard``: what would go beyond it is refused. What begins in
    ``from_ms`` to before ``until_ms`` (None = open) counts.
    """

    id: str
    name: str
    scope: Scope
    period: BudgetPeriod
    unit: Unit
    limit: int
    hard: bool
    from_ms: int
    until_ms: int | None = None
    zone: tzinfo = UTC

    def in_force(self, at_ms: int) -> bool:
        """Whether what begins then counts."""
        return self.from_ms <= at_ms and (self.until_ms is None or at_ms < self.until_ms)

    def period_at(self, at_ms: int) -> str:
        """The name of the period that a moment is in, by the calendar of the budget's time zone: ``total``,
        ``2026-11``, ``2026-W48`` or ``2026-11-30``."""
        if self.period == "total":
            return TOTAL
        day = datetime.fromtimestamp(at_ms // 1000, self.zone).date()
        if self.period == "week":
            year, week, _ = day.isocalendar()
            return f"{year:04}-W{week:02}"
        return day.isoformat()[: 7 if self.period == "month" else 10]

    def resets_ms(self, at_ms: int) -> int | None:
        """When the period after that of ``at_ms`` begins, or the budget ends, whichever is first; None =
        never."""
        if self.period == "total":
            return self.until_ms
        following = _following(datetime.fromtimestamp(at_ms // 1000, self.zone).date(), self.period)
        midnight = datetime(following.year, following.month, following.day, tzinfo=self.zone)
        begins_ms = int(midnight.timestamp()) * 1000
        return begins_ms if self.until_ms is None else min(begins_ms, self.until_ms)


def _following(day: date, period: BudgetPeriod) -> date:
    """The first day of the period after that of ``day``."""
    if period == "month":
        year, month = (day.year + 1, _FIRST_MONTH) if day.month == _MONTHS else (day.year, day.month + 1)
        return date(year, month, 1)
    return day + timedelta(days=7 - day.weekday() if period == "week" else 1)


class Use(NamedTuple):
    """How much a use takes, by unit."""

    microcredits: int = 0
    tokens: int = 0
    device_seconds: int = 0

    def of(self, unit: Unit) -> int:
        """How much of the unit it takes."""
        if unit == "microcredits":
            return self.microcredits
        return self.tokens if unit == "tokens" else self.device_seconds


def use_of(event: UsageEvent, microcredits: int) -> Use:
    """What an event that costs so much takes of budgets. Tokens are those of prompts, cached or not, of
    answers and of training."""
    quantity = event.quantities.get
    tokens = quantity("prompt_tokens", 0) + quantity("completion_tokens", 0) + quantity("trained_tokens", 0)
    return Use(microcredits, tokens, quantity("device_seconds", 0))


def counted_ms(event: UsageEvent) -> int:
    """The moment whose period an event counts in: that of admission for inference, of its end for all else,
    which is metered while it runs."""
    return event.priced_ms if event.kind == "inference" else event.ended_ms


class BudgetIndex:
    """Budgets, found by what a use says of itself. Never changes."""

    def __init__(self, budgets: Sequence[Terms] = ()) -> None:
        self._by_scope: dict[tuple[str, str, str, str, str], list[Terms]] = {}
        self._with_users: set[str] = set()
        self._tagged: dict[str, Counter[str]] = {}
        self.by_id = {terms.id: terms for terms in budgets}
        for terms in budgets:
            scope = terms.scope
            tag = scope.tags[0][0] if scope.tags else ""
            self._by_scope.setdefault((scope.tenant, scope.project, scope.key, scope.user, tag), []).append(
                terms
            )
            names = self._tagged.setdefault(scope.tenant, Counter())
            if scope.user:
                self._with_users.add(scope.tenant)
            if tag:
                names[tag] += 1

    def of(self, tenant: str, project: str, key: str, user: str, tags: Mapping[str, str]) -> Iterator[Terms]:
        """Those whose scope a use is in, whenever it is."""
        tagged = self._tagged.get(tenant)
        if tagged is None:
            return
        named = ["", *(name for name in tags if name in tagged)] if tagged else [""]
        users = ("", user) if user and tenant in self._with_users else ("",)
        projects, keys = ("", project) if project else ("",), ("", key) if key else ("",)
        for place in (
            (tenant, one, holder, person, tag)
            for one in projects
            for holder in keys
            for person in users
            for tag in named
        ):
            for terms in self._by_scope.get(place, ()):
                if terms.scope.has_tags(tags):
                    yield terms

    def of_event(self, event: UsageEvent) -> Iterator[Terms]:
        """Those that an event counts against."""
        at_ms = counted_ms(event)
        for terms in self.of(event.tenant, event.project, event.key, event.user, event.tags):
            if terms.in_force(at_ms):
                yield terms
