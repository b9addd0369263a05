"""Tides as `computility top` shows them."""

from control.console.tables.pool_tables import PoolView
from tests.unit.control.cli.test_pool_commands import NOW, OVERVIEW, printed

WHY = "2.4 devices' worth of work, 2.8 expected within 15 min"
TIDES = [
    {
        "deviceClass": "nvidia",
        "inferenceMillis": 3500,
        "calendarMillis": 2000,
        "loadMillis": 3500,
        "reason": WHY,
    },
    {"deviceClass": "amd", "inferenceMillis": 0, "calendarMillis": 0, "reason": "no window is open"},
]


def drawn(tides: object) -> list[list[str]]:
    overview = {"atMs": NOW, "pool": OVERVIEW["pool"], "tides": tides, "workloads": []}
    text = printed(lambda out: out.print(PoolView().draw(overview)))
    return [line.split() for line in text.splitlines()]


def test_each_class_says_how_much_inference_has_and_why() -> None:
    lines = drawn(TIDES)
    assert ["nvidia", "3.5", "2", "3.5", *WHY.split()] in lines
    assert ["amd", "0", "0", "-", "no", "window", "is", "open"] in lines


def test_where_nothing_is_configured_nothing_is_said() -> None:
    assert ["Tides"] in drawn(TIDES)
    assert ["Tides"] not in drawn([])
