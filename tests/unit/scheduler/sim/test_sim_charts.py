"""Charts show values where they are: at their height, at their hour, on one another, within the frame."""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from xml.etree.ElementTree import Element, fromstring

import pytest

from scheduler.sim import svg
from scheduler.sim.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Curve

FLOOR, CEILING, EDGE = HEIGHT - BOTTOM, TOP, WIDTH - RIGHT
Points = list[tuple[float, float]]


def chart(text: str) -> Element:
    found = fromstring(text)
    assert found.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"
    return found


def shapes(drawn: Element, kind: str) -> list[tuple[str, Points]]:
    """Class and points of each."""
    return [
        (str(one.get("class")), [tuple(map(float, p.split(","))) for p in str(one.get("points")).split()])  # type: ignore[misc]
        for one in drawn.iter(kind)
    ]


def ticks(drawn: Element, kind: str) -> list[str]:
    return [str(one.text) for one in drawn.iter("text") if one.get("class") == f"tick {kind}"]


def titles(drawn: Element) -> list[str]:
    return [str(one.text) for one in drawn.iter("title")]


def test_a_line_goes_through_its_values() -> None:
    drawn = chart(
        svg.lines([0.0, 5.0, 10.0], [Curve("a", [0.0, 10.0, 5.0]), Curve("b", [5.0] * 3)], "things")
    )
    (first, a), (second, b) = shapes(drawn, "polyline")
    assert (first, second) == ("line s0", "line s1")
    assert a == [(LEFT, FLOOR), ((LEFT + EDGE) / 2, CEILING), (EDGE, (FLOOR + CEILING) / 2)]
    assert [y for _, y in b] == [(FLOOR + CEILING) / 2] * 3
    assert drawn.get("aria-label") == "things over hours"
    assert ticks(drawn, "mid") == ["0", "2", "4", "6", "8", "10"]
    assert ticks(drawn, "end") == ["0", "2", "4", "6", "8", "10", "hours"]


def test_grid_and_labels_stand_at_their_ticks() -> None:
    drawn = chart(svg.lines([0.0, 1.0], [Curve("a", [0.0, 4.0])], ""))
    grid = [one for one in drawn.iter("line") if one.get("class") == "grid"]
    labels = [one for one in drawn.iter("text") if one.get("class") == "tick end"]
    for line, label in zip(grid, labels, strict=False):
        assert line.get("y1") == line.get("y2")
        assert float(str(label.get("y"))) == pytest.approx(float(str(line.get("y1"))) + 4)
        assert float(str(label.get("x"))) < LEFT
        assert (float(str(line.get("x1"))), float(str(line.get("x2")))) == (LEFT, EDGE)
    heights = [float(str(line.get("y1"))) for line in grid]
    assert (heights[0], heights[-1]) == (FLOOR, CEILING)
    steps = [one - two for one, two in pairwise(heights)]
    assert steps == pytest.approx([steps[0]] * len(steps), abs=0.2)
    [axis] = [one for one in drawn.iter("line") if one.get("class") == "axis"]
    assert {axis.get("y1"), axis.get("y2")} == {str(FLOOR)}
    assert all(
        FLOOR < float(str(one.get("y"))) <= HEIGHT
        for one in drawn.iter("text")
        if one.get("class") == "tick mid"
    )


def test_the_top_of_a_scale_may_be_told() -> None:
    drawn = chart(svg.lines([0.0, 1.0], [Curve("a", [0.5, 0.5])], "", 1.0))
    [(_, points)] = shapes(drawn, "polyline")
    assert [y for _, y in points] == [(FLOOR + CEILING) / 2] * 2


def test_layers_lie_on_one_another_and_the_limit_over_them() -> None:
    drawn = chart(
        svg.areas(
            [0.0, 8.0], [Curve("a", [2.0, 4.0]), Curve("b", [3.0, 1.0])], "GPUs", Curve("all", [10.0] * 2)
        )
    )
    (first, a), (second, b) = shapes(drawn, "polygon")
    assert (first, second) == ("area s0", "area s1")
    unit = (FLOOR - CEILING) / 10
    heights = [round((FLOOR - y) / unit, 2) for _, y in a]
    assert heights == [2, 4, 0, 0]
    assert [x for x, _ in a] == [LEFT, EDGE, EDGE, LEFT]
    assert [round((FLOOR - y) / unit, 2) for _, y in b] == [5, 5, 4, 2]
    [(name, limit)] = shapes(drawn, "polyline")
    assert (name, [y for _, y in limit]) == ("limit", [CEILING, CEILING])


