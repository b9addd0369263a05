"""Which limits are in force: those of the spec, with the schedules that are open in their time zones."""

from typing import Any

import pytest

from common.clock import parse_rfc3339
from common.resources.scaling import AutoscalingSpec
from inference.autoscaling.limits import rule_of
from inference.core.autoscaling.scaler import Rule

BERLIN = {"window": "Mon-Fri 08:00-20:00", "timeZone": "Europe/Berlin", "minReplicas": 2}


def rule(at: str, *schedules: dict[str, Any], ttft_ms: float | None = None, **spec: Any) -> Rule:
    made = AutoscalingSpec.model_validate({"minReplicas": 0, "schedules": list(schedules), **spec})
    return rule_of(made, ttft_ms, parse_rfc3339(at))


@pytest.mark.parametrize(
    ("at", "least"),
    [
        ("2026-01-05T06:59:59Z", 0),
        ("2026-01-05T07:00:00Z", 2),
        ("2026-01-05T19:00:00Z", 0),
        ("2026-07-06T05:59:59Z", 0),
        ("2026-07-06T06:00:00Z", 2),
        ("2026-07-06T18:00:00Z", 0),
        ("2026-07-05T12:00:00Z", 0),
    ],
    ids=["winter-before", "winter", "winter-after", "summer-before", "summer", "summer-after", "sunday"],
)
def test_a_window_goes_by_the_clocks_on_the_walls(at: str, least: int) -> None:
    found = rule(at, BERLIN)
    assert (found.least, found.floor_reason) == (least, "Schedule" if least else "Minimum")


def test_of_several_open_windows_the_largest_numbers_count() -> None:
    always = {"window": "00:00-24:00"}
    found = rule(
        "2026-01-05T12:00:00Z",
        {**always, "minReplicas": 1, "maxReplicas": 1},
        {**always, "minReplicas": 2, "maxReplicas": 2},
        {**always, "minReplicas": 3},
        BERLIN,
        maxReplicas=8,
    )
    assert (found.least, found.most) == (3, 3), "what there must be is more than what there may be"
    capped = rule("2026-01-05T12:00:00Z", {**always, "maxReplicas": 2}, maxReplicas=8)
    assert (capped.least, capped.most) == (1, 2)
    assert rule("2026-01-04T12:00:00Z", BERLIN, maxReplicas=8).most == 8


def test_targets_are_those_of_the_spec_and_the_objective_where_it_names_none() -> None:
    assert rule("2026-01-05T12:00:00Z").targets.ttft_ms is None
    assert rule("2026-01-05T12:00:00Z", ttft_ms=700.0).targets.ttft_ms == 700.0
    own = rule("2026-01-05T12:00:00Z", ttft_ms=700.0, targets={"ttftMilliseconds": 300.0})
    assert own.targets.ttft_ms == 300.0
    spec = {"scaleDownAfterSeconds": 7, "coolDownSeconds": 8, "scaleToZeroAfterSeconds": 19}
    times = rule("2026-01-05T12:00:00Z", **spec)
    assert (times.down_after_seconds, times.cool_down_seconds, times.zero_after_seconds) == (7, 8, 19)
