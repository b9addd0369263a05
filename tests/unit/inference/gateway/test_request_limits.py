"""How deep, how long and how much a body may be, to the last that is allowed and the first that is not."""

import json
from typing import Any

import pytest

from common.errors import InvalidInput, TooLarge
from inference.core.body import BodyLimits, engine_body, models_named, parse_request
from inference.core.body_size import MAX_NESTING

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


def nested(kind: str, depth: int) -> Any:
    """So many lists or objects within each other."""
    value: Any = 1
    for level in range(depth):
        is_list = kind == "lists" or (kind == "both" and level % 2)
        value = [value] if is_list else {"a": value}
    return value


@pytest.mark.parametrize("kind", ["lists", "objects", "both"])
def test_a_body_nests_so_deep_and_no_deeper(kind: str) -> None:
    beside: dict[str, Any] = {"padding": [{}] * MAX_NESTING}
    for depth, taken in ((MAX_NESTING - 1, True), (MAX_NESTING, False)):
        body = json.dumps({**CHAT, **beside, "extra": nested(kind, depth)}).encode()
        if taken:
            parse_request("chat", body)
        else:
            with pytest.raises(InvalidInput, match="64 deep"):
                parse_request("chat", body)


def test_values_are_counted_to_the_last_and_not_within_texts() -> None:
    body = json.dumps({**CHAT, "extra": [1, 2, 3], "text": ",[{" * 50}).encode()
    # {, three commas between members; [ and { and a comma of the message; [ and two commas of the list
    values = 10
    parse_request("chat", body, BodyLimits(values=values))
    with pytest.raises(TooLarge, match="more than 9 values"):
        parse_request("chat", body, BodyLimits(values=values - 1))


@pytest.mark.parametrize("content", [b"[]", b"7", b'"text"', b"null"])
def test_a_body_is_an_object(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="must be a JSON object") as refused:
        parse_request("chat", content)
    assert refused.value.code == "invalid_type"


@pytest.mark.parametrize(
    ("task", "extra", "sequences"),
    [
        ("completions", {"prompt": ["a"] * 3, "n": 4}, 12),
        ("completions", {"prompt": "a", "n": 2, "best_of": 5}, 2),
        ("embeddings", {"input": ["a"] * 16}, 1),
        ("embeddings", {"input": ["a"] * 17}, 2),
    ],
)
def test_answers_asked_for_are_choices_times_prompts(
    task: Any, extra: dict[str, Any], sequences: int
) -> None:
    assert parse_request(task, json.dumps({"model": "m", **extra}).encode()).sequences == sequences


def test_more_answers_than_one_request_may_ask_for_are_refused_by_field() -> None:
    limits = BodyLimits(sequences=12, inputs=3)
    body = {"model": "m", "prompt": ["a"] * 3}
    parse_request("completions", json.dumps({**body, "n": 4}).encode(), limits)
    for more in ({"n": 5}, {"n": 1, "best_of": 5}):
        with pytest.raises(InvalidInput):
            parse_request("completions", json.dumps({**body, **more}).encode(), limits)
    parse_request("embeddings", json.dumps({"model": "m", "input": ["a"] * 3}).encode(), limits)
    with pytest.raises(InvalidInput):
        parse_request("embeddings", json.dumps({"model": "m", "input": ["a"] * 4}).encode(), limits)


def test_embeddings_are_not_streamed_and_tell_their_usage() -> None:
    body = {"model": "m", "input": "a"}
    assert parse_request("embeddings", json.dumps({**body, "stream": True}).encode()).stream is False
    for form in ("float", "base64"):
        parse_request("embeddings", json.dumps({**body, "encoding_format": form}).encode())
    with pytest.raises(InvalidInput) as refused:
        parse_request("embeddings", json.dumps({**body, "encoding_format": "bytes"}).encode())
    assert refused.value.param == "encoding_format"
    request = parse_request("embeddings", json.dumps(body).encode())
    assert json.loads(engine_body(request, "weights", "acme")) == {"model": "weights", "input": "a"}


@pytest.mark.parametrize(
    "name", ["kv_transfer_params", "ec_transfer_params", "priority", "cache_salt", "request_id"]
)
def test_no_field_reaches_across_tenants_inside_an_engine(name: str) -> None:
    body = {**CHAT, name: "mine", "vllm_xargs": {name: "mine", "own": 1}}
    sent = json.loads(engine_body(parse_request("chat", json.dumps(body).encode()), "weights", "acme"))
    assert sent.get(name) == ("acme" if name == "cache_salt" else None)
    assert sent["vllm_xargs"] == {"own": 1}


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        (b'{"model": "a", "b": {"model":"c"}}', ["a", "c"]),
        (b'{"text": "\\"model\\": \\"x\\"", "model": "a"}', ["a"]),
        (b'{"model": 7}', []),
        (b'{"model": "\\u00e9"}', ["é"]),
        (b'{"model": "\\q"}', None),
        (b'{"x": 1}', []),
        (b"{" + b",".join([b'"a": {"model": "m"}'] * 17) + b"}", None),
        (b"{" + b",".join([b'"a": {"model": "m"}'] * 15) + b"}", ["m"] * 15),
    ],
)
def test_what_may_be_the_model_is_found_without_reading_all(raw: bytes, names: list[str] | None) -> None:
    assert models_named(raw) == names
