"""What serves a load: known answers, and what holds in any world."""

from dataclasses import replace
from itertools import product
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.adapters.aiconfigurator import MeasuredKernels, installed
from inference.core.performance.choice import Choice, choose
from inference.core.performance.memory import most_sequences
from inference.core.performance.options import Option, Refusal, Slo
from inference.core.performance.roofline import Roofline
from inference.core.performance.serving import Traffic
from inference.core.performance.sizing import Sizing
from inference.core.performance.steps import Engine, PerformanceSource
from inference.core.performance.supply import Supply, hold_both
from scheduler.catalogue import load_catalogue
from tests.fixtures.performance_scene import LLAMA_8B, QWEN_32B, configs, shape, supply

LONG, CHAT = Traffic(4000, 500), Traffic(4000, 1000)
TIGHT, USUAL = Slo(1000, 20), Slo(2000, 30)
with_extra = pytest.mark.skipif(not installed(), reason="the extra `performance` is not installed")


def sized(
    model: str, supplies: list[Supply], traffic: Traffic, slo: Slo, *, kernels: bool = False
) -> tuple[Choice, list[Refusal]]:
    sources: list[PerformanceSource] = [Roofline()]
    if kernels:
        sources.insert(0, MeasuredKernels(configs()[model]))
    options, refusals = Sizing(shape(model), supplies, sources, traffic, slo).options()
    return choose(options), refusals


def best(choice: Choice, disaggregated: bool) -> Option:
    return next(one for one in choice.options if (one.mode == "disaggregated") is disaggregated)


@pytest.mark.parametrize(
    ("kernels", "error"),
    [(False, 0.15), pytest.param(True, 0.1, marks=with_extra)],
    ids=["roofline", "kernels"],
)
def test_prefill_apart_is_taken_where_tokens_have_to_come_fast(kernels: bool, error: float) -> None:
    """Qwen3-32B on 16 H200: aiconfigurator 0.12 says 520.4 against 438.0 tokens/s/device."""
    choice, _ = sized(QWEN_32B, [supply("H200-SXM", 8, 8)], LONG, TIGHT, kernels=kernels)
    assert choice.taken is not None
    assert choice.options[choice.taken].mode == "disaggregated"
    assert best(choice, True).tokens_per_second_per_device == pytest.approx(520.4, rel=error)
    assert best(choice, False).tokens_per_second_per_device == pytest.approx(438.0, rel=error)


@pytest.mark.parametrize(
    ("kernels", "error"),
    [(False, 0.15), pytest.param(True, 0.1, marks=with_extra)],
    ids=["roofline", "kernels"],
)
def test_replicas_are_taken_where_decoding_apart_wastes_devices(kernels: bool, error: float) -> None:
    """Llama-3.1-8B with prefill on H100, decode on A100: aiconfigurator 0.12 says 994 against 2,792 on
    H100 alone."""
    alone, _ = sized(LLAMA_8B, [supply("H100-SXM", 8)], CHAT, USUAL, kernels=kernels)
    assert alone.taken is not None
    assert alone.options[alone.taken].mode in ("single", "replicated")
    assert best(alone, False).tokens_per_second_per_device == pytest.approx(2792.5, rel=error)
    pool = [supply("H100-SXM", 2), supply("A100-SXM4-80GB", 6)]
    mixed, _ = sized(LLAMA_8B, pool, CHAT, USUAL, kernels=kernels)
    assert mixed.taken is not None
    assert mixed.options[mixed.taken].mode != "disaggregated"
    if kernels:
        parted = next(
            one
            for one in mixed.options
            if [leg.supply.figures.name for leg in one.legs] == ["H100-SXM", "A100-SXM4-80GB"]
        )
        assert parted.served * 1000 / 8 == pytest.approx(994, rel=error)