def test_what_lies_under_the_pointer_is_told_from_top_to_bottom() -> None:
    drawn = chart(
        svg.areas(
            [0.0, 2.0, 8.0], [Curve("a<", [2.0] * 3), Curve("b", [3.5] * 3)], "GPUs", Curve("all", [9.0] * 3)
        )
    )
    assert titles(drawn)[1] == "hour 2.0\nb: 3.5 GPUs\na<: 2 GPUs\nall: 9 GPUs"
    strips = list(drawn.iter("rect"))
    spans = [(float(str(s.get("x"))), float(str(s.get("width")))) for s in strips]
    width = EDGE - LEFT
    expected = [(LEFT, width / 4), (LEFT + width / 4, 3 * width / 4), (EDGE, 1.0)]
    for span, wanted in zip(spans, expected, strict=True):
        assert span == pytest.approx(wanted, abs=0.1), "the last one can be hit too"
    assert {(s.get("y"), s.get("height")) for s in strips} == {(str(TOP), str(FLOOR - TOP))}


def test_nothing_makes_a_chart_too() -> None:
    for drawn in (
        chart(svg.lines([], [], "x")),
        chart(svg.areas([], [], "x")),
        chart(svg.distributions([], 1.0, "s")),
    ):
        assert shapes(drawn, "polyline") == []
        assert ticks(drawn, "mid")


def test_a_distribution_tells_which_part_is_done_by_when() -> None:
    drawn = chart(svg.distributions([("wait", [1.0, 10.0, 10.0, 1000.0]), ("none", [])], 1.0, "seconds"))
    (first, wait), (second, none) = shapes(drawn, "polyline")
    assert (first, second) == ("line s0", "line s1")

    def part_at(value: float, points: Sequence[tuple[float, float]]) -> float:
        x = LEFT + math.log10(value) / 3 * (EDGE - LEFT)
        y = [y for at, y in points if at <= x + 0.06][-1]
        return round((FLOOR - y) / (FLOOR - CEILING), 2)

    assert [part_at(value, wait) for value in (1, 9, 10, 100, 990, 1000)] == [
        0.25,
        0.25,
        0.75,
        0.75,
        0.75,
        1.0,
    ]
    assert {y for _, y in none} == {FLOOR}
    assert ticks(drawn, "mid") == ["1", "10", "100", "1000"]
    assert ticks(drawn, "end") == ["0", "20", "40", "60", "80", "100", "seconds"]
    assert titles(drawn) == ["wait: 4 jobs", "none: 0 jobs"]
    assert (wait[0][0], wait[-1][0]) == (LEFT, EDGE)


def test_what_is_less_than_the_least_counts_as_that() -> None:
    drawn = chart(svg.distributions([("wait", [0.0, 0.5])], 1.0, "seconds"))
    [(_, points)] = shapes(drawn, "polyline")
    assert {y for _, y in points} == {CEILING}
    assert ticks(drawn, "mid") == ["1", "10"]


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(1.0, 1000.0, (0, 1, 2, 3)), (1.0, 1001.0, (0, 1, 2, 3, 4)), (5.0, 6.0, (0, 1, 2)), (0.1, 1.0, (-1, 0))],
)
def test_powers_of_ten_reach_around_the_values(low: float, high: float, shown: tuple[float, ...]) -> None:
    axis = Axis.powers(low, high)
    assert (axis.ticks, axis.low, axis.high) == (shown, shown[0], shown[-1])


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 5, (0, 1, 2, 3, 4, 5)),
        (0, 5.01, (0, 2, 4, 6)),
        (0, 11, (0, 2.5, 5, 7.5, 10, 12.5)),
        (0, 20, (0, 5, 10, 15, 20)),
        (10, 60, (10, 20, 30, 40, 50, 60)),
        (3, 3, (3, 4)),
        (0, float("nan"), (0, 1)),
    ],
)
def test_scales_begin_low_reach_the_highest_and_have_round_steps(
    low: float, high: float, ticks: tuple[float, ...]
) -> None:
    axis = Axis.round(high, low)
    assert axis.ticks == pytest.approx(ticks)
    assert (axis.low, axis.high) == pytest.approx((ticks[0], ticks[-1]))


def test_hours_end_with_the_time_and_not_at_a_round_one_after_it() -> None:
    drawn = chart(svg.lines([0.0, 21.0], [Curve("a", [1.0, 1.0])], ""))
    [(_, points)] = shapes(drawn, "polyline")
    assert points[-1][0] == EDGE
    assert ticks(drawn, "mid") == ["0", "5", "10", "15", "20"]
    short = chart(svg.lines([0.0], [Curve("a", [1.0])], ""))
    assert ticks(short, "mid")[-1] == "1", "less than an hour is shown as one"


def test_colours_begin_again_after_the_last() -> None:
    drawn = chart(svg.lines([0.0], [Curve(str(n), [1.0]) for n in range(9)], ""))
    assert [name for name, _ in shapes(drawn, "polyline")] == [*(f"line s{n}" for n in range(8)), "line s0"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (9999, "9999"), (10_000, "10k"), (999_000, "999k"), (1_000_000, "1M"), (-2_500_000, "-2.5M"),
        (1e9, "1G"), (3.14159, "3.142"), (0.0001, "0.0001"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert svg.number(value) == text
    assert re.fullmatch(r"-?[\d.]+[kMG]?", text)
