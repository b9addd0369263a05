"""What rules answer to drawn questions is what was approved: a few answers are kept, of all a digest."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import InvalidInput
from common.first_tokens import FirstTokens, percentile
from common.weekly import MINUTE_MS
from scheduler.core.lifecycle.lifecycle import Rank, Restarts, Seen, State, Successor, advance
from scheduler.core.lifecycle.metering import due_spans
from scheduler.core.model.runtimes import run_ms
from scheduler.core.model.types import Assignment, Request, RoleView, WorkloadView
from scheduler.core.tide.engine_load import fullness
from scheduler.core.tide.tidal import (
    Calendar,
    LoadRule,
    LoadSample,
    forecast_load,
    parse_window,
    reserved_replicas,
    scheduled_millis,
    tides,
    wanted_replicas,
)
from scheduler.insight.device_series import points
from scheduler.ports import DeviceSample
from tests.fixtures import approving as approved

NOW_MS = 1_700_000_000_000
DRAWS = 2000
"""Questions to each rule."""
READ = 3
"""So many answers are kept as text."""


def _advance(rng: random.Random) -> Any:
    """Where a workload goes, in any state and whatever is seen of it."""
    phases = ("Pending", "Starting", "Running", "Ready", "Restarting", "Preempting", "Resizing", "Migrating")
    late = (None, NOW_MS - 1, NOW_MS, NOW_MS + 1)
    state = State(
        rng.choice((*phases, "Stopping", "Suspended", "Succeeded", "Failed")),  # type: ignore[arg-type]
        rng.randrange(4),
        rng.randrange(4),
        rng.randrange(8),
        rng.choice(late),
        rng.choice(late),
        rng.choice(("", "as before")),
    )
    seen = Seen(
        _ranks(rng),
        rng.random() < 0.5,
        rng.random() < 0.8,
        rng.random() < 0.3,
        rng.random() < 0.5,
        rng.random() < 0.4,
        rng.choice(("", "", "its node is drained")),
        rng.choice((0.0, 10.0)),
        Successor(5, _ranks(rng), rng.random() < 0.5, rng.random() < 0.8) if rng.random() < 0.3 else None,
    )
    restarts = Restarts(
        rng.choice(("Always", "OnFailure", "Never")),
        rng.choice((None, 0, 2, 3)),
        rng.choice((0.0, 1.0, 7.0)),
        60.0,
    )
    return advance(restarts, rng.random() < 0.2, state, seen, NOW_MS)


def _ranks(rng: random.Random) -> tuple[Rank, ...]:
    """None, all alike, or mixed."""
    states = ("Assigned", "Starting", "Running", "Ready", "Exited", "Lost")
    alike = rng.choice(states)
    return tuple(
        Rank(
            number,
            rng.choice(("main", "side")),
            f"n{rng.randrange(2)}",
            alike if rng.random() < 0.8 else rng.choice(states),  # type: ignore[arg-type]
            NOW_MS - rng.choice((0, 99_999, 100_000, 100_001, 599_999, 600_000, 700_000)),
            rng.choice((None, 0, 0, 1, 137)),
            rng.choice((None, 100.0)),
            rng.choice(("", "out of memory")),
        )
        for number in range(rng.choice((0, 1, 2, 3)))
    )


def _spans(rng: random.Random) -> Any:
    """Spans of a run that are to be billed."""
    started_ms = rng.randrange(10_000)
    finished_ms = rng.choice((None, started_ms + rng.choice((0, 1, 999, 1000, 60_000, 61_500, 200_000))))
    now_ms = started_ms + rng.choice((0, 59_999, 60_000, 60_001, 300_000))
    return [*due_spans(started_ms, finished_ms, now_ms, 60, rng.randrange(4))]


def _history(rng: random.Random) -> list[LoadSample]:
    """Of up to three days, with gaps."""
    step_ms = rng.choice((1, 10, 60)) * MINUTE_MS
    base, slope = rng.uniform(0, 20), rng.uniform(-0.01, 0.02)
    first_ms = NOW_MS - rng.choice((10, 120, 1500, 4000)) * MINUTE_MS
    return [
        LoadSample(
            at_ms,
            max(0.0, base + slope * (at_ms - first_ms) / MINUTE_MS + rng.uniform(-1, 1)),
            rng.choice((0.0, 0.0, 3.0, 8.0)),
            rng.choice((0.0, 0.5, 4.0)),
        )
        for at_ms in range(first_ms, NOW_MS + rng.choice((0, 5, -2, -3, -4)) * MINUTE_MS, step_ms)
        if rng.random() < 0.95
    ]


def _load(rng: random.Random) -> Any:
    """Replicas that a load asks for now and at most soon."""
    rule = LoadRule(
        "nvidia",
        rng.choice((0.5, 3.0, 8.0)),
        rng.choice((1000, 4000)),
        rng.choice((0.0, 0.25)),
        rng.choice((0, 900, 3600)),
        rng.choice((0, 60, 1200)),
        rng.choice((0.0, 2.0)),
        rng.choice((0.0, 2.0)),
        rng.choice((0, 1, 3)),
        rng.choice((None, 5, 40)),
    )
    history, held = _history(rng)[-600:], rng.randrange(6)
    forecast = forecast_load(history, NOW_MS, rule.ahead_seconds)
    return (
        f"{forecast:.6g}",
        wanted_replicas(rule, history, held, NOW_MS),
        reserved_replicas(rule, history[-40:], NOW_MS),
    )


def _calendar(rng: random.Random) -> Any:
    """What calendars give inference, and what is wrong with windows."""
    texts = (
        "Mon-Fri 08:00-20:00",
        "Sat,Sun 10:00-18:00",
        "22:00-06:00",
        "Fri-Mon 00:00-24:00",
        "Tue 9:30-9:31",
    )
    wrong = ("Mon 25:00-26:00", "Foo 08:00-09:00", "08:00", "Mon-Xyz 1:00-2:00", "8:60-9:00")
    try:
        windows = [
            parse_window(rng.choice((*texts, *texts, *wrong[:1])), name, rng.choice((1000, 5000, 5000, 9000)))
            for name in ("nvidia", "amd", "nvidia")
        ]
        parse_window(rng.choice((*texts, *wrong)), "nvidia", rng.choice((1, 0, 7, 9, 11, -1)))
    except InvalidInput as error:
        return str(error)
    calendar = Calendar(tuple(windows), rng.choice((0, 60, -330)))
    now_ms = NOW_MS + rng.randrange(7 * 24 * 60) * MINUTE_MS
    ahead_seconds = rng.choice((0, 59, 60, 7200))
    rule = LoadRule(rng.choice(("nvidia", "*")), 1.0, 2000)
    return scheduled_millis(calendar, now_ms, ahead_seconds), tides(
        calendar, [(rule, rng.randrange(4)), (rule, 1)], now_ms, ahead_seconds
    )


def _first_tokens(rng: random.Random) -> Any:
    """How full engines are, and how long first tokens took over the last minutes."""
    bounds = (0.1, 0.5, 1.0, float("inf"))
    tokens, totals = FirstTokens(), {"a": [0] * 4, "b": [0] * 4}
    found = []
    for minute in range(8):
        for total in totals.values():
            for at in range(4):
                total[at] += rng.choice((0, 1, 9))
        told = {
            engine: list(zip(bounds, [sum(total[: at + 1]) for at in range(4)], strict=True))
            for engine, total in totals.items()
            if rng.random() < 0.8
        }
        tokens.note(told, NOW_MS + minute * MINUTE_MS)
        found.append(tokens.p95_seconds())
    counts = {bound: rng.choice((0, 1, 5, 20)) for bound in bounds}
    full = fullness(rng.randrange(20), rng.random(), rng.choice((1.0, 8.0)), rng.choice((0.5, 0.9)))
    return [
        None if each is None else round(each, 9) for each in (*found, percentile(counts, rng.random()), full)
    ]


def _series(rng: random.Random) -> Any:
    """What a device did, as means over steps."""

    def value() -> int | None:
        return rng.choice((None, rng.randrange(100)))

    times = sorted(NOW_MS - rng.randrange(200) * 1000 for _ in range(rng.randrange(12)))
    samples = [DeviceSample(at, rng.random() < 0.9, value(), value(), value(), value()) for at in times]
    since_ms = rng.choice((NOW_MS - 120_000, NOW_MS - 3_600_000, *times))
    found = points(samples, since_ms, rng.choice((0, 10, 60)))
    return [point.model_dump(exclude_defaults=True) for point in found]


def _prediction(rng: random.Random) -> Any:
    """How long a workload is expected to run, by what is stated and by where it is."""
    roles = tuple(
        RoleView(name, rng.randrange(1, 5), Request(), rng.choice((None, 1)))
        for name in ("main", "side")[: rng.choice((1, 2))]
    )
    workload = WorkloadView("w", "p", "w", "q", 0, 0, roles, expected_seconds=rng.choice((None, 1, 60, 601)))
    placement = tuple(
        Assignment(role.name, number, number, "n", ())
        for role in roles
        for number in range(rng.randrange(role.replicas + 1))
    )
    return run_ms(workload, placement, rng.choice((None, 7, 90)))


RULES: dict[str, tuple[Callable[[random.Random], Any], int]] = {
    "lifecycle": (_advance, 6 * DRAWS),
    "spans": (_spans, DRAWS),
    "load": (_load, 400),
    "calendar": (_calendar, DRAWS),
    "device series": (_series, DRAWS),
    "run times": (_prediction, DRAWS),
    "first tokens": (_first_tokens, DRAWS // 4),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_answers_as_approved(name: str) -> None:
    ask, draws = RULES[name]
    answers = [str(ask(random.Random(seed))) for seed in range(draws)]
    lines = [*answers[:READ], f"all: {approved.digest(chr(10).join(answers))}"]
    approved.check(Path(__file__).with_name("answers.txt"), {name: "\n".join(lines)})
