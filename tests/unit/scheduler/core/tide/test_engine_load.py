"""How full engines are."""

import pytest

from scheduler.core.tide.engine_load import fullness


def test_an_engine_is_as_full_as_the_scarcer_of_its_two_limits() -> None:
    assert fullness(8, 0.09, 32, 0.9) == pytest.approx(0.25)
    assert fullness(8, 0.45, 32, 0.9) == pytest.approx(0.5)
    assert fullness(0, 0.0, 32, 0.9) == 0.0


def test_a_long_queue_does_not_ask_for_the_whole_pool() -> None:
    assert fullness(5000, 1.0, 32, 0.9) == 2.0
