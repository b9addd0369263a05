"""The tide: windows of the calendar, forecasts of load, and who gets how many devices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInput
from common.weekly import MINUTE_MS
from scheduler.core.model.types import Tide
from scheduler.core.tide.tidal import (
    DAY_MS,
    Calendar,
    LoadRule,
    LoadSample,
    forecast_load,
    parse_window,
    replicas_for,
    reserved_replicas,
    scheduled_millis,
    tides,
    wanted_replicas,
)

HOUR_MS = 60 * MINUTE_MS
MONDAY_MS = 4 * DAY_MS
"""5 January 1970, 00:00 UTC."""
NOW_MS = MONDAY_MS + 14 * DAY_MS


def at(day: int, hour: int, minute: int = 0) -> int:
    return MONDAY_MS + day * DAY_MS + hour * HOUR_MS + minute * MINUTE_MS


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("Mon-Fri 08:00-20:00", [at(0, 8), at(4, 19, 59)], [at(0, 7, 59), at(4, 20), at(5, 12)]),
        ("Sat,Sun 10:00-18:00", [at(5, 10), at(6, 17)], [at(4, 12), at(7, 12)]),
        ("22:00-06:00", [at(2, 22), at(2, 0), at(2, 5, 59)], [at(2, 6), at(2, 21, 59)]),
        ("Fri 22:00-06:00", [at(4, 23), at(5, 5)], [at(4, 5), at(5, 6), at(5, 23)]),
        ("Sat-Mon 00:00-24:00", [at(5, 0), at(7, 23, 59)], [at(4, 23, 59), at(8, 0)]),
    ],
)
def test_a_window_is_open_on_its_days_and_hours(text: str, inside: list[int], outside: list[int]) -> None:
    window = parse_window(text, "nvidia", 8000)
    assert [window.open_at(moment) for moment in inside] == [True] * len(inside)
    assert [window.open_at(moment) for moment in outside] == [False] * len(outside)


@pytest.mark.parametrize("text", ["", "08:00", "Mon-Fry 08:00-20:00", "08:00-25:00", "Mon 08:61-09:00"])
def test_what_is_no_window_is_said_to_be_none(text: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse_window(text, "nvidia", 1000)
    assert error.value.param == "window"


def test_the_calendar_looks_ahead_and_takes_the_largest_window_in_local_time() -> None:
    windows = (parse_window("08:00-20:00", "nvidia", 8000), parse_window("12:00-14:00", "nvidia", 16000))
    calendar = Calendar(windows, utc_offset_minutes=120)
    assert scheduled_millis(calendar, at(0, 5)) == {}
    assert scheduled_millis(calendar, at(0, 5, 45), ahead_seconds=900) == {"nvidia": 8000}
    assert scheduled_millis(calendar, at(0, 10)) == {"nvidia": 16000}
    assert scheduled_millis(calendar, at(0, 12)) == {"nvidia": 8000}


def rule(**more: object) -> LoadRule:
    return LoadRule("nvidia", load_per_replica=10.0, headroom=0.25, **more)  # type: ignore[arg-type]


def days_of(load_at_hour: dict[int, float], days: int) -> list[LoadSample]:
    """One sample a minute for whole days before NOW_MS; 5 requests/s in the hours not named."""
    start = NOW_MS - days * DAY_MS
    return [
        LoadSample(start + n * MINUTE_MS, load_at_hour.get(n // 60 % 24, 5.0)) for n in range(days * 24 * 60)
    ]


def test_the_morning_rise_is_foreseen_from_earlier_days() -> None:
    history = [sample for sample in days_of({9: 100.0}, 8) if sample.at_ms < NOW_MS - 15 * HOUR_MS]
    before_nine = NOW_MS - 15 * HOUR_MS - 10 * MINUTE_MS
    assert forecast_load(history, before_nine, 300) == pytest.approx(5.0)
    assert forecast_load(history, before_nine, 900) == pytest.approx(100.0)


def test_a_busier_day_than_usual_is_forecast_higher_within_limits() -> None:
    usual = days_of({9: 40.0}, 3)
    now = NOW_MS + 8 * HOUR_MS + 50 * MINUTE_MS
    today = [LoadSample(NOW_MS + n * MINUTE_MS, 7.5) for n in range(8 * 60 + 51)]
    assert forecast_load([*usual, *today], now, 900) == pytest.approx(60.0)
    absurd = [LoadSample(sample.at_ms, 50.0) for sample in today]
    assert forecast_load([*usual, *absurd], now, 900) == pytest.approx(80.0)


def test_without_earlier_days_a_rising_trend_is_continued_and_bounded() -> None:
    rising = [LoadSample(NOW_MS + n * MINUTE_MS, 10.0 + n) for n in range(16)]
    now = rising[-1].at_ms
    assert forecast_load(rising, now, 300) == pytest.approx(30.0)
    assert forecast_load(rising, now, 36_000) == pytest.approx(50.0)
    falling = [LoadSample(NOW_MS + n * MINUTE_MS, 30.0 - n) for n in range(16)]
    assert forecast_load(falling, now, 3600) == pytest.approx(15.0)
    assert forecast_load((), now, 900) == 0.0


def test_what_is_not_needed_is_given_back_only_after_a_while() -> None:
    high = [LoadSample(NOW_MS + n * MINUTE_MS, 80.0) for n in range(10)]
    low = [LoadSample(NOW_MS + (10 + n) * MINUTE_MS, 20.0) for n in range(60)]
    still, later = NOW_MS + 20 * MINUTE_MS, NOW_MS + 40 * MINUTE_MS
    patient = rule(release_seconds=1200)
    assert wanted_replicas(patient, [*high, *low], 10, still) == 10
    assert wanted_replicas(patient, [*high, *low], 10, later) == 3


def test_a_queue_or_slow_answers_take_more_than_load_asks_for() -> None:
    calm = LoadSample(NOW_MS, 20.0)
    assert wanted_replicas(rule(queued_limit=2.0), [calm], 8, NOW_MS) == 3
    queued = LoadSample(NOW_MS, 20.0, queued=40.0)
    assert wanted_replicas(rule(queued_limit=2.0), [queued], 8, NOW_MS) == 10
    slow = LoadSample(NOW_MS, 20.0, p95_seconds=3.0)
    assert wanted_replicas(rule(p95_limit_seconds=2.0, most_replicas=9), [slow], 8, NOW_MS) == 9


def test_room_is_held_against_dips_and_forecasts_that_come_and_go() -> None:
    loads = [40.0, 40.0, 80.0, 10.0, 10.0, 60.0, *[10.0] * 60]
    history = [LoadSample(NOW_MS + n * MINUTE_MS, load) for n, load in enumerate(loads)]
    patient = rule(ahead_seconds=0, release_seconds=600)
    held = [reserved_replicas(patient, history, NOW_MS + n * MINUTE_MS) for n in range(20)]
    assert held == [5, 5, *[10] * 11, *[8] * 3, *[2] * 4]
    rising = [LoadSample(NOW_MS + n * MINUTE_MS, 10.0 + n) for n in range(16)]
    foreseen = rule(ahead_seconds=300, release_seconds=600)
    calm = [*rising, LoadSample(NOW_MS + 16 * MINUTE_MS, 10.0)]
    assert reserved_replicas(foreseen, rising, rising[-1].at_ms) == 4
    assert reserved_replicas(foreseen, calm, calm[-1].at_ms) == 4


def test_silence_is_no_calm() -> None:
    history = [LoadSample(NOW_MS - n * MINUTE_MS, 80.0) for n in (2, 1, 0)]
    assert reserved_replicas(rule(release_seconds=60), history, NOW_MS + DAY_MS // 2) == 10
    assert reserved_replicas(rule(least_replicas=2), (), NOW_MS) == 2


def test_replicas_are_enough_for_load_and_headroom_within_bounds() -> None:
    assert replicas_for(rule(), 80.0) == 10
    assert replicas_for(rule(), 80.1) == 11
    assert replicas_for(rule(least_replicas=2), 0.0) == 2
    assert replicas_for(rule(most_replicas=4), 80.0) == 4


def test_a_rule_that_cannot_serve_is_refused() -> None:
    with pytest.raises(InvalidInput):
        LoadRule("nvidia", load_per_replica=0.0)
    with pytest.raises(InvalidInput):
        LoadRule("nvidia", load_per_replica=1.0, headroom=-0.1)


def test_services_of_a_class_add_up_and_the_calendar_is_the_least() -> None:
    calendar = Calendar(
        (parse_window("00:00-24:00", "nvidia", 6000), parse_window("00:00-24:00", "amd", 2000))
    )
    pair = LoadRule("nvidia", 5.0, replica_millis=2000)
    assert tides(calendar, [(rule(), 3), (pair, 2)], NOW_MS) == (Tide("amd", 2000), Tide("nvidia", 7000))
    assert tides(calendar, [(rule(), 1)], NOW_MS) == (Tide("amd", 2000), Tide("nvidia", 6000))
    assert tides(Calendar(), [], NOW_MS) == ()


@given(
    loads=st.lists(st.floats(0, 1000), min_size=1, max_size=60),
    headroom=st.floats(0, 1),
    ahead=st.integers(0, 3600),
)
def test_the_tide_never_leaves_inference_less_than_its_load_of_now(
    loads: list[float], headroom: float, ahead: int
) -> None:
    history = [LoadSample(NOW_MS + n * MINUTE_MS, load) for n, load in enumerate(loads)]
    one = LoadRule("nvidia", 10.0, headroom=headroom, ahead_seconds=ahead)
    replicas = wanted_replicas(one, history, 0, history[-1].at_ms)
    assert replicas * one.load_per_replica >= loads[-1] - 1e-6
    assert replicas <= max(1, max(loads) * 2 * (1 + headroom) / one.load_per_replica + 1)


def test_a_window_may_keep_nothing_but_not_less() -> None:
    assert parse_window("08:00-20:00", "nvidia", 0).inference_millis == 0
    with pytest.raises(InvalidInput, match="not below 0"):
        parse_window("08:00-20:00", "nvidia", -1)
