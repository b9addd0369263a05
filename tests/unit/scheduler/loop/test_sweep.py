"""Everything is looked at once within a while, evenly, whether or not anything about it has changed."""

from typing import Any, cast

import pytest

from common.clock import VirtualClock
from scheduler.attention import SWEEP_SECONDS, Attention


class Reader:
    def take_workloads(self) -> set[str]:
        return set()


class World:
    """So many workloads."""

    def __init__(self, count: int) -> None:
        self.workloads = {f"w{number}": None for number in range(count)}

    def reader(self) -> Reader:
        return Reader()


@pytest.mark.parametrize("count", [1, 7, 100])
@pytest.mark.parametrize("parts", [3, 10, 144])
def test_each_is_looked_at_as_often_as_all_others(count: int, parts: int) -> None:
    clock, world = VirtualClock(), World(count)
    attention = Attention(cast(Any, world), clock)
    looked: list[str] = []
    for number in range(1, 2 * parts + 1):
        clock.advance(SWEEP_SECONDS / parts)
        found = attention._sweep()
        assert len(found) == len(set(found))
        looked += found
        assert len(looked) == pytest.approx(count * number / parts, abs=count % parts + 1)
    times = [looked.count(name) for name in world.workloads]
    assert max(times) - min(times) <= 1
    assert min(times) >= 1
