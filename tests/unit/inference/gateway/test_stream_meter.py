"""What a client sees of an engine's stream, and what is counted, however the network cuts the bytes."""

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import ComputilityError, EngineFailed, InvalidInput
from inference.core.engine_errors import error_in_stream
from inference.core.sse import DONE_EVENT, EventSplitter, StreamMeter, UsageShown, without_comments
from inference.core.usage import TokenCounts, find_usage, without_member

TRICKY = 'she said "usage":{"prompt_tokens":9} and \\"usage\\":{ } \u00e9 \n\n "choices":[] done'


def event(index: int, text: str, prompt: int, completion: int, **extra: Any) -> bytes:
    usage = {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}
    choice = {"index": index, "delta": {"content": text}, "finish_reason": None}
    chunk = {"id": "chatcmpl-1", "model": "tiny", "choices": [choice], "usage": {**usage, **extra}}
    return f"data: {json.dumps(chunk, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()


def last_event(prompt: int, cached: int, completion: int) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    usage_details = {**usage, "prompt_tokens_details": {"cached_tokens": cached}}
    chunk = {
        "id": "chatcmpl-1",
        "model": "tiny",
        "choices": [],
        "usage": usage_details,
        "system_fingerprint": "f",
    }
    return f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n".encode()


STREAM = (
    event(0, "", 9, 0, completion_tokens_details=None)
    + event(0, TRICKY, 9, 1, completion_tokens_details={"reasoning_tokens": 1})
    + b": a comment\n\n"
    + event(0, " end", 9, 2)
    + last_event(9, 4, 2)
    + DONE_EVENT
)


def json_of(stream: bytes) -> list[Any]:
    return [json.loads(part[6:]) for part in stream.split(b"\n\n") if part.startswith(b"data: {")]


@given(
    cuts=st.lists(st.integers(0, len(STREAM)), max_size=12), shown=st.sampled_from(["none", "final", "all"])
)
def test_cuts_change_neither_bytes_nor_counts(cuts: list[int], shown: UsageShown) -> None:
    whole = StreamMeter(shown)
    expected = whole.feed(STREAM)
    meter, edges = StreamMeter(shown), [0, *sorted(cuts), len(STREAM)]
    got = b"".join(meter.feed(STREAM[a:b]) for a, b in pairwise(edges))
    assert got == expected
    assert meter.counts == whole.counts == TokenCounts(prompt=9, cached=4, completion=2)
    assert meter.finished


def test_usage_is_taken_out_and_all_other_bytes_stay() -> None:
    got = StreamMeter("none").feed(STREAM)
    chunks = json_of(got)
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["", TRICKY, " end"]
    assert all("usage" not in chunk for chunk in chunks)
    assert b": a comment\n\n" in got
    assert DONE_EVENT not in got, "the end is the caller's to send, once the usage is durable"


def test_a_client_that_asked_for_the_total_gets_null_before_it() -> None:
    *chunks, last = json_of(StreamMeter("final").feed(STREAM))
    assert [chunk["usage"] for chunk in chunks] == [None] * 3
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}


def test_a_client_that_asked_for_running_usage_gets_the_bytes_untouched() -> None:
    assert StreamMeter("all").feed(STREAM) + DONE_EVENT == STREAM


def test_a_cut_off_stream_counts_the_last_of_every_choice_and_each_prompt_once() -> None:
    meter = StreamMeter("none", choices_per_prompt=2, prompts=2)
    for index, prompt, completion in ((0, 5, 1), (1, 5, 1), (0, 5, 2), (2, 7, 1), (3, 7, 3)):
        meter.feed(event(index, "x", prompt, completion))
    assert meter.counts == TokenCounts(prompt=12, completion=2 + 1 + 1 + 3)
    assert not meter.finished


def test_spaces_and_another_order_of_members_are_understood() -> None:
    meter = StreamMeter("none", choices_per_prompt=2)
    usage = b'{"completion_tokens": 3, "prompt_tokens": 2}'
    got = meter.feed(b'data: {"usage": ' + usage + b', "choices": [{"text": "a", "index": 1}]}\n\n')
    assert json_of(got) == [{"choices": [{"text": "a", "index": 1}]}]
    assert meter.counts == TokenCounts(prompt=2, completion=3)


def test_an_error_event_of_the_engine_is_kept_back_for_the_caller() -> None:
    meter = StreamMeter("none")
    error = b'{"error":{"message":"out of memory","code":500}}'
    assert meter.feed(b"data: " + error + b"\n\n" + DONE_EVENT) == b""
    assert meter.error == error


