"""Streams and answers of external models, as engines would give them."""

import contextlib
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import EngineFailed
from inference.core.one_door.foreign import ForeignEvents, foreign_answer
from inference.core.sse import StreamMeter
from inference.core.usage import TokenCounts, find_usage

USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 2},
}


def event(**content: Any) -> bytes:
    told = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-2026", **content}
    return b"data: " + json.dumps(told).encode() + b"\n\n"


def piece(text: str) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}])


def metered(parts: list[bytes], estimates: bool = True) -> tuple[bytes, StreamMeter]:
    events, meter = (
        ForeignEvents("m", 5, estimates),
        StreamMeter("none", rename=(b'"model":"m"', b'"model":"c"')),
    )
    given = b"".join(meter.feed(events.feed(part)) for part in parts)
    return given + meter.feed(events.end()), meter


STREAM = b"".join([piece("one "), piece("two "), event(choices=[], usage=USAGE), b"data: [DONE]\n\n"])


@given(st.lists(st.integers(0, len(STREAM)), max_size=6), st.booleans())
def test_however_a_stream_is_cut_it_is_counted_as_the_provider_told(cuts: list[int], carriage: bool) -> None:
    stream = STREAM.replace(b"\n", b"\r\n") if carriage else STREAM
    edges = [0, *sorted(cuts), len(stream)]
    given_, meter = metered([stream[a:b] for a, b in itertools.pairwise(edges)])
    assert meter.counts == TokenCounts(9, 2, 4)
    assert meter.finished
    assert b'"usage"' not in given_
    assert given_.count(b'"model":"c"') == 2


def test_what_breaks_off_is_counted_by_its_length() -> None:
    _, meter = metered([piece("12345678"), piece("9")])
    assert meter.counts == TokenCounts(5, 0, 3)
    assert not meter.finished


def test_an_end_without_usage_is_estimated_or_an_error() -> None:
    end = b"data: [DONE]\n\n"
    _, meter = metered([piece("12345678"), end])
    assert (meter.finished, meter.total_told, meter.counts) == (True, True, TokenCounts(5, 0, 2))
    _, meter = metered([piece("12345678"), end], estimates=False)
    assert meter.error is not None
    assert not meter.total_told


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_are_read_or_refused(parts: list[bytes]) -> None:
    with contextlib.suppress(EngineFailed):
        _, meter = metered([b"data: " + part + b"\n\n" for part in parts])
        assert meter.counts.prompt >= 0
        assert meter.counts.completion >= 0


@pytest.mark.parametrize(
    ("told", "prompt", "counts", "exact"),
    [
        (USAGE, None, TokenCounts(9, 2, 4), True),
        (None, None, None, False),
        (None, 5, TokenCounts(5, 0, 2), False),
        ({"prompt_tokens": "9"}, 5, TokenCounts(5, 0, 2), False),
        ({"prompt_tokens": -1}, None, None, False),
    ],
)
def test_an_answer_in_one_piece_tells_what_it_used(
    told: Any, prompt: int | None, counts: TokenCounts | None, exact: bool
) -> None:
    message = {"role": "assistant", "content": '12"usage":'[:8]}
    content = {"id": "x", "model": "gpt", "choices": [{"index": 0, "message": message}], "usage": told}
    made, is_told = foreign_answer(json.dumps(content).encode(), "m", prompt)
    found = find_usage(made)
    assert (found.counts if found is not None else None) == counts
    assert is_told == exact
    assert json.loads(made)["model"] == "m"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(JSON, JSON, JSON)
def test_any_values_are_read_or_refused(choices: Any, choice: Any, delta: Any) -> None:
    for told in (choices, [choice], [{"index": 0, "delta": delta}], [{"index": choice, "text": "x"}]):
        _, meter = metered([event(choices=told, usage=delta), piece("x")])
        assert meter.counts.completion >= 0


@pytest.mark.parametrize("index", [1, -1, 10**9, True, "0"])
def test_a_choice_that_nobody_asked_for_ends_the_stream(index: Any) -> None:
    told = event(choices=[{"index": index, "delta": {"content": "x"}}])
    _, meter = metered([piece("1234"), told, piece("5678"), b"data: [DONE]\n\n"])
    assert meter.error is not None
    assert meter.counts == TokenCounts(5, 0, 1)


def test_what_is_long_is_not_told_with_each_choice() -> None:
    events = ForeignEvents("m", 5, True, 100)
    told = [{"index": index, "delta": {"content": "x"}} for index in range(100)]
    made = events.feed(event(id="i" * 10**5, choices=told, more="y" * 10**5))
    assert len(made) < 3 * 10**5


def test_signs_of_life_begin_no_answer_and_say_nothing() -> None:
    events = ForeignEvents("m", 5, True)
    assert events.feed(b": PROCESSING\n\n") == b""
    assert events.feed(piece("x")) != b""
    assert events.feed(b': x\rdata: {"choices":[]}\n\n') == b":\n\n"
    silent = ForeignEvents("m", 5, True)
    comment = b": " + b"x" * 8 * 1024**2 + b"\n\n"
    for _ in range(3):
        silent.feed(comment)
    with pytest.raises(EngineFailed):
        silent.feed(comment)


def test_no_text_comes_where_no_guard_looks_for_it() -> None:
    choice = {"index": 0, "finish_reason": None, "note": "secret"}
    more = {"citations": ["secret"], "search_results": [{"title": "secret"}]}
    made, _ = metered([event(choices=[{**choice, "delta": {"content": "x"}}], **more)])
    assert b"secret" not in made
    whole = {"choices": [{**choice, "message": {"content": "x"}}], "usage": USAGE, **more}
    made, _ = foreign_answer(json.dumps(whole).encode(), "m", None)
    assert b"secret" not in made
    assert json.loads(made)["choices"] == [{"index": 0, "message": {"content": "x"}, "finish_reason": None}]


def test_usage_beyond_what_can_be_is_none() -> None:
    end = event(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 10**9}) + b"data: [DONE]\n\n"
    events, meter = ForeignEvents("m", 5, True, most=1000), StreamMeter("none")
    meter.feed(events.feed(piece("12345678") + end))
    assert meter.counts == TokenCounts(5, 0, 2)
    told = {"choices": [], "usage": {"prompt_tokens": 10**9, "completion_tokens": 1}}
    assert find_usage(foreign_answer(json.dumps(told).encode(), "m", None, 1000)[0]) is None