def test_a_load_is_served_by_as_few_devices_as_it_needs() -> None:
    pool = [supply("H200-SXM", 8, 8)]
    small, _ = sized(QWEN_32B, pool, Traffic(4000, 500, 0.5), TIGHT)
    large, _ = sized(QWEN_32B, pool, Traffic(4000, 500, 10.0), TIGHT)
    assert small.taken is not None
    assert large.taken is not None
    assert small.options[small.taken].devices < large.options[large.taken].devices <= 16
    assert all(one.capacity >= 10.0 for one in large.options)
    nothing, refused = sized(QWEN_32B, pool, Traffic(4000, 500, 1000.0), TIGHT)
    assert nothing.taken is None
    assert "there is room for" in refused[0].why


def test_prices_decide_where_all_are_known() -> None:
    def taken(h200: int, a100: int | None) -> str:
        pool = [supply("H200-SXM", 8, price=h200), supply("A100-SXM4-80GB", 8, price=a100)]
        choice, _ = sized(LLAMA_8B, pool, Traffic(2000, 200, 5.0), USUAL)
        assert choice.taken is not None
        option = choice.options[choice.taken]
        if a100 is not None:
            assert "costs least" in choice.reasons[0]
            cost = option.devices * (h200 if "H200" in option.legs[0].supply.device_class else a100)
            assert option.microcredits_per_million_output_tokens == round(cost / (5.0 * 200))
        else:
            assert "prices of device time are not known" in choice.reasons[0]
        return option.legs[0].supply.figures.name

    assert taken(900, 100) == "A100-SXM4-80GB"
    assert taken(100, 900) == "H200-SXM"
    assert taken(100, None) == "H200-SXM"


def test_each_class_of_devices_says_why_it_does_not_do() -> None:
    pool = [supply("T4", 4), supply("A10", 1), supply("L40S", 8)]
    choice, refused = sized(QWEN_32B, pool, LONG, Slo(None, 1.0))
    assert choice.taken is None
    why = {one.device_class: one.why for one in refused if one.mode == "replicated"}
    assert "weights" in why["nvidia/T4"]
    assert "do not fit" in why["nvidia/A10"]
    assert "between tokens > 1.0 ms" in why["nvidia/L40S"]


def test_caches_are_not_handed_to_another_vendor() -> None:
    pool = [supply("H100-SXM", 8), supply("MI300X", 8, vendor="amd")]
    choice, _ = sized(LLAMA_8B, pool, CHAT, USUAL)
    for option in choice.options:
        assert len({leg.supply.vendor for leg in option.legs}) == 1


@settings(max_examples=60)
@given(
    model=st.sampled_from(sorted(configs())),
    names=st.lists(st.sampled_from(("H100-SXM", "A100-SXM4-80GB", "L40S", "T4")), unique=True, max_size=3),
    nodes=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    lengths=st.tuples(st.integers(1, 20_000), st.integers(1, 3000)),
    rate=st.none() | st.floats(0.01, 50),
    slo=st.tuples(st.none() | st.floats(50, 5000), st.none() | st.floats(5, 200)),
    price=st.none() | st.integers(0, 10**12),
)
def test_every_option_fits_its_devices_its_memory_and_its_slo(
    model: str,
    names: list[str],
    nodes: list[int],
    lengths: tuple[int, int],
    rate: float | None,
    slo: tuple[float | None, float | None],
    price: int | None,
) -> None:
    pool = [supply(name, *nodes, price=price) for name in names]
    traffic = Traffic(*lengths, rate)
    choice, refused = sized(model, pool, traffic, Slo(*slo))
    assert {one.device_class for one in refused} <= {one.device_class for one in pool}
    for option in choice.options:
        assert option.ttft_ms <= (slo[0] or float("inf"))
        assert option.itl_ms <= (slo[1] or float("inf"))
        assert rate is None or option.capacity >= rate * (1 - 1e-9)
        assert option.served > 0
        for leg in option.legs:
            engine = Engine(shape(model), leg.supply.figures, leg.layout)
            assert leg.point.batch <= most_sequences(engine, traffic.tokens)
            assert leg.layout.devices <= max(nodes)
        for one in pool:
            demands = [(leg.engines, leg.layout.devices) for leg in option.legs if leg.supply is one]
            assert hold_both(one.nodes, demands)
    if choice.options:
        assert choice.taken is not None
    elif any(sum(one.nodes) for one in pool):
        assert refused