@pytest.mark.parametrize(
    ("event", "kind", "message"),
    [
        (None, EngineFailed, "the engine broke"),
        (b"{not json", EngineFailed, "the engine broke"),
        (
            b'{"error":{"message":"EngineCore: see the stack trace","code":500}}',
            EngineFailed,
            "the engine broke",
        ),
        (
            b'{"error":{"message":"bad pattern","param":"guided_regex","code":400}}',
            InvalidInput,
            "bad pattern",
        ),
    ],
)
def test_what_ended_a_stream_is_told_in_our_own_terms(
    event: bytes | None, kind: type[ComputilityError], message: str
) -> None:
    error = error_in_stream(event, "messages")
    assert type(error) is kind
    assert message in error.message


def test_the_engines_model_name_is_replaced_once_per_event() -> None:
    meter = StreamMeter("none", rename=(b'"model":"tiny"', b'"model":"mine"'))
    chunks = json_of(meter.feed(event(0, 'the "model":"tiny" text', 1, 1)))
    assert chunks[0]["model"] == "mine"
    assert chunks[0]["choices"][0]["delta"]["content"] == 'the "model":"tiny" text'


@given(text=st.text(), usage_first=st.booleans())
def test_no_text_is_ever_taken_for_the_usage_member(text: str, usage_first: bool) -> None:
    usage = {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    rest = {"choices": [{"message": {"content": text, "tool": json.dumps({"usage": {"prompt_tokens": 99}})}}]}
    content = json.dumps({**usage, **rest} if usage_first else {**rest, **usage}).encode()
    member = find_usage(content)
    assert member is not None
    assert member.counts == TokenCounts(prompt=3, completion=4)
    assert json.loads(without_member(content, member)) == rest


@pytest.mark.parametrize(
    "content", [b"{}", b'{"usage":null}', b'{"usage":{"prompt_tokens":', b'{"usage":{x}}']
)
def test_an_answer_without_usage_has_none(content: bytes) -> None:
    assert find_usage(content) is None


@given(parts=st.lists(st.sampled_from([b"", b"\n", b"\n\n", b"a", b"data: x", b": c\n"]), max_size=20))
def test_events_are_cut_alike_however_the_bytes_come(parts: list[bytes]) -> None:
    whole, splitter = b"".join(parts), EventSplitter()
    *expected, _rest = whole.split(b"\n\n")
    assert [event for part in parts for event in splitter.feed(part)] == [e + b"\n\n" for e in expected]


def test_a_long_event_takes_time_in_proportion_to_its_length() -> None:
    part, splitter = b"x" * 16 * 1024, EventSplitter(limit_bytes=2**30)
    began = time.process_time()
    for _ in range(2048):
        assert splitter.feed(part) == []
    assert len(splitter.feed(b"\n\n")[0]) == 32 * 1024**2 + 2
    assert time.process_time() - began < 2, "a copy for each part would take more than ten seconds"


def test_an_event_without_end_ends_the_stream() -> None:
    splitter = EventSplitter(limit_bytes=1000)
    assert splitter.feed(b"x" * 900) == []
    with pytest.raises(EngineFailed, match="more than 1000 bytes"):
        splitter.feed(b"x" * 101)


@pytest.mark.parametrize(
    ("data", "comments", "rest"),
    [
        (b": keep-alive\n\n", b": keep-alive\n\n", b""),
        (b": a\n\n: b\n\ndata: x\n\n", b": a\n\n: b\n\n", b"data: x\n\n"),
        (b": a\n: b", b": a\n", b": b"),
        (b"data: x\n\n: a\n\n", b"", b"data: x\n\n: a\n\n"),
        (b"", b"", b""),
    ],
)
def test_comments_before_an_answer_are_no_part_of_it(data: bytes, comments: bytes, rest: bytes) -> None:
    assert without_comments(data) == (comments, rest)


def test_what_is_not_counted_yet_is_kept_back() -> None:
    bare = b'data: {"choices":[{"index":0,"delta":{"content":"free"}}]}\n\n'
    meter = StreamMeter("none")
    assert meter.feed(bare) == b""
    assert not meter.told
    got = meter.feed(event(0, " paid", 3, 2))
    assert [chunk["choices"][0]["delta"]["content"] for chunk in json_of(got)] == ["free", " paid"]
    assert meter.counts == TokenCounts(3, 0, 2)


@settings(max_examples=300)
@given(
    data=st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from(
                [
                    b'data: {"usage":{',
                    b'"choices":[]',
                    b'"choices":[{"index":99999999999999999999}]',
                    b'"choices":5,',
                    b'"usage":{"prompt_tokens":1e999}',
                    b'"usage":{"completion_tokens":' + b"9" * 5000 + b"}",
                    b'{"a":' * 2000,
                    b"}" * 2000,
                    b"\n\n",
                ]
            ),
        ),
        max_size=12,
    ),
    shown=st.sampled_from(["none", "final", "all"]),
    choices=st.integers(1, 3),
)
def test_no_bytes_of_an_engine_raise_anything(data: list[bytes], shown: UsageShown, choices: int) -> None:
    meter = StreamMeter(shown, choices_per_prompt=choices)
    for part in data:
        meter.feed(part)
    assert meter.counts.prompt >= 0
