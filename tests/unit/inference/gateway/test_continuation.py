"""Wherever a stream breaks, what the client has and what comes from other engines is the unbroken answer."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import EngineFailed
from inference.core import delivered
from inference.core.body import parse_request
from inference.core.continuable import Continuable, continuable
from inference.core.continuation import continued_body
from inference.core.delivered import BreakPoint, Delivered
from inference.core.seam import Seam, missing_usage, told_with_role
from inference.core.sse import DONE_EVENT, StreamMeter
from inference.core.usage import TokenCounts

PROMPT = [7, 8, 9]
FIRST = 100
"""The id of the answer's first token."""


@dataclass(frozen=True)
class Model:
    """Answers with these bytes, token by token, to the end or to the stop string, as vLLM streams them."""

    pieces: tuple[bytes, ...]
    stop: str = ""
    shown: bool = False
    together: int = 1

    def events(self, body: dict[str, Any], task: str) -> Iterator[bytes]:
        """``together`` tokens in each event."""
        place = body.get("kv_transfer_params") or {}
        told = place.get("prompt_token_ids") if task == "chat" else body["prompt"]
        prompt = told if isinstance(told, list) else PROMPT
        start = len(prompt) - len(PROMPT)
        assert prompt == PROMPT + [FIRST + at for at in range(start)]
        pieces = self.pieces[start : start + body["max_tokens"]]
        held = 0 if self.shown or not self.stop else len(self.stop) - 1
        if task == "chat":
            role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
            yield event(role, prompt, 0, prompt_token_ids=prompt)
        raw, text, sent, ids = b"", "", 0, []
        for at, piece in enumerate(pieces, start=1):
            raw += piece
            ids.append(FIRST + start + at - 1)
            text = text if in_a_character(raw) else raw.decode()
            found = text.find(self.stop) if self.stop else -1
            reason = "stop" if found >= 0 else "length" if at == len(pieces) else None
            if found >= 0:
                text = text[: found + len(self.stop) * self.shown]
            if reason is None and at % self.together:
                continue
            until = len(text) if reason is not None else max(sent, len(text) - held)
            yield self._event(task, text[sent:until], reason, ids, prompt, at)
            sent, ids = until, []
            if reason is not None:
                yield event(None, prompt, at)
                break
        yield DONE_EVENT

    @staticmethod
    def _event(task: str, text: str, reason: str | None, ids: list[int], prompt: list[int], at: int) -> bytes:
        choice: dict[str, Any] = {"index": 0}
        choice |= {"delta": {"content": text}} if task == "chat" else {"text": text}
        choice |= {"logprobs": None, "finish_reason": reason}
        if task == "completions":
            choice |= {"stop_reason": None, "prompt_token_ids": prompt if at == len(ids) else None}
        return event(choice | {"token_ids": ids}, prompt, at)


def event(choice: dict[str, Any] | None, prompt: list[int], made: int, **more: Any) -> bytes:
    usage = {"prompt_tokens": len(prompt), "total_tokens": len(prompt) + made, "completion_tokens": made}
    head = {"id": "x", "object": "o", "created": 5, "model": "m", "choices": [choice] if choice else []}
    content = {**head, "usage": usage, **more}
    return f"data: {json.dumps(content, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()


def in_a_character(raw: bytes) -> bool:
    """Whether it ends within a character: then nothing is told of the last token yet."""
    return raw.decode(errors="replace").endswith("\ufffd")


def ask(task: str, tokens: int, **options: Any) -> Any:
    prompt = {"messages": [{"role": "user", "content": "hi"}]} if task == "chat" else {"prompt": "hi"}
    content = {"model": "m", "stream": True, "max_tokens": tokens, "temperature": 0, **prompt, **options}
    return parse_request(task, json.dumps(content).encode())  # type: ignore[arg-type]


