"""Anthropic's API, as those who serve external models speak it."""

import contextlib
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import EngineFailed
from inference.core.apis.events import EVENTS, RUNNING_USAGE, EventMeter
from inference.core.one_door.foreign_messages import ForeignMessages, foreign_message
from inference.core.usage import TokenCounts, find_last_usage

BEGUN = {"input_tokens": 25, "cache_read_input_tokens": 5, "output_tokens": 1}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def event(kind: str, **content: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **content})}\n\n".encode()


def start(usage: Any = BEGUN) -> bytes:
    message = {"id": "msg", "role": "assistant", "content": [], "model": "claude-2026", "usage": usage}
    return event("message_start", message=message)


def piece(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def end(usage: Any) -> bytes:
    told = {} if usage is None else {"usage": usage}
    return event("message_delta", delta={"stop_reason": "end_turn"}, **told) + event("message_stop")


def metered(parts: list[bytes], estimates: bool = True) -> tuple[bytes, EventMeter, ForeignMessages]:
    events = ForeignMessages("m", 7, estimates)
    meter = EventMeter(EVENTS["messages"], (b'"model":"m"', b'"model":"c"'))
    given_ = b"".join(meter.feed(events.feed(part)) for part in parts)
    return given_ + meter.feed(events.end()) + meter.ending(None), meter, events


STREAM = start() + event("ping") + piece("one ") + piece("two") + end({"output_tokens": 15})


@given(st.lists(st.integers(0, len(STREAM)), max_size=6), st.booleans())
def test_however_a_stream_is_cut_its_prompt_is_billed_too(cuts: list[int], carriage: bool) -> None:
    stream = STREAM.replace(b"\n", b"\r\n") if carriage else STREAM
    edges = [0, *sorted(cuts), len(stream)]
    given_, meter, events = metered([stream[a:b] for a, b in itertools.pairwise(edges)])
    assert meter.counts == TokenCounts(30, 5, 15)
    assert (meter.finished, meter.total_told, events.told) == (True, True, True)
    assert RUNNING_USAGE.encode() not in given_
    assert given_.count(b'"model":"c"') == 1


@pytest.mark.parametrize(("usage", "prompt"), [(BEGUN, 30), (None, 7), ({"input_tokens": -1}, 7)])
def test_what_breaks_off_is_counted_by_its_length(usage: Any, prompt: int) -> None:
    _, meter, events = metered([start(usage), piece("12345678"), piece("9")])
    assert meter.counts == TokenCounts(prompt, 0, 3)
    assert (meter.finished, events.told) == (False, False)


@pytest.mark.parametrize("usage", [None, {"output_tokens": -3}, {"output_tokens": "9"}, []])
def test_an_end_without_usage_is_estimated_or_an_error(usage: Any) -> None:
    stream = [start(), piece("12345678"), end(usage)]
    _, meter, _ = metered(stream)
    assert (meter.finished, meter.total_told) == (True, True)
    assert (meter.counts.prompt, meter.counts.completion) == (30, 2)
    _, meter, _ = metered(stream, estimates=False)
    assert meter.error is not None
    assert not meter.finished


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_are_read_or_refused(parts: list[bytes]) -> None:
    with contextlib.suppress(EngineFailed):
        _, meter, _ = metered([start(), *(b"data: " + part + b"\n\n" for part in parts)])
        assert meter.counts.prompt >= 0
        assert meter.counts.completion >= 0


@given(st.sampled_from(["message_start", "message_delta", "content_block_start", "x\ny"]), JSON, JSON)
def test_any_values_are_read_or_refused(kind: str, value: Any, usage: Any) -> None:
    content = {"type": kind, "message": value, "delta": value, "content_block": value, "usage": usage}
    given_, meter, _ = metered([start(), b"data: " + json.dumps(content).encode() + b"\n\n", piece("x")])
    assert meter.counts.completion >= 0
    assert b"event: x\n" not in given_


@pytest.mark.parametrize(
    ("usage", "prompt", "counts"),
    [
        (BEGUN, None, TokenCounts(30, 5, 1)),
        (None, None, None),
        (None, 7, TokenCounts(7, 0, 12)),
        ({"input_tokens": 3, "output_tokens": -1}, None, None),
    ],
)
def test_nothing_that_a_model_wrote_is_taken_for_usage(
    usage: Any, prompt: int | None, counts: TokenCounts | None
) -> None:
    call = {"type": "tool_use", "input": {"usage": {"input_tokens": 0, "output_tokens": 0}}}
    told = {"usage": usage, "model": "claude", "content": [call]}
    made, is_told = foreign_message(json.dumps(told).encode(), "m", prompt)
    found = find_last_usage(made)
    assert (found.counts if found is not None else None) == counts
    assert is_told == (usage is BEGUN)
    assert json.loads(made)["model"] == "m"


def test_no_text_comes_where_no_guard_looks_for_it() -> None:
    message = {"id": "msg", "role": "assistant", "content": ["secret"], "usage": BEGUN, "note": "secret"}
    odd = [
        event("message_start", message=message, note="secret"),
        event("secret", text="secret"),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x"}, note="secret"),
        event("message_delta", delta={}, usage={"output_tokens": 1}, note="secret"),
    ]
    assert b"secret" not in metered(odd)[0]
    whole = {"content": [{"type": "text", "text": "x"}], "usage": BEGUN, "note": "secret"}
    assert b"secret" not in foreign_message(json.dumps(whole).encode(), "m", None)[0]


def test_usage_beyond_what_can_be_is_none() -> None:
    events, meter = ForeignMessages("m", 7, True, most=1000), EventMeter(EVENTS["messages"])
    much = {"input_tokens": 10**9}
    meter.feed(events.feed(start(much) + piece("12345678") + end({"output_tokens": 10**9})))
    assert meter.counts == TokenCounts(7, 0, 2)
    whole = {"content": [], "usage": {**much, "output_tokens": 1}}
    assert find_last_usage(foreign_message(json.dumps(whole).encode(), "m", None, 1000)[0]) is None
