"""Which option is advised: the cheapest, and nothing more complicated than it has to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.core.performance.choice import WORTH, choose
from inference.core.performance.device_figures import Layout
from inference.core.performance.options import Leg, Mode, Option
from inference.core.performance.serving import Point, Traffic
from tests.fixtures.performance_scene import supply


def option(mode: Mode, rate: float, price: int | None = None, load: float | None = None) -> Option:
    """Eight devices that serve so many requests per second."""
    devices = supply("H200-SXM", 8, price=price)
    legs = [Leg("serve", devices, Layout(1), 8, Point(1, 10.0, 5.0, rate / 8, "roofline"))]
    if mode == "disaggregated":
        read = Point(1, 10.0, 0.0, rate / 4 / 0.9, "roofline")
        write = Point(1, 0.0, 5.0, rate / 4 / 0.92, "roofline")
        legs = [
            Leg("prefill", devices, Layout(1), 4, read),
            Leg("decode", devices, Layout(1), 4, write),
        ]
    return Option(mode, tuple(legs), Traffic(100, 10, load))


@pytest.mark.parametrize(
    ("gain", "taken"),
    [
        (0.0, "replicated"),
        (WORTH - 0.01, "replicated"),
        (WORTH + 0.01, "disaggregated"),
        (-0.5, "replicated"),
    ],
)
@pytest.mark.parametrize("price", [None, 10**9])
def test_prefill_and_decode_are_parted_only_where_it_is_worth_it(
    gain: float, taken: str, price: int | None
) -> None:
    choice = choose([option("disaggregated", 10 * (1 + gain), price), option("replicated", 10.0, price)])
    assert choice.taken is not None
    assert choice.options[choice.taken].mode == taken
    if 0 < gain < WORTH:
        assert "fewer parts" in choice.reasons[0]
    assert "tokens/s/device against" in choice.reasons[-1]


def test_no_options_are_no_choice() -> None:
    choice = choose([])
    assert (choice.taken, choice.options) == (None, ())
    assert "no devices" in choice.reasons[0]


MODES = st.sampled_from(("single", "replicated", "disaggregated"))
OPTIONS = st.builds(option, MODES, st.floats(0.1, 100), st.none() | st.integers(0, 10**10))


@given(st.lists(OPTIONS, min_size=1, max_size=6))
def test_the_choice_does_not_depend_on_the_order_and_costs_no_more_than_is_worth_it(
    options: list[Option],
) -> None:
    choice = choose(options)
    assert choice.taken is not None
    taken = choice.options[choice.taken]
    again = choose(options[::-1])
    assert again.taken is not None
    mirrored = again.options[again.taken]
    costs = [one.microcredits_per_million_output_tokens for one in options]
    if None in costs:
        best = max(one.tokens_per_second_per_device for one in options)
        assert taken.tokens_per_second_per_device * (1 + WORTH) >= best * (1 - 1e-9)
        assert mirrored.tokens_per_second_per_device == taken.tokens_per_second_per_device
    else:
        mine = taken.microcredits_per_million_output_tokens
        assert mine is not None
        assert mine <= min(cost for cost in costs if cost is not None) * (1 + WORTH) + 1
        assert mirrored.microcredits_per_million_output_tokens == mine
