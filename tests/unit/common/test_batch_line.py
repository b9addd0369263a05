"""Lines of batches are asked for by the platform alone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.batch_line import (
    USAGE_HEADER,
    VALID_MS,
    LineTold,
    event_id,
    line_told,
    signed_line,
    tell_usage,
    told_id,
)
from common.errors import Unauthenticated

TOKEN = "t" * 32
LINE = LineTold("use-1", "ab" * 32)


def test_what_is_signed_is_told() -> None:
    value = signed_line(TOKEN, LINE, 1000)
    assert line_told(TOKEN, value, 1000) == LINE
    assert line_told(TOKEN, value, 1000 + VALID_MS) == LINE
    with pytest.raises(Unauthenticated):
        line_told(TOKEN, value, 1001 + VALID_MS)


@pytest.mark.parametrize("token", ["", "u" * 32])
def test_another_token_signs_nothing(token: str) -> None:
    with pytest.raises(Unauthenticated):
        line_told(token, signed_line(TOKEN, LINE, 1000), 1000)
    with pytest.raises(Unauthenticated):
        line_told(token, signed_line("", LINE, 1000), 1000)


def test_each_usage_event_of_a_line_has_an_id_of_its_own_which_is_always_the_same() -> None:
    head: dict[bytes, bytes] = {}
    for number in (1, 2, 3):
        told = told_id(LINE, head)
        assert told == event_id(LINE.id, number)
        tell_usage(head, json.dumps({"id": told}))
    assert [one["id"] for one in json.loads(head[USAGE_HEADER.encode()])] == ["use-1", "use-1-2", "use-1-3"]


@given(st.text(max_size=200))
def test_whatever_a_stranger_says_is_no_line(value: str) -> None:
    with pytest.raises(Unauthenticated):
        line_told(TOKEN, value, 0)


@given(st.integers(0, 80), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_line_that_was_changed_is_none(place: int, other: str) -> None:
    value = signed_line(TOKEN, LINE, 1000)
    changed = value[:place] + other + value[place + 1 :]
    if changed != value:
        with pytest.raises(Unauthenticated):
            line_told(TOKEN, changed, 1000)
