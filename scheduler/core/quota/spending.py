"""How much device time a queue has used: per calendar period for budgets, and decayed for fair shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from scheduler.core.quota.fairness import decayed_use

Period = Literal["day", "week", "month"]
PERIODS: tuple[Period, ...] = ("day", "week", "month")


@dataclass(frozen=True, slots=True)
class Spent:
    """Device-seconds of one model (``vendor/model``), as of the moment of the last entry."""

    day: float = 0.0
    week: float = 0.0
    month: float = 0.0
    decayed: float = 0.0

    def of(self, period: Period) -> float:
        return {"day": self.day, "week": self.week, "month": self.month}[period]


def renews_ms(period: Period, now_ms: int) -> int:
    """When the period that ``now_ms`` lies in ends (UTC; weeks begin on Monday)."""
    return _to_ms(_next(period, _start(period, now_ms)))


def spend(
    spent: Mapping[str, Spent], held: Mapping[str, float], since_ms: int, now_ms: int
) -> dict[str, Spent]:
    """Add what was held (devices per model) from ``since_ms`` to ``now_ms``. Each period counts from its own
    start; decayed use fades as ``fairness`` says. Models without anything left are dropped."""
    seconds = max(0.0, (now_ms - since_ms) / 1000)
    entries: dict[str, Spent] = {}
    for model in sorted({*spent, *held}):
        before, devices = spent.get(model, Spent()), held.get(model, 0.0)
        day, week, month = (_in_period(p, before.of(p), devices, since_ms, now_ms) for p in PERIODS)
        entry = Spent(day, week, month, decayed_use(before.decayed, devices * seconds, seconds))
        if entry.month or entry.decayed >= 1.0:
            entries[model] = entry
    return entries


def _in_period(period: Period, before: float, devices: float, since_ms: int, now_ms: int) -> float:
    start_ms = _to_ms(_start(period, now_ms))
    kept = before if since_ms >= start_ms else 0.0
    return kept + devices * max(0, now_ms - max(since_ms, start_ms)) / 1000


def _start(period: Period, now_ms: int) -> datetime:
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=now_ms)
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period == "month" else day


def _next(period: Period, start: datetime) -> datetime:
    if period == "month":
        return (start + timedelta(days=32)).replace(day=1)
    return start + timedelta(days=7 if period == "week" else 1)


def _to_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
