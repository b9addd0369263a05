"""The tide: how many devices of each class are for inference, from a calendar and from load.

What inference will need is known before it needs it: from the calendar, from the same time on earlier days,
and while there are no earlier days from a short trend. Training makes room in time by losing ranks, and grows
into the trough. Whoever gives devices back waits until it has not needed them for a while, so that a short
dip moves nothing.

The forecast is a seasonal-naive one (period: a day) with the level of today (Hyndman and Athanasopoulos,
"Forecasting: principles and practice", 3rd ed., section 5.2), and never below the load of now.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from common.errors import InvalidInput
from common.weekly import DAY_MINUTES, MINUTE_MS, WeeklyWindow, parse_weekly
from scheduler.core.model.types import WHOLE_MILLIS, Tide

DAY_MS = DAY_MINUTES * MINUTE_MS
EARLIER_DAYS = 7
"""So many days back count in the forecast."""
LEVEL_WINDOW_MS = 30 * MINUTE_MS
"""Today's level against an earlier day's is taken over so long."""
LEVEL_RANGE = (0.5, 2.0)
"""A day counts as at most so much lower or higher than the one that it is compared with."""
TREND_WINDOW_MS = 15 * MINUTE_MS
TREND_LIMIT = 2.0
"""A trend forecasts at most so many times the load of now."""
PRESSURE_STEP = 0.25
"""Where requests queue or are slow although load says it suffices, so much more than now."""
SILENT_MS = 3 * MINUTE_MS
"""Without a sample for so long nothing is known of the load of now."""


@dataclass(frozen=True, slots=True)
class Window:
    """While ``weekly`` is open, ``inference_millis`` of the class are for inference."""

    device_class: str
    inference_millis: int
    weekly: WeeklyWindow

    def open_at(self, local_ms: int) -> bool:
        """Whether the window is open at this local time."""
        return self.weekly.open_at(local_ms)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Windows in the local time of ``utc_offset_minutes``. Of windows of one class the largest open one
    counts."""

    windows: tuple[Window, ...] = ()
    utc_offset_minutes: int = 0


def parse_window(text: str, device_class: str, inference_millis: int) -> Window:
    """A window as ``common.weekly`` takes it. ``InvalidInput`` where the text is none."""
    weekly = parse_weekly(text)
    if inference_millis < 0:
        raise InvalidInput(
            f"{inference_millis} millis of {device_class}: not below 0", param="inference_millis"
        )
    return Window(device_class, inference_millis, weekly)


def scheduled_millis(calendar: Calendar, now_ms: int, ahead_seconds: int = 0) -> dict[str, int]:
    """Per class, the most that the calendar gives inference between now and ``ahead_seconds`` later."""
    local = now_ms + calendar.utc_offset_minutes * MINUTE_MS
    moments = [local, *range(local, local + ahead_seconds * 1000, MINUTE_MS), local + ahead_seconds * 1000]
    most: dict[str, int] = {}
    for window in calendar.windows:
        more = window.inference_millis > most.get(window.device_class, 0)
        if more and any(window.open_at(moment) for moment in moments):
            most[window.device_class] = window.inference_millis
    return most


@dataclass(frozen=True, slots=True)
class LoadSample:
    """What was seen of a service: its load, requests that waited, and the 95th percentile of the time to the
    first token. ``load`` is in any one unit, e.g. requests per second or devices that have work."""

    at_ms: int
    load: float
    queued: float = 0.0
    p95_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LoadRule:
    """How load becomes devices.

    ``load_per_replica``: what one replica of ``replica_millis`` bears when it is full. ``headroom``: so
    much more than the load. ``ahead_seconds``: how far ahead it looks: at least as long as training needs
    to give way and a model to load. ``release_seconds``: what was not needed for so long is given back.
    ``queued_limit`` (requests per replica) and ``p95_limit_seconds``: beyond them more is taken at once (0
    = not looked at).
    """

    device_class: str
    load_per_replica: float
    replica_millis: int = WHOLE_MILLIS
    headroom: float = 0.25
    ahead_seconds: int = 900
    release_seconds: int = 1200
    queued_limit: float = 0.0
    p95_limit_seconds: float = 0.0
    least_replicas: int = 1
    most_replicas: int | None = None

    def __post_init__(self) -> None:
        if self.load_per_replica <= 0 or self.replica_millis <= 0:
            raise InvalidInput("a replica needs devices and bears load", param="load_per_replica")
        if self.headroom < 0 or self.ahead_seconds < 0 or self.release_seconds < 0:
            raise InvalidInput("headroom and times are not below 0", param="headroom")


def forecast_load(history: Sequence[LoadSample], now_ms: int, ahead_seconds: int) -> float:
    """The highest load expected from now until ``ahead_seconds`` later.

    ``history`` is in the order of time; what is later than now is not looked at. 0.0 without history.
    """
    recent = _between(history, now_ms - TREND_WINDOW_MS, now_ms)
    current = recent[-1].load if recent else 0.0
    seasonal = _seasonal(history, now_ms, ahead_seconds)
    return max(current, _trend(recent, ahead_seconds) if seasonal is None else seasonal)


