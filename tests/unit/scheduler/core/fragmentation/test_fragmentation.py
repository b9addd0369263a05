"""How much a placement strands: the published measure, and the product's score."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.fragmentation.cutting_stock import UNITS, worth_of_free
from scheduler.core.fragmentation.fragmentation import Fragmentation, TypicalTask, typical_tasks

pytestmark = pytest.mark.unit

WHOLE = TypicalTask(0.5, 8000, 1, 1000)
HALF = TypicalTask(0.3, 4000, 1, 500)
PAIR = TypicalTask(0.1, 16000, 2, 1000, ("H100",))
HOST = TypicalTask(0.1, 4000, 0, 0)
MIX = Fragmentation((WHOLE, HALF, PAIR, HOST))

free_millis = st.integers(0, 100).map(lambda units: 10 * units)
tasks = st.builds(
    TypicalTask,
    weight=st.floats(0.01, 1.0),
    cpu_millis=st.sampled_from((0, 1000, 4000, 12000)),
    count=st.just(1),
    share_millis=st.sampled_from((50, 110, 250, 330, 470, 500, 650, 810, 1000)),
)


def score(before: tuple[int, tuple[int, ...]], after: tuple[int, tuple[int, ...]], cpu: int = 96000) -> float:
    return MIX.score("A100", before, after, (cpu, len(before[1])))


def test_a_mix_is_its_most_frequent_kinds_with_weights_that_add_up() -> None:
    seen = [WHOLE] * 12 + [HALF] * 7 + [HOST]
    chosen = typical_tasks([TypicalTask(1.0, *_kind(task)) for task in seen], coverage=0.95)
    assert [_kind(task) for task in chosen] == [_kind(WHOLE), _kind(HALF)]
    assert [task.weight for task in chosen] == pytest.approx([12 / 19, 7 / 19])


def _kind(task: TypicalTask) -> tuple[int, int, int, tuple[str, ...]]:
    return task.cpu_millis, task.count, task.share_millis, task.models


def test_what_is_stranded_follows_the_paper() -> None:
    # Whole devices see 300 of 1300 stranded, halves 300; pairs may not run here, host-only takes no device.
    assert MIX.stranded_millis("A100", 96000, (300, 1000)) == pytest.approx(0.8 * 300 + 0.2 * 1300)


def test_without_cpu_all_is_stranded() -> None:
    assert MIX.stranded_millis("A100", 3999, (1000, 1000)) == pytest.approx(2000)


def test_a_share_goes_where_its_other_half_waits() -> None:
    beside = score((50000, (500, 1000)), (46000, (0, 1000)))
    opened = score((50000, (500, 1000)), (46000, (500, 500)))
    assert beside > opened


def test_cpu_is_taken_where_it_is_plenty() -> None:
    scarce = score((16000, (1000, 1000)), (4000, (0, 1000)))
    plenty = score((96000, (1000, 1000)), (84000, (0, 1000)))
    assert plenty > scarce


def test_host_cpu_that_is_not_tracked_does_not_matter() -> None:
    one = score((0, (500, 1000)), (0, (0, 1000)), cpu=0)
    other = score((777, (500, 1000)), (-3223, (0, 1000)), cpu=0)
    assert one == other


def test_devices_of_several_slots_and_unknown_models_are_judged_too() -> None:
    assert 0 <= MIX.score("cpu", (0, (8000,)), (0, (3000,)), (0, 1)) <= 1
    assert 0 <= Fragmentation(()).score("A100", (0, (1000,)), (0, (500,)), (0, 1)) <= 1
    assert 0 <= Fragmentation((HOST,)).score("A100", (9, (1000,)), (1, (500,)), (9, 1)) <= 1


@given(st.lists(tasks, min_size=1, max_size=8), st.lists(free_millis, min_size=1, max_size=8), st.data())
def test_scores_are_steps_of_the_unit_interval(
    workload_mix: list[TypicalTask], free: list[int], data: st.DataObject
) -> None:
    taken = [data.draw(st.integers(0, one)) for one in free]
    before, after = (96000, tuple(free)), (4000, tuple(f - t for f, t in zip(free, taken, strict=True)))
    value = Fragmentation(workload_mix).score("any", before, after, (96000, len(free)))
    assert 0 <= value <= 1
    assert round(value * 100) == pytest.approx(value * 100)
    assert value == Fragmentation(workload_mix).score("any", before, after, (96000, len(free)))


@given(st.lists(tasks, min_size=1, max_size=8), st.lists(free_millis, min_size=1, max_size=8))
def test_no_more_is_stranded_than_is_free(workload_mix: list[TypicalTask], free: list[int]) -> None:
    judge = Fragmentation(typical_tasks(workload_mix))
    assert -1e-6 <= judge.stranded_millis("any", 96000, tuple(free)) <= sum(free) + 1e-6


def test_prices_of_shares_are_those_of_the_cutting_stock_program() -> None:
    # 810 leaves a rest of which the rare 160 can use little; thirds and halves cut a device without loss.
    worth = worth_of_free({810: 100, 470: 80, 320: 30, 160: 5})
    assert [worth[units] for units in (15, 19, 32, 47, 81, 100)] == pytest.approx(
        [0, 0, 1 / 3, 1 / 2, 1, 1], abs=1e-6
    )


@given(st.dictionaries(st.integers(1, 999), st.floats(0.01, 1.0), max_size=12))
def test_no_pattern_of_shares_is_worth_more_than_a_device(demand: dict[int, float]) -> None:
    worth = worth_of_free(demand)
    assert len(worth) == UNITS + 1
    assert worth[0] == 0
    assert worth[UNITS] == 1
    assert list(worth) == sorted(worth)
    for one in range(UNITS + 1):
        assert worth[one] + worth[UNITS - one] <= 1 + 1e-6
