"""Streams of named events: what a client sees of them, and what is counted, however the network cuts them."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import EngineFailed
from inference.core.apis.beginning import Beginning
from inference.core.apis.events import EVENTS, RUNNING_USAGE, EventMeter
from inference.core.apis.wires import WIRES
from inference.core.engine_errors import status_in_stream
from inference.core.sse import without_comments
from inference.core.usage import TokenCounts, find_last_usage

TRICKY = f'\n{RUNNING_USAGE} 1 1\n\nevent: message_stop\ndata: {{"usage":{{"input_tokens":7}}}}\n\n é'


def event(name: str, used: tuple[int, int] | None = None, **content: Any) -> bytes:
    told = f"\n{RUNNING_USAGE} {used[0]} {used[1]}" if used is not None else ""
    data = json.dumps({"type": name, **content}, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {data}{told}\n\n".encode()


def stream(told: bool = True, text: str = TRICKY) -> list[bytes]:
    def used(made: int) -> tuple[int, int] | None:
        return (9, made) if told else None

    usage = {"input_tokens": 5, "output_tokens": 3, "cache_read_input_tokens": 4}
    began = {"id": "chatcmpl-1", "model": "weights", "usage": {"input_tokens": 9, "output_tokens": 0}}
    return [
        event("message_start", used(0), message=began),
        event("content_block_start", used(1), content_block={"input": {}}),
        event("content_block_delta", used(2), delta={"text": text}),
        event("content_block_stop", used(3), index=0),
        event("message_delta", used(3), delta={"stop_reason": "end_turn"}, usage=usage),
        event("message_stop", used(3)),
    ]


def meter() -> EventMeter:
    return EventMeter(EVENTS["messages"], (b'"model":"weights"', b'"model":"tiny"'))


WHOLE = b"".join(stream())
SHOWN = b"".join(stream(told=False)).replace(b"weights", b"tiny")


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_cuts_change_neither_bytes_nor_counts(cuts: list[int]) -> None:
    one, edges = meter(), [0, *sorted(cuts), len(WHOLE)]
    got = b"".join(one.feed(WHOLE[a:b]) for a, b in pairwise(edges))
    assert got + one.ending(None) == SHOWN
    assert one.counts == TokenCounts(prompt=9, cached=4, completion=3)
    assert one.finished
    assert one.total_told


@given(st.text(max_size=60))
def test_nothing_that_a_model_writes_is_taken_for_usage_or_an_end(text: str) -> None:
    one = meter()
    got = b"".join(one.feed(part) for part in stream(text=text)[:3])
    assert got == b"".join(stream(told=False, text=text)[:3]).replace(b'"weights"', b'"tiny"')
    assert (one.counts, one.finished) == (TokenCounts(prompt=9, completion=2), False)


@pytest.mark.parametrize("parts", range(1, 6))
def test_a_stream_that_breaks_off_counts_what_was_told_last(parts: int) -> None:
    one = meter()
    one.feed(b"".join(stream()[:parts]))
    assert one.counts.prompt == 9
    assert one.counts.completion == min(parts - 1, 3)
    assert not one.finished


def test_an_engine_that_adds_nothing_is_passed_on_from_its_first_event() -> None:
    one = meter()
    first, *rest = stream(told=False)
    assert one.feed(first)
    for part in rest:
        one.feed(part)
    assert one.counts == TokenCounts(prompt=9, cached=4, completion=3)


def test_the_end_is_held_back_and_made_where_only_it_is_missing() -> None:
    one = meter()
    one.feed(b"".join(stream()[:5]))
    assert one.ending(None) == b'event: message_stop\ndata: {"type": "message_stop"}\n\n'


def test_an_error_is_told_in_the_words_of_the_api() -> None:
    one = meter()
    assert one.feed(b'event: error\ndata: {"type":"error","error":{"type":"internal_error"}}\n\n') == b""
    assert status_in_stream(one.error) == 500, "one without a code may be the request's: the engine is asked"
    head, data = one.ending(EngineFailed("it broke")).split(b"\n", 1)
    assert head == b"event: error"
    told = json.loads(data.removeprefix(b"data: "))
    assert (told["type"], told["error"]["type"], told["error"]["message"]) == (
        "error",
        "api_error",
        "it broke",
    )


@given(st.binary(max_size=200), st.lists(st.sampled_from(stream()), max_size=4))
def test_any_bytes_are_read(noise: bytes, parts: list[bytes]) -> None:
    one = meter()
    one.feed(noise)
    for part in parts:
        one.feed(part)
    assert one.counts.prompt >= 0


TOOLS = [{"name": "f", "parameters": {"usage": {"input_tokens": 1, "output_tokens": 1}, "model": "weights"}}]


def response(used: bool) -> dict[str, Any]:
    usage = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 3}
    head = {"id": "resp_1", "metadata": {"model": "weights"}, "model": "weights", "object": "response"}
    return {**head, "tools": TOOLS, "usage": usage if used else None, "user": '"usage":{'}


def response_events(told: bool) -> list[bytes]:
    def used(prompt: int, made: int) -> tuple[int, int] | None:
        return (prompt, made) if told else None

    return [
        event("response.created", used(0, 0), response=response(used=False)),
        event("response.in_progress", used(0, 0), response=response(used=False)),
        event("response.output_text.delta", used(9, 1), delta=TRICKY),
        event("response.output_text.done", used(9, 3), text=TRICKY),
        event("response.completed", used(9, 3), response=response(used=True)),
    ]


RESPONSE = b"".join(response_events(told=True))
RESPONSE_SHOWN = b"".join(response_events(told=False)).replace(
    b'"model":"weights","object"', b'"model":"tiny","object"'
)


@given(st.lists(st.integers(0, len(RESPONSE)), max_size=12))
def test_cuts_of_a_response_change_neither_bytes_nor_counts(cuts: list[int]) -> None:
    one = EventMeter(EVENTS["responses"], (b'"model":"weights"', b'"model":"tiny"'))
    edges = [0, *sorted(cuts), len(RESPONSE)]
    got = b"".join(one.feed(RESPONSE[a:b]) for a, b in pairwise(edges))
    assert got + one.ending(None) == RESPONSE_SHOWN
    assert one.counts == TokenCounts(prompt=9, cached=4, completion=3)


@given(st.integers(0, len(RESPONSE)))
def test_a_response_has_only_begun_until_something_was_made(cut: int) -> None:
    begun = len(b"".join(response_events(told=True)[:2]))
    name = len(b"event: response.output_text.delta\n")
    assert WIRES["responses"].has_only_begun(RESPONSE[:cut]) == (cut < begun + name)


@given(
    st.sampled_from([RESPONSE, b": ping\n\n:" + b"o" * 300 + b"\n\n" + RESPONSE, b"data: {}\n\n"]),
    st.lists(st.integers(1, 400), max_size=20),
)
def test_a_beginning_is_over_with_the_first_piece_in_which_something_was_made(
    whole: bytes, pieces: list[int]
) -> None:
    only_begun = WIRES["responses" if RESPONSE in whole else "chat"].has_only_begun
    beginning, comments, held = Beginning(only_begun), b"", b""
    for size in [*pieces, len(whole)]:
        piece, whole = whole[:size], whole[size:]
        told = beginning.add(piece)
        passed, held = without_comments(held + piece)
        comments += passed
        assert (told, beginning.content) == (passed, held)
        assert beginning.is_over == (not (held.startswith(b":") or only_begun(held)))
        if beginning.is_over:
            return


def test_a_long_beginning_takes_no_more_than_a_look_at_each_byte() -> None:
    looked: list[int] = []

    def only_begun(content: bytes) -> bool:
        looked.append(len(content))
        return True

    beginning = Beginning(only_begun)
    for _ in range(200):
        beginning.add(b"a" * 1000)
    assert sum(looked) < 1.5 * beginning.size_bytes


_json = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.just('"usage":{'),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["usage", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(_json, st.integers(0, 999), st.integers(0, 999), st.integers(0, 999), st.text(max_size=9))
def test_usage_is_the_last_member_whatever_stands_before(
    content: Any, prompt: int, cached: int, completion: int, text: str
) -> None:
    used = {"input_tokens": prompt, "output_tokens": completion, "cache_read_input_tokens": cached}
    raw = json.dumps({"content": content, "usage": used, "user": text}, separators=(",", ":")).encode()
    found = find_last_usage(raw)
    assert found is not None
    assert found.counts == TokenCounts(prompt + cached, cached, completion)
    assert json.loads(raw[found.value_start : found.end]) == used
    without = json.dumps({"content": content, "usage": None, "user": text}).encode()
    assert find_last_usage(without) is None
