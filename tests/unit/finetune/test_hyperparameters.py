from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInput
from finetune.core.hyperparameters import BASE_LEARNING_RATE, resolve


@pytest.mark.parametrize(
    ("examples", "epochs"),
    [
        (1, 25),
        (4, 25),
        (5, 20),
        (10, 10),
        (16, 7),
        (33, 4),
        (34, 3),
        (1000, 3),
        (8333, 3),
        (8334, 2),
        (30_000, 1),
    ],
)
def test_auto_epochs_keep_the_number_of_examples_seen_in_bounds(examples: int, epochs: int) -> None:
    assert resolve(examples).n_epochs == epochs


@given(st.integers(min_value=4, max_value=25_000))
def test_auto_epochs_show_at_least_100_and_at_most_25000_examples(examples: int) -> None:
    seen = examples * resolve(examples).n_epochs
    assert 100 <= seen <= 25_000


@given(st.integers(min_value=1, max_value=10**7))
def test_auto_batches_are_never_larger_than_the_data_and_bounded(examples: int) -> None:
    assert 1 <= resolve(examples).batch_size <= min(examples, 32)


def test_numbers_that_are_given_are_kept() -> None:
    chosen = resolve(20, n_epochs=20, batch_size=4, learning_rate_multiplier=15)
    assert (chosen.n_epochs, chosen.batch_size) == (20, 4)
    assert chosen.learning_rate == pytest.approx(15 * BASE_LEARNING_RATE)
    assert chosen.total_steps(20) == 100


def test_the_last_batch_of_an_epoch_counts_as_a_step() -> None:
    assert resolve(10, n_epochs=2, batch_size=4).total_steps(10) == 6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_epochs", 0),
        ("n_epochs", 51),
        ("n_epochs", True),
        ("n_epochs", 1.5),
        ("batch_size", 257),
        ("batch_size", "many"),
        ("learning_rate_multiplier", 0),
        ("learning_rate_multiplier", float("nan")),
        ("learning_rate_multiplier", float("inf")),
        ("learning_rate_multiplier", 1e-320),
        ("learning_rate_multiplier", 10**400),
        ("n_epochs", 10**400),
        ("batch_size", [4]),
        ("learning_rate_multiplier", "2"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolve(20, **{name: value})
    assert caught.value.param == f"hyperparameters.{name}"


def test_no_example_is_refused() -> None:
    with pytest.raises(InvalidInput):
        resolve(0)
