"""What an answer may fail in a cascade."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.core.body import InferenceRequest, parse_request
from inference.core.one_door.checks import CHECKS, check_of
from inference.core.one_door.schema import holds

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "ages": {"type": "array", "items": {"type": "integer"}}},
    "required": ["name"],
    "additionalProperties": False,
}


def request(**members: Any) -> InferenceRequest:
    content = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **members}
    return parse_request("chat", json.dumps(content).encode())


def failed(text: str | None, ended: str = "stop", wanted: Any = None, **message: Any) -> str:
    told = {"choices": [{"message": {"content": text, **message}, "finish_reason": ended}]}
    members = {"response_format": wanted} if wanted else {}
    check = check_of(tuple(CHECKS), request(**members))
    assert check is not None
    return check(json.dumps(told).encode())


JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (failed("yes"), ""),
        (failed("yes", "length"), "truncation"),
        (failed(""), "refusal"),
        (failed("I'm sorry, but I can't do that."), "refusal"),
        (failed("抱歉，我无法回答。"), "refusal"),
        (failed("no", refusal="I decline"), "refusal"),
        (failed(None, "tool_calls", tool_calls=[{"id": "1"}]), ""),
        (failed("yes", wanted={"type": "json_object"}), "format"),
        (failed("[]", wanted={"type": "json_object"}), "format"),
        (failed("{}", wanted={"type": "json_object"}), ""),
        (failed('{"name": "x"}', wanted=JSON_SCHEMA), ""),
        (failed('{"name": 1}', wanted=JSON_SCHEMA), "format"),
        (failed('{"nom": "x"}', wanted=JSON_SCHEMA), "format"),
    ],
)
def test_what_is_wrong_with_an_answer(told: str, why: str) -> None:
    assert told == why


def test_streams_and_texts_to_embed_are_not_looked_at() -> None:
    assert check_of(("refusal",), request(stream=True)) is None
    assert check_of((), request()) is None
    embedding = parse_request("embeddings", b'{"model":"m","input":"x"}')
    assert check_of(("refusal",), embedding) is None


@given(st.binary(max_size=60))
def test_an_answer_that_cannot_be_read_has_failed(content: bytes) -> None:
    check = check_of(("refusal",), request())
    assert check is not None
    assert isinstance(check(content), str)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(JSONS, JSONS)
def test_any_schema_is_read_and_an_empty_one_holds_everything(value: Any, schema: Any) -> None:
    assert isinstance(holds(value, schema), bool)
    assert holds(value, {})
    assert holds(value, {"unknown": 1})
    assert not holds(value, {"not_in": 1, "enum": []})


def test_a_schema_that_refers_to_itself_ends() -> None:
    assert holds({"a": {}}, {"$ref": "#"})
    assert holds(1.0, {"type": "integer"})
    assert not holds(float("inf"), {"type": "integer"})


def test_a_schema_that_would_take_for_ever_is_given_up() -> None:
    assert holds({}, {"allOf": [{"$ref": "#"}] * 8, "anyOf": [{"$ref": "#"}] * 8})
