"""The report is one page that stands alone, with every figure and well-formed charts; figures are worked
out right."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from scheduler.sim import svg
from scheduler.sim.report import duration, html_report
from scheduler.sim.result import Totals, size_of, spread
from scheduler.sim.series import Recorder, jain
from tests.unit.scheduler.sim_build import gpu_job, gpu_node, play


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img"), "the page needs nothing else"
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_a_report_stands_alone_and_tells_the_figures() -> None:
    jobs = [gpu_job(f"j{n}", 2, 100, at_seconds=10 * n) for n in range(12)]
    stuck = gpu_job("<huge>", 8, 100, at_seconds=5)
    result = play([gpu_node("a")], [*jobs, stuck], horizon_seconds=500)
    page = html_report(result, "A <test>")
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    text = "\n".join(tags.text)
    for expected in (
        "A <test>",
        "Utilisation",
        "Still waiting",
        "<huge>",
        "NoRoom",
        "9 of 13",
        "4 nvidia A100",
        "preemptions for nothing",
        "preemptions voided from outside",
    ):
        assert expected in text
    assert "http" not in re.sub("<style>.*</style>", "", page, flags=re.S)
    charts = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    assert len(charts) == 6
    for chart in charts:
        ElementTree.fromstring(chart)
        assert "nan" not in chart


def test_waits_are_told_by_queue_and_size_and_use_by_vendor() -> None:
    """One node of four devices of each of two vendors, of which one is asked for: a job of four runs, one of
    four waits 100 s for it, one of one 200 s."""
    nodes = [gpu_node("a"), gpu_node("b", vendor="amd", model="MI300X")]
    jobs = [gpu_job("j1", 4, 100), gpu_job("j2", 4, 100)]
    jobs.append(gpu_job("j3", 1, 100, queue="other"))
    result = play(nodes, jobs, horizon_seconds=400)
    figures = result.summary()
    assert figures["utilisation_percent_by_vendor"] == {"amd": 0.0, "nvidia": 56.25}
    assert figures["wait_seconds_by_queue"]["other"]["max"] == 200
    assert figures["wait_seconds_by_size"]["2 to 4"]["mean"] == 50
    assert list(figures["wait_seconds_by_size"]) == ["1", "2 to 4"]
    page = html_report(result, "Waits")
    for expected in ("Sizes", "2 to 4", "Vendors", "MI300X", "56.2 %"):
        assert expected in page


@pytest.mark.parametrize(
    ("devices", "size"),
    [
        (0.5, "part of one"),
        (1, "1"),
        (1.5, "2 to 4"),
        (4, "2 to 4"),
        (5, "5 to 8"),
        (64, "33 to 64"),
        (65, "over 64"),
    ],
)
def test_sizes_of_jobs_have_names(devices: float, size: str) -> None:
    assert size_of(devices) == size


def test_a_report_of_nothing_can_be_made() -> None:
    page = html_report(play([gpu_node("a")], []), "Empty")
    assert "0 of 0" in page


def test_a_series_holds_averages_over_time() -> None:
    recorder = Recorder(["x"], 0, 100, 2)
    recorder.put("x", 4)
    recorder.advance(25)
    recorder.put("x", 2)
    recorder.advance(75)
    recorder.put("x", 0)
    recorder.advance(1000)
    series = recorder.series()
    assert series.values["x"].tolist() == [3.0, 1.0]
    assert series.mean("x") == 2.0
    assert series.mean("y") == 0.0


def test_the_last_span_may_be_shorter() -> None:
    recorder = Recorder(["x"], 0, 90, 4)
    recorder.put("x", 5)
    recorder.advance(90)
    assert np.allclose(recorder.series().values["x"], 5.0)


def test_jains_index() -> None:
    assert jain([2, 2, 2]) == 1.0
    assert jain([1, 0, 0, 0]) == 0.25
    assert jain([]) == 1.0


def test_a_spread_of_values() -> None:
    assert spread([]) == {}
    assert spread([float(n) for n in range(1, 101)]) == {
        "mean": 50.5,
        "p50": 50.5,
        "p90": 91,
        "p99": 100,
        "max": 100,
    }


@pytest.mark.parametrize(
    ("high", "ticks"),
    [(10, (0, 2, 4, 6, 8, 10)), (7, (0, 2, 4, 6, 8)), (0, (0, 1)), (0.9, (0, 0.2, 0.4, 0.6, 0.8, 1.0))],
)
def test_axes_have_round_ticks(high: float, ticks: tuple[float, ...]) -> None:
    assert svg.Axis.round(high).ticks == pytest.approx(ticks)


def test_numbers_and_times_for_people() -> None:
    assert [svg.number(v) for v in (0, 0.25, 512, 12_345, 2_500_000)] == ["0", "0.25", "512", "12.3k", "2.5M"]
    assert [duration(v) for v in (None, 75, 5400, 36_000, 864_000)] == [
        "–",
        "75 s",
        "90 min",
        "10 h",
        "10 days",
    ]


def test_what_came_since_is_told_of_every_figure() -> None:
    assert Totals(9.0, 7.0, 4.0).since(Totals(1.0, 2.0, 3.0)) == Totals(8.0, 5.0, 1.0)
