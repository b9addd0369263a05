"""In which order victims get their places back that turn out not to be needed."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from scheduler.core.model.types import Assignment
from scheduler.core.preemption.fill_back import _dearest_first
from tests.unit.scheduler.build import role, workload

CLAIMANT = workload("claimant", role(1), queue="mine")


def victim(uid: str, price: int = 1, started_ms: int = 5, queue: str = "theirs") -> Any:
    return SimpleNamespace(
        kind=SimpleNamespace(queue=queue),
        price=price,
        running=SimpleNamespace(started_ms=started_ms),
        workload=SimpleNamespace(uid=uid),
    )


def order(evicted: list[Any], shrunk: list[tuple[Any, list[Assignment]]]) -> list[str]:
    evictions = SimpleNamespace(
        evicted={one.workload.uid: one for one in evicted},
        shrunk={one.workload.uid: (one, ranks) for one, ranks in shrunk},
    )
    found = _dearest_first(CLAIMANT, cast(Any, evictions))
    return [
        one.workload.uid if rank is None else f"{one.workload.uid}/{rank.role}/{rank.replica}"
        for one, rank in found
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (victim("z", queue="mine"), victim("a")),
        (victim("z", price=1, queue="mine"), victim("a", price=9)),
        (victim("z", price=9), victim("a", price=2)),
        (victim("z", price=9, started_ms=9), victim("a", price=2, started_ms=1)),
        (victim("z", started_ms=1), victim("a", started_ms=2)),
        (victim("a"), victim("b")),
    ],
)
def test_of_two_the_own_then_the_dearest_then_the_longest_running_is_first(first: Any, second: Any) -> None:
    names = [first.workload.uid, second.workload.uid]
    assert order([first, second], []) == order([second, first], []) == names
    ranks = [Assignment("main", 0, 0, "n", ())]
    shrunk = [(first, ranks), (second, ranks)]
    assert order([], shrunk) == order([], shrunk[::-1]) == [f"{name}/main/0" for name in names]


def test_workloads_are_before_ranks_and_of_one_the_lowest_numbers_first() -> None:
    ranks = [Assignment(name, number, 0, "n", ()) for name, number in (("b", 1), ("b", 0), ("a", 2))]
    dear = victim("dear", price=99, queue="mine")
    assert order([victim("cheap")], [(dear, ranks)]) == ["cheap", "dear/a/2", "dear/b/0", "dear/b/1"]
