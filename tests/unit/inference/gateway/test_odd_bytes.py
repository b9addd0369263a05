"""Whatever clients, engines and disks give to the gateway is answered, or refused with a typed error."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import gateway, usage
from tests.fuzz.target import run
from tests.fuzz.targets import TARGETS

READERS = [target.name for target in (*gateway.TARGETS, *usage.TARGETS)]
HEADS = {"engine-error": b"400\n", "stream": b"a\n"}
"""What stands before the bytes that others wrote."""

WORDS = (
    "model messages role content type text name stop n prompt input tools function parameters $ref $defs",
    "response_format json_schema schema structured_outputs grammar json choice stream stream_options",
    "include_usage usage prompt_tokens completion_tokens cached_tokens prompt_tokens_details choices index",
    "error code message param max_tokens tool_calls best_of id kind tenant project key started_ms ended_ms",
    "quantities labels event reason",
)
KEYS = st.sampled_from([word for line in WORDS for word in line.split()])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(10**12, 10**40),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["user", "#", "#/$defs/a", "json_schema", "function", "text", "root ::= ", "\ud800", "inference"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)


def as_bytes(content: Any, shape: int) -> bytes:
    """JSON, as an event of a stream, or as a line."""
    raw = json.dumps(content, separators=(",", ":") if shape % 2 else (", ", ": ")).encode()
    return [raw, raw + b"\n", b"data: " + raw + b"\n\n", b"data: " + raw + b"\n\ndata: [DONE]\n\n"][shape]


# Bodies that get past the first checks: any value in each of the fields that are looked into.
FIELDS = [
    "stop",
    "bad_words",
    "tools",
    "tool_choice",
    "response_format",
    "structured_outputs",
    "n",
    "best_of",
]
SCHEMAS = st.dictionaries(st.sampled_from(["$ref", "$defs", "items", "a"]), VALUES, max_size=3) | VALUES
SPECS = st.one_of(
    VALUES,
    st.builds(
        lambda name, value: {name: value}, st.sampled_from(["json", "regex", "choice", "grammar"]), SCHEMAS
    ),
    st.builds(lambda text: {"grammar": text}, st.text('ab:= \n()"', max_size=20)),
    st.builds(lambda s: {"type": "json_schema", "json_schema": {"name": "x", "schema": s}}, SCHEMAS),
    st.builds(lambda s: [{"type": "function", "function": {"name": "f", "parameters": s}}], SCHEMAS),
)
CHATS = st.builds(
    lambda message, fields: json.dumps({"model": "m", "messages": [message], **fields}).encode(),
    st.just({"role": "user", "content": "hi"})
    | st.fixed_dictionaries(
        {"role": st.just("assistant")}, optional={"content": VALUES, "tool_calls": VALUES}
    ),
    st.dictionaries(st.sampled_from(FIELDS), SPECS, max_size=3),
)
DOCUMENTS = st.builds(as_bytes, st.dictionaries(KEYS, VALUES, max_size=8) | VALUES, st.integers(0, 3))


@pytest.mark.parametrize("target", READERS)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=DOCUMENTS | st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_by_type(target: str, data: bytes) -> None:
    run(TARGETS[target], HEADS.get(target, b"") + data)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=CHATS)
def test_any_field_of_a_chat_is_read_or_refused_by_type(data: bytes) -> None:
    run(TARGETS["body-chat"], data)


@pytest.mark.parametrize("target", READERS)
@pytest.mark.parametrize(
    "data",
    [
        b'{"a":' * 5000,
        b"[" * 100_000,
        b'{"model":"m","n":' + b"9" * 5000 + b"}",
        b'{"model":"m","messages":' + b"[" * 70 + b"]" * 70 + b"}",
        b'data: {"usage":{' + b'"a":{' * 2000 + b"}" * 2001 + b"}\n\n",
        b'"model"' * 1000,
        b'{"usage":{"prompt_tokens":1e400}}',
        b"\xff\xfe{}",
        b"",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_bytes_that_once_hurt_others_are_refused_by_type(target: str, data: bytes) -> None:
    run(TARGETS[target], HEADS.get(target, b"") + data)