@st.composite
def answers(draw: st.DrawFn) -> Model:
    text = draw(st.text(alphabet='ab"\\é\u6f22😀\n', min_size=1, max_size=40)).encode()
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=30)))
    edges = [0, *(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = tuple(text[a:b] for a, b in pairwise(edges))
    stop = draw(st.one_of(st.just(""), st.text(alphabet="ab", min_size=1, max_size=4)))
    return Model(pieces, stop, bool(stop) and draw(st.booleans()), draw(st.integers(1, 3)))


def text_of(stream: bytes) -> tuple[str, list[Any]]:
    chunks = [json.loads(part[6:]) for part in stream.split(b"\n\n") if part.startswith(b"data: {")]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    said = "".join(c["text"] if "text" in c else c["delta"].get("content") or "" for c in choices)
    return said, [choice["finish_reason"] for choice in choices if choice["finish_reason"]]


@given(
    model=answers(),
    task=st.sampled_from(["chat", "completions"]),
    breaks=st.lists(st.integers(0, 6000), min_size=1, max_size=3),
    fold=st.sampled_from([1, 400, 10**6]),
)
def test_any_cut_of_any_stream_is_made_good(model: Model, task: str, breaks: list[int], fold: int) -> None:
    options = {"stop": model.stop, "include_stop_str_in_output": model.shown} if model.stop else {}
    request = ask(task, len(model.pieces), **options)
    whole = StreamMeter("final")
    first = json.loads(request.rest[:-1] + request.ending.encode() + b"}")
    unbroken = whole.feed(b"".join(model.events(first, task)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivered, "FOLD_BYTES", fold)
        meter = StreamMeter("final")
        meter.record = Delivered(request.continuable, 10**9, lambda size: True, lambda size: None)
        got, body = b"", first
        for cut in [*breaks, 10**9]:
            sent = b"".join(model.events(body, task))[:cut]
            for at in range(0, len(sent), 97):
                got += meter.feed(sent[at : at + 97])
            if meter.finished:
                break
            made = broken(meter, request, task)
            if isinstance(made, bytes):
                got += made
                break
            body = made
    assert text_of(got) == text_of(unbroken)
    assert meter.counts == whole.counts
    assert b"token_ids" not in got.replace(b'"token_ids":null', b"").replace(b'"prompt_token_ids":null', b"")
    roles = got.count(b'"role"')
    assert roles == (task == "chat")


def broken(meter: StreamMeter, request: Any, task: str) -> dict[str, Any] | bytes:
    """What the next engine is asked, or the rest of the stream where none is needed."""
    assert meter.record is not None
    point = meter.record.break_point()
    if meter.total_told:
        return b""
    if not meter.passed:
        meter.start_over()
        content: dict[str, Any] = json.loads(request.rest[:-1] + request.ending.encode() + b"}")
        return content
    assert point is not None
    if point.whole:
        return meter.end(missing_usage(point, "o", "m"))
    raw = continued_body(request, "m", "salt", point)
    assert raw is not None
    body: dict[str, Any] = json.loads(raw)
    meter.go_on(Seam(point.id, point.created, point), point)
    return body


def test_a_record_without_room_is_lost_and_holds_nothing() -> None:
    taken: list[int] = []

    def hold(size: int) -> bool:
        taken.append(size)
        return len(taken) < 2

    returned: list[int] = []
    for limit, most in ((10**9, hold), (100, lambda size: True)):
        record = Delivered(Continuable(), limit, most, returned.append)
        for part in Model((b"word",) * 20_000).events({"prompt": "hi", "max_tokens": 20_000}, "completions"):
            if part != DONE_EVENT:
                record.add(part)
        assert record.lost
        assert record.break_point() is None
    assert sum(taken) < 10**6
    assert returned == [sum(taken[:-1]), 0]


def test_a_long_answer_takes_a_few_bytes_for_each_token() -> None:
    taken = 0

    def hold(size: int) -> bool:
        nonlocal taken
        taken += size
        return True

    record, tokens = Delivered(Continuable(), 10**9, hold, lambda size: None), 20_000
    for part in Model((b"word",) * tokens).events({"prompt": "hi", "max_tokens": tokens}, "completions"):
        if part != DONE_EVENT:
            record.add(part)
    assert taken < 2 * delivered.FOLD_BYTES + 8 * tokens
    point = record.break_point()
    assert point is not None
    assert len(point.tokens) == point.counted == tokens


@pytest.mark.parametrize(
    "odd",
    [
        b"data: no json\n\n",
        event({"index": 0, "delta": {"content": "a"}, "finish_reason": None}, PROMPT, 1),
        event({"index": 0, "text": "a", "finish_reason": None, "token_ids": [2**40]}, PROMPT, 1),
        event({"index": 0, "text": "a", "finish_reason": None, "token_ids": [1, 2]}, PROMPT, 1),
        event({"index": 0, "delta": {"tool_calls": [1]}, "finish_reason": None, "token_ids": [1]}, PROMPT, 1),
    ],
)
def test_what_does_not_tell_its_tokens_is_not_continued(odd: bytes) -> None:
    record = Delivered(Continuable(), 10**6, lambda size: True, lambda size: None)
    role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    record.add(event(role, PROMPT, 0, prompt_token_ids=PROMPT))
    record.add(odd)
    assert record.break_point() is None


def test_limits_and_seed_are_those_of_the_rest() -> None:
    point = BreakPoint(b"7,8,9", (100, 101), "", 3, 2, "x", 5)
    request = ask("chat", 9, min_tokens=1, max_completion_tokens=5, seed=2**63 - 1, temperature=1)
    body = json.loads(continued_body(request, "weights", "salt", point) or b"")
    assert (body["max_tokens"], body["max_completion_tokens"], body["min_tokens"]) == (7, 3, 0)
    assert body["seed"] == 1
    assert (body["model"], body["cache_salt"], body["return_token_ids"]) == ("weights", "salt", True)
    assert body["kv_transfer_params"] == {"prompt_token_ids": [7, 8, 9, 100, 101]}
    assert continued_body(ask("chat", 2), "weights", "salt", point) is None
    again = replace(point, given="lo")
    assert continued_body(ask("chat", 9), "weights", "salt", again) is not None
    assert continued_body(ask("chat", 9, temperature=1), "weights", "salt", again) is None
    text = parse_request("completions", b'{"model":"m","prompt":"hi","stream":true}')
    told = json.loads(continued_body(text, "weights", "salt", point) or b"")
    assert (told["prompt"], told["max_tokens"]) == ([7, 8, 9, 100, 101], 14)


def test_the_messages_go_on_as_they_were_and_are_not_parsed() -> None:
    point = BreakPoint(b"7,8,9", (100,), "", 3, 1, "x", 5)
    request = ask("chat", 9, user="ann")
    no_json = b"{~" + request.rest[1:]
    request = replace(request, rest=no_json, prompt_bytes=request.prompt_bytes + 1)
    body = continued_body(request, "weights", "salt", point)
    assert body is not None
    told = json.loads(body.replace(b"~", b""))
    assert (told["messages"], told["user"]) == ([{"role": "user", "content": "hi"}], "ann")


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({}, Continuable()),
        ({"temperature": 0}, Continuable(greedy=True)),
        ({"logprobs": False, "n": 1, "echo": None, "presence_penalty": 0.0}, Continuable()),
        ({"tools": [1], "tool_choice": "none"}, Continuable()),
        ({"stop": ["abc", "z"], "temperature": 0}, Continuable(2, 2, True)),
        ({"stop": "abc", "temperature": 0.0, "include_stop_str_in_output": True}, Continuable(2, 0, True)),
        ({"stop": [], "temperature": 1}, Continuable()),
        ({"stop": "abc"}, None),
        ({"stop": "a" * 1024, "temperature": 0}, Continuable(1023, 1023, True)),
        ({"stop": ["b", "a" * 1025], "temperature": 0, "include_stop_str_in_output": True}, None),
        ({"logprobs": 0}, None),
        ({"tools": [1]}, None),
        ({"n": 2}, None),
        ({"guided_grammar": "x"}, None),
        ({"response_format": {"type": "json_object"}}, None),
        ({"response_format": {"type": "text"}}, Continuable()),
        ({"min_tokens": 1.5}, None),
    ],
)
def test_which_answers_can_be_continued(options: dict[str, Any], rule: Continuable | None) -> None:
    assert continuable("chat", {"model": "m", "messages": [], **options}, 1, media=False) == rule
    assert continuable("chat", options, 1, media=True) is None
    assert continuable("completions", options, 2, media=False) is None
    assert continuable("embeddings", options, 1, media=False) is None


def test_what_only_tells_the_role_is_known() -> None:
    role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    assert told_with_role(event(role, PROMPT, 0)) == ("x", 5)
    for other in ({"content": "a"}, {"role": "assistant", "content": "a"}):
        assert told_with_role(event({**role, "delta": other}, PROMPT, 0)) is None
    assert told_with_role(b": ping\n\n") is None


def test_only_an_engine_that_took_the_tokens_goes_on() -> None:
    point = BreakPoint(b"7,8,9", (100,), "lo", 3, 2, "x", 5)
    for odd in (
        event({"index": 0, "delta": {"content": "lo"}, "finish_reason": None}, PROMPT, 1),
        event({"index": 0, "delta": {"content": "la"}, "finish_reason": None}, [*PROMPT, 100], 1),
        event({"index": 0, "delta": {"content": "l"}, "finish_reason": "stop"}, [*PROMPT, 100], 1),
        b'data: {"choices":[{"delta":7}]}\n\n',
    ):
        with pytest.raises(EngineFailed):
            Seam("x", 5, point).join(odd)


@pytest.mark.parametrize("point", [None, BreakPoint(b"7,8,9", (100,), "", 3, 1, "x", 5)])
def test_what_an_engine_that_goes_on_does_not_count_is_not_given_out(point: BreakPoint | None) -> None:
    text = {"index": 0, "delta": {"content": "lo"}, "finish_reason": None}
    good = event(text, [*PROMPT, 100] if point else PROMPT, 1)
    made = Seam("y", 5, point).join(good)
    assert b'"id":"y"' in made
    assert Seam("y", 5, point).join(good.replace(b"data: ", b"data:")) == made
    start, end = good.index(b',"usage"'), good.rindex(b"}")
    for odd in (
        good[:start] + good[end:],
        good[:start] + b',"usage":null' + good[end:],
        b": ping\n" + good,
        b"event: odd\n" + good,
        b'data: {"object":"error","error":{}}\n\n',
    ):
        with pytest.raises(EngineFailed):
            Seam("y", 5, point).join(odd)
    for comment in (b": ping\n\n", b"\n\n"):
        assert Seam("y", 5, point).join(comment) == comment


def test_parts_of_the_prompt_are_no_more_than_it() -> None:
    meter = StreamMeter("final")
    point = BreakPoint(b"7,8,9", (100, 101), "", 3, 2, "x", 5)
    meter.go_on(Seam("x", 5, point), point)
    told = event(None, [*PROMPT, 100, 101], 4).replace(
        b'"completion_tokens":4',
        b'"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":5,"created_cache_tokens":4,"x":null}',
    )
    shown = meter.feed(told)
    assert meter.counts == TokenCounts(prompt=3, cached=3, completion=6)
    assert b'"total_tokens":9' in shown
    assert b'"prompt_tokens_details":{"cached_tokens":3,"created_cache_tokens":3,"x":null}' in shown
