"""Which side has a request: by weight, the same again, and to the canary only as its weight grows."""

from hypothesis import given
from hypothesis import strategies as st

from inference.core.canary.split import side_of

SECRET = b"secret"
UNITS = st.text(max_size=30)
WEIGHTS = st.floats(0, 100)


@given(UNITS, UNITS, WEIGHTS, WEIGHTS)
def test_as_the_weight_grows_units_go_to_the_canary_only(
    salt: str, unit: str, one: float, two: float
) -> None:
    less, more = sorted((one, two))
    if side_of(SECRET, salt, unit, less) == "canary":
        assert side_of(SECRET, salt, unit, more) == "canary"


@given(UNITS, UNITS, WEIGHTS)
def test_a_unit_is_always_on_the_same_side(salt: str, unit: str, weight: float) -> None:
    assert len({side_of(SECRET, salt, unit, weight) for _ in range(3)}) == 1


@given(UNITS, UNITS)
def test_none_and_all(salt: str, unit: str) -> None:
    assert side_of(SECRET, salt, unit, 0) == "stable"
    assert side_of(SECRET, salt, unit, 100) == "canary"


def test_shares_are_as_the_weight_says_and_others_for_another_salt_or_secret() -> None:
    units = [f"session acme {number}" for number in range(20_000)]
    for weight in (1, 10, 50, 90):
        mine = {unit for unit in units if side_of(SECRET, "a", unit, weight) == "canary"}
        assert abs(len(mine) / len(units) - weight / 100) < 0.01
        for secret, salt in ((SECRET, "b"), (b"other", "a")):
            others = {unit for unit in units if side_of(secret, salt, unit, weight) == "canary"}
            both = len(mine & others) / len(units)
            assert abs(both - (weight / 100) ** 2) < 0.01
