"""What a gateway has counted of canaries is told, however many there are."""

from pathlib import Path
from typing import Any

from common.settings import Settings
from common.wire import MAX_TRIALS, RouteCanary, SideCounts, TrialReport
from inference.core.canary.judge import step_of
from inference.gateway.control_link.tallies import Tallies


def canary(number: int) -> RouteCanary:
    return RouteCanary(
        endpoint=f"lab/chat-{number}", trial=f"{number}", salt=f"chat-{number} tiny-v2", weight_percent=10.0
    )


def test_of_more_trials_than_one_report_takes_all_are_told(tmp_path: Path) -> None:
    nowhere: Any = None
    tallies, so_many = Tallies(Settings(home=tmp_path), nowhere), 2 * MAX_TRIALS + 1
    assert tallies.reports() == []
    for number in range(so_many):
        tallies.count(canary(number), "canary", failed=number % 2 == 0, ttft_ms=None)
    reports = [TrialReport.model_validate_json(one.model_dump_json()) for one in tallies.reports()]
    told = [trial for report in reports for trial in report.trials]
    assert [trial.endpoint for trial in told] == [canary(number).endpoint for number in range(so_many)]
    assert [trial.canary.failed for trial in told[:3]] == [1, 0, 1]
    assert len({report.gateway for report in reports}) == 1


def test_what_was_answered_failed_and_waited_for_is_counted_for_its_side(tmp_path: Path) -> None:
    nowhere: Any = None
    tallies = Tallies(Settings(home=tmp_path), nowhere)
    for ttft_ms in (20.0, 20.0, None):
        tallies.count(canary(1), "canary", failed=ttft_ms is None, ttft_ms=ttft_ms)
    tallies.count(canary(1), "stable", failed=False, ttft_ms=500.0)
    [trial] = tallies.reports()[0].trials
    assert trial.canary == SideCounts(requests=3, failed=1, first_tokens={step_of(20.0): 2})
    assert trial.stable == SideCounts(requests=1, failed=0, first_tokens={step_of(500.0): 1})
    tallies.keep_only([canary(2)])
    assert tallies.reports() == []
