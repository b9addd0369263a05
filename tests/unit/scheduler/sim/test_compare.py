"""Two simulations side by side: before → after, and a clear word where a file is none of a simulation."""

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import InvalidInput
from scheduler.sim.compare import main, read_figures
from tests.unit.scheduler.sim_build import gpu_job, gpu_node, play


def figures_of(seconds: int) -> dict[str, Any]:
    jobs = [gpu_job(f"j{n}", 2, seconds, at_seconds=10 * n) for n in range(6)]
    return play([gpu_node("a")], jobs, horizon_seconds=5000).summary()


def written(path: Path, figures: object) -> str:
    path.write_text(json.dumps(figures))
    return str(path)


def test_two_simulations_are_told_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after, page = figures_of(200), figures_of(100), tmp_path / "page.html"
    files = [written(tmp_path / name, one) for name, one in (("a<b>.json", before), ("b.json", after))]
    assert main([*files, "--html", str(page)]) == 0
    out = capsys.readouterr().out
    waits = [one["wait_seconds"]["mean"] for one in (before, after)]
    assert waits[0] > waits[1]
    for expected in (
        "| preemptions for nothing | 0 | 0 |",
        "| preemptions voided from outside | 0 | 0 |",
        "**Waits by queue**",
        "**Waits by size**",
        "| 2 to 4 | ",
        f"| nvidia | {before['utilisation_percent']:.1f} % → {after['utilisation_percent']:.1f} % |",
    ):
        assert expected in out
    html = page.read_text()
    assert "Waits by size" in html
    assert "a&lt;b&gt;.json" in html


def test_what_one_of_them_lacks_is_a_dash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    after = figures_of(100)
    before = {"utilisation_percent": 50.0, "decisions": {}, "wait_seconds_by_size": None}
    files = [written(tmp_path / name, one) for name, one in (("a.json", before), ("b.json", after))]
    assert main(files) == 0
    out = capsys.readouterr().out
    assert "| devices held | 50.0 % | " in out
    assert "| preemptions voided from outside | – | 0 |" in out
    assert "| preemptions | 0 | 0 |" in out
    assert "| nvidia | – → " in out


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "cannot read"), ("{", "is not JSON"), ("[]", "scheduler.sim --json"), ("{}", "no figures")],
)
def test_a_file_of_no_simulation_is_refused(
    text: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    assert main([str(path), str(path)]) == 2
    assert said in capsys.readouterr().err
    with pytest.raises(InvalidInput) as refused:
        read_figures(path)
    assert refused.value.param == "path"


def test_a_page_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.json", figures_of(100))
    assert main([path, path, "--html", str(tmp_path / "none" / "page.html")]) == 2
    assert "cannot write" in capsys.readouterr().err
