"""What counts as asking the same: whoever is refused speaks for all of those."""

from dataclasses import replace
from typing import Any

import pytest

from scheduler.catalogue import load_catalogue
from scheduler.core.model.types import Affinity
from scheduler.core.placement.asks import Asks
from scheduler.core.pool.pool import Pool
from tests.unit.scheduler.build import gpu, node, role, workload

POOL = Pool(
    [node("a", gpu(0), gpu(1)), node("b", gpu(0, model="A100", gib=40), gpu(1, model="A100", gib=40))],
    load_catalogue(),
)
ONE = workload("one", role(2))
H100, A100 = ("nvidia", "H100"), ("nvidia", "A100")


@pytest.mark.parametrize(
    "other",
    [
        {"roles": (role(3),)},
        {"affinity": Affinity(apart=(("x", "y"),))},
        {"labels": (("x", "y"),)},
        {"kind": "training"},
        {"allowed_queues": ("other",)},
        {"preemptible": not ONE.preemptible},
    ],
)
def test_who_is_placed_otherwise_asks_something_else(other: dict[str, Any]) -> None:
    asks = Asks(POOL)
    assert getattr(ONE, next(iter(other))) != next(iter(other.values()))
    assert asks.of(ONE).number != asks.of(replace(ONE, **other)).number


def test_who_asks_the_same_has_the_same_ask_whoever_it_is() -> None:
    asks = Asks(POOL)
    twin = replace(ONE, uid="two", priority=ONE.priority + 1, queue="another")
    assert asks.of(ONE) is asks.of(twin) is asks.of(ONE)


def test_needs_of_all_roles_are_added_up_by_model() -> None:
    roles = (role(2, name="many", count=2), role(3, name="few", min_replicas=1, models=("H100",)))
    ask = Asks(POOL).of(replace(ONE, roles=roles))
    assert ask.roles == (((A100, 4000), (H100, 4000)), ((H100, 1000),))
    assert ask.needs == {A100: 4000, H100: 5000}
    assert [(amount, one.models) for amount, one in ask.together] == [(4000, (A100,)), (5000, (H100,))]


def test_models_of_which_as_much_is_needed_are_looked_at_together() -> None:
    asks = Asks(POOL)
    [(amount, both)] = asks.of(ONE).together
    assert (amount, both.models) == (2000, (A100, H100))
    [(_, again)] = asks.of(replace(ONE, roles=(role(1),))).together
    assert again is both


def test_a_share_takes_a_part_of_a_device_and_never_more_than_one() -> None:
    asks = Asks(POOL)
    half = asks.of(replace(ONE, roles=(role(2, share_millis=500),)))
    assert half.needs == {A100: 1000, H100: 1000}
