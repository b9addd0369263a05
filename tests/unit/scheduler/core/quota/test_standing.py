"""On which model a workload's queue stands best: where it borrows the least, then where it uses the least."""

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scheduler.core.quota.standing import NOTHING, _best, _each_once, share_after, standing_of

A, B, C = ("nvidia", "A"), ("nvidia", "B"), ("nvidia", "C")


class Scene:
    """A queue that uses ``used`` of models with ``heights`` (from how high it would borrow one device or
    more), each of ten devices and with accounts of its own."""

    def __init__(self, heights: dict[Any, int], used: dict[Any, int], dominant: float = 0.0) -> None:
        self.asked: list[tuple[Any, int]] = []
        self.grants = {model: self.grant(model, height) for model, height in heights.items()}
        self.member = cast(
            Any,
            SimpleNamespace(
                used=used, dominant=dominant, share=dominant, recent=0.0, view=SimpleNamespace(weight=1)
            ),
        )
        self.tree = cast(
            Any,
            SimpleNamespace(
                grants_of=lambda _: self.grants,
                grant_of=self.made,
                capacities={A: 10_000, B: 10_000},
            ),
        )

    def grant(self, model: Any, height: int, own: Any = None, capacity: int = 10_000) -> Any:
        def borrows(millis: int) -> int:
            self.asked.append((model, millis))
            return height if millis <= 1000 else height + 1

        return SimpleNamespace(own=(model,) if own is None else own, borrows=borrows, capacity=capacity)

    def made(self, _: Any, model: Any) -> Any:
        return self.grant(model, 0)

    def best(self, *alternatives: tuple[Any, int]) -> Any:
        return _best(self.tree, self.member, alternatives)


@pytest.mark.parametrize(
    ("heights", "used", "dominant", "best"),
    [
        ((1, 0), (0, 8000), 0.0, B),
        ((0, 1), (8000, 0), 0.0, A),
        ((2, 1), (0, 8000), 9.0, B),
        ((1, 1), (5000, 2000), 0.0, B),
        ((1, 1), (2000, 5000), 0.0, A),
        ((1, 1), (2000, 2000), 0.0, A),
        ((0, 0), (5000, 2000), 0.0, B),
        ((0, 0), (5000, 2000), 0.6, A),
        ((0, 0), (5000, 2000), 0.59, B),
        ((1, 0), (0, 2000), 1.0, B),
    ],
)
def test_it_borrows_least_then_uses_least_and_more_than_enough_is_not_looked_for(
    heights: tuple[int, int], used: tuple[int, int], dominant: float, best: Any
) -> None:
    scene = Scene(dict(zip((A, B), heights, strict=True)), dict(zip((A, B), used, strict=True)), dominant)
    height, part, model, millis = scene.best((A, 1000), (B, 1000))
    assert (model, millis) == (best, 1000)
    chosen = (A, B).index(best)
    assert (height, part) == (heights[chosen], (used[chosen] + 1000) / 10_000)


def test_models_of_the_same_accounts_are_asked_about_once_for_each_amount() -> None:
    scene, same = Scene({}, {}), ("accounts",)
    scene.grants = {model: scene.grant(model, 1, same) for model in (A, B, C)}
    scene.member.used = {A: 900, B: 800}
    assert scene.best((A, 1000), (B, 1000), (C, 2000)) == (1, 0.18, B, 1000)
    assert scene.asked == [(A, 1000), (C, 2000)]
    assert scene.best((C, 2000), (A, 1000))[2] == A, "the smaller amount is borrowed from lower"


def test_a_model_without_capacity_takes_no_part_and_one_without_a_grant_is_given_one() -> None:
    scene = Scene({}, {A: 500, B: 500})
    scene.grants = {A: scene.grant(A, 0, capacity=0)}
    assert scene.best((A, 1000)) == (0, 0.0, A, 1000)
    assert scene.best((B, 1000)) == (0, 0.15, B, 1000)
    assert scene.best() is None


def test_each_role_is_on_its_best_model_and_the_highest_loan_counts() -> None:
    scene = Scene({A: 0, B: 2, C: 1}, {A: 4000}, 0.4)
    one = standing_of(scene.tree, scene.member, [[(B, 1000), (C, 1000)]])
    assert one == (1, ((C, 1000),), 0.4), "what it uses most of decides"
    assert standing_of(scene.tree, scene.member, [[(A, 2000)]]) == (1, ((A, 2000),), 0.6)
    both = [[(A, 1000)], [(B, 500)], [(A, 1000)]]
    assert standing_of(scene.tree, scene.member, both) == (2, ((A, 2000), (B, 500)), 0.6)
    assert standing_of(scene.tree, scene.member, [[], []]) == (0, (), 0.4)
    assert standing_of(scene.tree, scene.member, [[], [(A, 1000)]]) == (0, ((A, 1000),), 0.5)


def test_a_share_counts_what_was_used_of_late_and_the_weight() -> None:
    scene = Scene({A: 0, B: 0}, {A: 4000}, 0.4)
    scene.member.recent, scene.member.view.weight = 0.2, 2
    for roles in ([[(A, 1000)]], [[(A, 500)], [(A, 500)]]):
        assert standing_of(scene.tree, scene.member, roles)[2] == (0.5 + 0.2) / 2
    assert share_after(scene.tree, scene.member, [(B, 1000)]) == (0.4 + 0.2) / 2
    assert share_after(scene.tree, scene.member, [(C, 90_000)]) == (0.4 + 0.2) / 2, "the pool has none"
    scene.member.share = math.inf
    assert share_after(scene.tree, scene.member, []) == NOTHING[2] == math.inf


def test_what_several_roles_take_of_a_model_is_added_up() -> None:
    assert _each_once([(A, 1000), (B, 500), (A, 250)]) == ((A, 1250), (B, 500))
