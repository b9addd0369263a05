"""The standard compute unit: exact, additive, and silent on nothing."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core.compute_units import Compute, ComputeUnits

TFLOPS = {"nvidia/A100": Fraction(312), "nvidia/H100": Fraction(989), "nvidia/T4": Fraction(0)}
UNITS = ComputeUnits("nvidia/A100", TFLOPS.get)


@pytest.mark.parametrize(
    ("used", "compute"),
    [
        ([], Compute()),
        ([("nvidia/A100", 3600)], Compute(1000)),
        ([("nvidia/H100", 3600)], Compute(3170)),
        ([("nvidia/H100", 1800), ("nvidia/A100", 1800)], Compute(2085)),
        ([("nvidia/T4", 60), ("amd/MI300X", 5), ("", 2)], Compute(0, 67)),
    ],
)
def test_card_hours_go_by_flops(used: list[tuple[str, int]], compute: Compute) -> None:
    assert UNITS.added(used) == compute


def test_without_a_figure_of_the_reference_nothing_is_counted() -> None:
    assert ComputeUnits("amd/MI300X", TFLOPS.get).added([("nvidia/A100", 3600)]) == Compute(0, 3600)


@given(st.lists(st.integers(0, 10**9), max_size=6))
def test_the_parts_of_a_time_are_the_whole(seconds: list[int]) -> None:
    parts = [UNITS.of("nvidia/H100", one) or Fraction(0) for one in seconds]
    assert sum(parts) == (UNITS.of("nvidia/H100", sum(seconds)) or 0)
