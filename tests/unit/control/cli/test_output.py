"""How values are shown."""

from typing import get_args

import pytest

from common.resources import KINDS
from common.resources.workload import WorkloadStatus
from control.console.output import PHASE_STYLES, age, cell, console
from control.console.tables.tables import COLUMNS


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172_800, "2d"), (-5, "0s")],
)
def test_ages_use_the_largest_unit_that_fits(seconds: int, text: str) -> None:
    now = 1_700_000_000_000
    assert age(now - seconds * 1000, now) == text


def test_a_thing_without_a_time_has_no_age() -> None:
    assert age(None) == age(0) == "-"


def test_nothing_is_shown_as_a_dash_and_zero_as_zero() -> None:
    assert [cell(value).plain for value in (None, "", 0, 1234567, True)] == [
        "-",
        "-",
        "0",
        "1,234,567",
        "yes",
    ]


def test_phases_have_colours() -> None:
    assert [cell(phase).style for phase in ("Ready", "Pending", "Failed", "tiny")] == [
        "green",
        "yellow",
        "red",
        "",
    ]


def test_every_phase_of_a_workload_has_a_colour() -> None:
    phases = get_args(WorkloadStatus.model_fields["phase"].annotation)
    assert {"Preempting", "Resizing", "Migrating"} <= set(phases)
    assert [phase for phase in phases if phase not in PHASE_STYLES] == []


def test_every_kind_has_a_table() -> None:
    assert set(COLUMNS) == set(KINDS)


def test_lines_in_a_pipe_are_as_long_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    text = "waits for " + " ".join(f"node-{number}" for number in range(60))
    console().print(text)
    assert capsys.readouterr().out == f"{text}\n"