def _trend(recent: Sequence[LoadSample], ahead_seconds: int) -> float:
    """The line through the last minutes (least squares), continued; only upwards."""
    if len(recent) < 3:
        return 0.0
    origin = recent[-1].at_ms
    times = [(sample.at_ms - origin) / 1000 for sample in recent]
    loads = [sample.load for sample in recent]
    mean_time, mean_load = sum(times) / len(times), sum(loads) / len(loads)
    spread = sum((t - mean_time) ** 2 for t in times)
    if not spread:
        return 0.0
    slope = sum((t - mean_time) * (x - mean_load) for t, x in zip(times, loads, strict=True)) / spread
    if slope <= 0:
        return 0.0
    return min(mean_load + slope * (ahead_seconds - mean_time), TREND_LIMIT * max(loads))


def _seasonal(history: Sequence[LoadSample], now_ms: int, ahead_seconds: int) -> float | None:
    """The median over earlier days of the highest load in the same span, at today's level; None without
    earlier days."""
    level = _mean(_between(history, now_ms - LEVEL_WINDOW_MS, now_ms))
    guesses: list[float] = []
    for days in range(1, EARLIER_DAYS + 1):
        then = now_ms - days * DAY_MS
        span = _between(history, then, then + ahead_seconds * 1000)
        if span:
            before = _mean(_between(history, then - LEVEL_WINDOW_MS, then))
            ratio = level / before if before else 1.0
            peak = max(sample.load for sample in span)
            guesses.append(peak * min(max(ratio, LEVEL_RANGE[0]), LEVEL_RANGE[1]))
    return median(guesses) if guesses else None


def _between(history: Sequence[LoadSample], start_ms: int, end_ms: int) -> Sequence[LoadSample]:
    first = bisect_left(history, start_ms, key=_time)
    return history[first : bisect_right(history, end_ms, lo=first, key=_time)]


def _time(sample: LoadSample) -> int:
    return sample.at_ms


def _mean(samples: Sequence[LoadSample]) -> float:
    return sum(s.load for s in samples) / len(samples) if samples else 0.0


def replicas_for(rule: LoadRule, load: float) -> int:
    """Replicas that bear this load with the rule's headroom."""
    wanted = math.ceil(load * (1 + rule.headroom) / rule.load_per_replica - 1e-9)
    bounded = max(wanted, rule.least_replicas)
    return bounded if rule.most_replicas is None else min(bounded, rule.most_replicas)


def wanted_replicas(rule: LoadRule, history: Sequence[LoadSample], held: int, now_ms: int) -> int:
    """How many replicas the service should have, where it has ``held``.

    The most of: what is forecast, what any moment of the last ``release_seconds`` needed, and a step up while
    requests queue or are slow.
    """
    forecast = forecast_load(history, now_ms, rule.ahead_seconds)
    lately = _between(history, now_ms - rule.release_seconds * 1000, now_ms)
    needed = max([forecast, *(sample.load for sample in lately)])
    wanted = replicas_for(rule, needed)
    if lately and _pressed(rule, lately[-1], held):
        stepped = max(wanted, math.ceil(held * (1 + PRESSURE_STEP)))
        wanted = stepped if rule.most_replicas is None else min(stepped, rule.most_replicas)
    return wanted


def reserved_replicas(rule: LoadRule, history: Sequence[LoadSample], now_ms: int) -> int:
    """For how many replicas training leaves room: the most that was forecast at any moment of the last
    ``release_seconds``, so that neither a dip nor a shaky forecast moves it.

    Where nothing has been heard for ``SILENT_MS`` the last that is known goes on: silence is no calm.
    """
    heard = bisect_right(history, now_ms, key=_time)
    last_ms = history[heard - 1].at_ms if heard else now_ms
    until_ms = last_ms if now_ms - last_ms > SILENT_MS else now_ms
    lately = _between(history, until_ms - rule.release_seconds * 1000, until_ms)
    moments = {now_ms, until_ms, *map(_time, lately)}
    return replicas_for(rule, max(forecast_load(history, at_ms, rule.ahead_seconds) for at_ms in moments))


def _pressed(rule: LoadRule, sample: LoadSample, held: int) -> bool:
    queues = rule.queued_limit > 0 and sample.queued > rule.queued_limit * max(held, 1)
    return queues or (rule.p95_limit_seconds > 0 and sample.p95_seconds > rule.p95_limit_seconds)


def tides(
    calendar: Calendar,
    services: Sequence[tuple[LoadRule, int]],
    now_ms: int,
    ahead_seconds: int = 0,
) -> tuple[Tide, ...]:
    """What the policy's tides are now: per class the sum of what the services want (each with its
    ``wanted_replicas``), and no less than the calendar says."""
    millis = dict.fromkeys((rule.device_class for rule, _ in services), 0)
    for rule, count in services:
        millis[rule.device_class] += count * rule.replica_millis
    for device_class, least in scheduled_millis(calendar, now_ms, ahead_seconds).items():
        millis[device_class] = max(millis.get(device_class, 0), least)
    return tuple(Tide(device_class, wanted) for device_class, wanted in sorted(millis.items()))
