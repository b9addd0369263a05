"""Of one workload the ranks with the highest numbers are the cheapest, in proportion for each role."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from scheduler.core.model.types import Assignment
from scheduler.core.preemption.candidates import REPLICAS, price_of_rank
from tests.unit.scheduler.build import role, workload


def prices(replicas: int, least: int, rank_price: int = 3) -> list[int]:
    """Of the ranks that may go, by replica number."""
    view = workload("w", role(replicas, min_replicas=least))
    candidate = cast(Any, SimpleNamespace(workload=view, rank_price=rank_price))
    return [
        price_of_rank(candidate, Assignment("main", number, number, "n", ()))
        for number in range(least, replicas)
    ]


@pytest.mark.parametrize(("replicas", "least"), [(2, 1), (5, 1), (8, 4), (100, 0), (3, 2)])
def test_the_last_goes_first_and_all_are_between_two_prices_of_ranks(replicas: int, least: int) -> None:
    found = prices(replicas, least)
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == len(found)
    assert found[-1] == 3 * REPLICAS
    assert all(3 * REPLICAS <= price < 4 * REPLICAS for price in found)
    assert max(prices(replicas, least, 2)) < found[-1]


def test_roles_shrink_in_proportion() -> None:
    """Half of what a role may lose costs as much whatever its size."""
    halves = [prices(replicas, 0)[replicas // 2 - 1] - 3 * REPLICAS for replicas in (2, 4, 64)]
    assert max(halves) - min(halves) <= 2
    assert halves[0] == pytest.approx(REPLICAS / 2, abs=2)