@settings(max_examples=30)
@given(rate=st.floats(0.1, 20), more=st.integers(1, 3))
def test_a_larger_pool_never_serves_less(rate: float, more: int) -> None:
    def options(*nodes: int) -> tuple[Option, ...]:
        return sized(QWEN_32B, [supply("H200-SXM", *nodes)], Traffic(3000, 300, rate), USUAL)[0].options

    few, many = options(8), options(*[8] * (1 + more))
    assert len(many) >= len(few)
    if few:
        assert min(one.devices for one in many) <= min(one.devices for one in few)


def test_engines_of_both_legs_share_the_nodes() -> None:
    assert hold_both((8, 8), ((2, 4), (2, 4)))
    assert not hold_both((8, 6), ((2, 4), (2, 4)))
    assert hold_both((8, 6), ((1, 8), (3, 2)))


@given(
    st.lists(st.integers(0, 9), max_size=4),
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from((1, 2, 4, 8))), max_size=2),
)
def test_engines_are_held_where_they_can_be_placed_one_by_one(
    nodes: list[int], demands: list[tuple[int, int]]
) -> None:
    free, placed = sorted(nodes, reverse=True), True
    for engines, size in sorted(demands, key=lambda demand: -demand[1]):
        for _ in range(engines):
            room = next((at for at in range(len(free)) if free[at] >= size), None)
            if room is None:
                placed = False
                break
            free[room] -= size
    assert hold_both(nodes, demands) is placed


def test_a_plan_over_very_many_devices_is_not_slow() -> None:
    pool = [supply("H100-SXM", *[8] * 12_500), supply("A100-SXM4-80GB", *[8] * 12_500)]
    began = process_time()
    choice, _ = sized(LLAMA_8B, pool, CHAT, USUAL)
    assert process_time() - began < 5
    assert choice.taken is not None
    assert max(one.devices for one in choice.options) > 100_000 / 2


def test_the_largest_pool_that_anybody_names_is_sized_at_once() -> None:
    """Whoever may write an Endpoint may ask, and others wait meanwhile."""
    rows = [row.name for row in load_catalogue().specs if row.vendor == "nvidia"]
    pool = [supply(name, *[16] * 6250) for name in rows[:16]]
    began = process_time()
    choice, _ = sized(LLAMA_8B, pool, CHAT, Slo())
    assert choice.taken is not None
    assert process_time() - began < 4.0


@settings(max_examples=40)
@given(
    model=st.sampled_from((LLAMA_8B, QWEN_32B)),
    nodes=st.tuples(*[st.lists(st.integers(1, 8), min_size=1, max_size=2)] * 2),
    lengths=st.tuples(st.integers(1, 8000), st.integers(1, 2000)),
)
def test_no_other_numbers_of_engines_on_two_kinds_of_devices_serve_more(
    model: str, nodes: tuple[list[int], list[int]], lengths: tuple[int, int]
) -> None:
    pool = [supply("H100-SXM", *nodes[0]), supply("A100-PCIE-80GB", *nodes[1])]
    choice, _ = sized(model, pool, Traffic(*lengths), Slo())
    for option in choice.options:
        if option.mode == "disaggregated" and option.legs[0].supply is not option.legs[1].supply:
            rooms = [leg.supply.engines(leg.layout) for leg in option.legs]
            for counts in product(*(range(1, room + 1) for room in rooms)):
                legs = tuple(
                    replace(leg, engines=count) for leg, count in zip(option.legs, counts, strict=True)
                )
                other = Option(option.mode, legs, option.traffic)
                assert (round(other.capacity, 6), -other.devices) <= (
                    round(option.capacity, 6),
                    -option.devices,
                )
