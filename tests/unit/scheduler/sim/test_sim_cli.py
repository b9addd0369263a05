"""``python -m scheduler.sim``: figures on stdout, a report where asked, errors that say what to do."""

import json
from pathlib import Path

import pytest

from scheduler.sim.__main__ import main

SMALL = ["--generate-nodes", "4", "--generate-jobs", "40", "--quiet"]


def test_a_generated_world_gives_figures_and_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "sim.html"
    assert main([*SMALL, "--json", "--report", str(report)]) == 0
    out = capsys.readouterr()
    figures = json.loads(out.out)
    assert out.err == ""
    assert figures["jobs"] == {"submitted": 40, "started": 40, "completed": 40}
    assert 0 < figures["utilisation_percent"] <= 100
    assert "<!doctype html>" in report.read_text()


def test_generated_jobs_run_as_long_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    hours = []
    for minutes in ("15", "150"):
        assert main([*SMALL, "--json", "--median-minutes", minutes]) == 0
        hours.append(json.loads(capsys.readouterr().out)["device_hours"]["useful"])
    assert 5 < hours[1] / hours[0] <= 10


def test_traces_are_played_and_progress_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes, jobs = tmp_path / "nodes.csv", tmp_path / "jobs.csv"
    nodes.write_text("sn,cpu_milli,memory_mib,gpu,model\nn0,64000,1024,4,T4\nn1,64000,1024,4,T4\n")
    lines = "".join(f"{60 * n},{300 + 10 * n},{1 + n % 4},vc{n % 2}\n" for n in range(30))
    jobs.write_text("submit_s,duration_s,num_gpus,vc\n" + lines)
    assert main(["--nodes", str(nodes), "--jobs", str(jobs), "--replay", "--most-jobs", "20", "--json"]) == 0
    out = capsys.readouterr()
    figures = json.loads(out.out)
    assert figures["devices"] == {"nvidia/T4": 8}
    assert figures["jobs"]["completed"] == 20
    assert out.err.count("hour") >= 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nodes", "none.csv"], "cannot read none.csv"),
        (["--generate-nodes", "0"], "at least one node"),
        ([*SMALL, "--load", "0"], "above 0"),
        ([*SMALL, "--median-minutes", "0"], "median run time is above 0"),
        ([*SMALL, "--median-minutes", "2881"], "at most 2880 minutes"),
        ([*SMALL, "--report", "/none/of/this/sim.html"], "cannot write"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--report sim.html" in capsys.readouterr().out
