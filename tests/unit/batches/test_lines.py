"""What is wrong with the lines of a batch's file: by line and field."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.check_file import CheckOrders, Verdict, check
from batches.core.line import read_request

ENDPOINT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
GOOD: dict[str, Any] = {"custom_id": "a", "method": "POST", "url": ENDPOINT, "body": BODY}


def orders(**more: Any) -> CheckOrders:
    told: dict[str, Any] = {
        "path": "",
        "endpoint": ENDPOINT,
        "max_lines": 10,
        "max_line_bytes": 10_000,
        "cpu_seconds": 1.0,
        "memory_bytes": 1,
        "sequences": 4,
        "inputs": 4,
        "values": 1000,
    }
    return CheckOrders(**{**told, **more})


def judged(*lines: object, **more: Any) -> Verdict:
    texts = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines]
    return check([b"\n".join(texts) + b"\n"], orders(**more))


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


WRONG: dict[str, tuple[object, str, str | None]] = {
    "no JSON": (b"{nonsense", "invalid_json_line", None),
    "no object": ([1], "invalid_json_line", None),
    "a key twice": (b'{"custom_id": "a", "custom_id": "b"}', "invalid_json_line", None),
    "no custom_id": (without("custom_id"), "missing_required_parameter", "custom_id"),
    "an empty custom_id": ({**GOOD, "custom_id": ""}, "invalid_custom_id", "custom_id"),
    "a custom_id that is no text": ({**GOOD, "custom_id": 7}, "invalid_custom_id", "custom_id"),
    "a custom_id with a NUL": ({**GOOD, "custom_id": "a\0"}, "invalid_custom_id", "custom_id"),
    "a long custom_id": ({**GOOD, "custom_id": "a" * 513}, "invalid_custom_id", "custom_id"),
    "another method": ({**GOOD, "method": "GET"}, "invalid_method", "method"),
    "another path": ({**GOOD, "url": "/v1/embeddings"}, "mismatched_endpoint", "url"),
    "an unknown field": ({**GOOD, "priority": 1}, "unknown_parameter", "priority"),
    "no body": (without("body"), "missing_required_parameter", "body"),
    "a body that is no object": ({**GOOD, "body": "hi"}, "invalid_type", "body"),
    "a stream": ({**GOOD, "body": {**BODY, "stream": True}}, "unsupported_value", "body.stream"),
    "no model": (
        {**GOOD, "body": {"messages": BODY["messages"]}},
        "missing_required_parameter",
        "body.model",
    ),
    "a message without a role": (
        {**GOOD, "body": {**BODY, "messages": [{"content": "hi"}]}},
        "missing_required_parameter",
        "body.messages[0].role",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_line_is_told_with_its_number_and_field(name: str) -> None:
    line, code, param = WRONG[name]
    verdict = judged({**GOOD, "custom_id": "first"}, b"", line)
    [problem] = verdict.problems
    assert (problem.line, problem.code, problem.param) == (3, code, param)
    assert (verdict.lines, verdict.problem_count) == (2, 1)


def test_good_lines_are_counted_and_blank_ones_are_not() -> None:
    verdict = judged(GOOD, b"  ", {**GOOD, "custom_id": "b"})
    assert verdict == Verdict(2, "tiny", [], 0)


def test_an_id_comes_once() -> None:
    verdict = judged(GOOD, {**GOOD, "custom_id": "b"}, GOOD)
    [problem] = verdict.problems
    assert (problem.line, problem.code, problem.param) == (3, "duplicate_custom_id", "custom_id")
    assert "line 1" in problem.message


def test_lines_are_bounded_in_number_and_length() -> None:
    many = [{**GOOD, "custom_id": str(number)} for number in range(11)]
    assert judged(*many).problems[0].code == "too_many_lines"
    assert judged(*many[:10]).problem_count == 0
    long = {**GOOD, "body": {**BODY, "user": "x" * 10_000}}
    assert [(p.line, p.code) for p in judged(long, GOOD).problems] == [(1, "line_too_long")]


def test_a_file_without_a_request_is_none() -> None:
    assert judged(b"", b"  ").problems[0].code == "empty_file"


def test_problems_are_counted_beyond_those_that_are_kept() -> None:
    verdict = judged(*(b"{" for _ in range(150)), max_lines=1000)
    assert (len(verdict.problems), verdict.problem_count) == (100, 150)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_changes = st.dictionaries(st.sampled_from(["custom_id", "method", "url", "body", "odd"]), _json, max_size=3)


@given(
    st.lists(st.binary(max_size=60) | _changes.map(lambda c: json.dumps({**GOOD, **c}).encode()), max_size=8)
)
def test_whatever_a_line_holds_it_is_judged(lines: list[bytes]) -> None:
    verdict = check([b"\n".join(lines)], orders(max_lines=100))
    assert verdict.problem_count == len(verdict.problems)
    if not verdict.problem_count:
        written = [line for part in lines for line in part.split(b"\n") if line.strip()]
        assert [read_request(line).custom_id for line in written]
        assert len(written) == verdict.lines
