"""Every bad line of a training file is named, whatever is in the file."""

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.core.chat_line import MAX_LINE_BYTES
from finetune.core.validate import MAX_PROBLEMS, validate_chat


def _example(*messages: object, **more: object) -> bytes:
    return json.dumps({"messages": list(messages), **more}).encode()


USER = {"role": "user", "content": "Which animal is this?"}
ANSWER = {"role": "assistant", "content": "A capybara."}
GOOD = _example(USER, ANSWER)


def _file(lines: Iterable[bytes]) -> list[bytes]:
    return [b"\n".join(lines) + b"\n"]


def _codes_of(line: bytes) -> list[str]:
    """The codes found on a line that stands among good ones, as line 7."""
    result = validate_chat(_file([GOOD] * 6 + [line] + [GOOD] * 6))
    assert all(problem.path == "line 7" for problem in result.problems)
    return [problem.code for problem in result.problems]


def test_a_good_file_has_no_problems() -> None:
    system = {"role": "system", "content": "You know animals."}
    lines = [
        GOOD,
        _example(system, USER, ANSWER),
        _example(USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}),
        _example({**USER, "name": "ada"}, ANSWER, tools=[]),
    ]
    result = validate_chat(_file(lines * 3))
    assert (result.examples, result.problems, result.is_valid) == (12, (), True)


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        (b"\xff\xfe" + GOOD, ["invalid_encoding"]),
        (b"", ["blank_line"]),
        (b"   \t ", ["blank_line"]),
        (GOOD[:-1], ["invalid_json"]),
        (b"[" * 100_000, ["invalid_json"]),
        (b"[1]", ["data_type"]),
        (b'"text"', ["data_type"]),
        (b"null", ["data_type"]),
        (b"{}", ["missing_messages_list"]),
        (b'{"messages": "hello"}', ["missing_messages_list"]),
        (b'{"messages": []}', ["messages_empty"]),
        (_example(USER, ANSWER, prompt="old format"), ["example_unrecognized_key"]),
        (_example("hello", ANSWER), ["message_data_type"]),
        (_example({"content": "hello"}, ANSWER), ["message_missing_key"]),
        (_example({"role": "user"}, ANSWER), ["message_missing_key"]),
        (_example({"role": "robot", "content": "hello"}, ANSWER), ["unrecognized_role"]),
        (_example({"role": ["user"], "content": "hello"}, ANSWER), ["unrecognized_role"]),
        (_example({**USER, "mood": "good"}, ANSWER), ["message_unrecognized_key"]),
        (_example({**USER, "content": None}, ANSWER), ["missing_content"]),
        (_example({**USER, "content": " "}, ANSWER), ["missing_content"]),
        (_example({**USER, "content": [{"type": "text", "text": "a"}]}, ANSWER), ["missing_content"]),
        (b'{"messages": [{"role": "assistant", "content": "\\ud800"}]}', ["invalid_text"]),
        (_example({**USER, "name": 3}, ANSWER), ["invalid_name"]),
        (_example(USER), ["example_missing_assistant_message"]),
        (_example(USER, {**ANSWER, "weight": 2}), ["invalid_weight"]),
        (_example(USER, {**ANSWER, "weight": True}), ["invalid_weight"]),
        (_example(USER, {**ANSWER, "weight": 0.5}), ["invalid_weight"]),
        (_example({**USER, "weight": 1}, ANSWER), ["invalid_weight"]),
        (_example(USER, {**ANSWER, "weight": 0}), ["all_weights_zero"]),
        (_example(USER, {"role": "system", "content": "Late."}, ANSWER), ["system_not_first"]),
        (_example(USER, ANSWER, tools=[{"type": "function"}]), ["tools_not_supported"]),
        (_example(USER, {**ANSWER, "tool_calls": []}), ["tools_not_supported"]),
        (_example(USER, {"role": "tool", "content": "4"}, ANSWER), ["tools_not_supported"]),
        (b" " + b"x" * MAX_LINE_BYTES, ["line_too_long"]),
        (b"{}" + b"[]", ["invalid_json"]),
    ],
)
def test_each_mistake_has_its_line_and_code(line: bytes, codes: list[str]) -> None:
    assert _codes_of(line) == codes


def test_all_mistakes_of_a_line_are_told() -> None:
    line = _example({"role": "robot"}, {"role": "user", "content": ""})
    assert _codes_of(line) == [
        "unrecognized_role",
        "message_missing_key",
        "missing_content",
        "example_missing_assistant_message",
    ]


def test_messages_say_where_in_the_line() -> None:
    result = validate_chat(_file([GOOD] * 10 + [_example(USER, {"role": "robot", "content": "x"}, ANSWER)]))
    (problem,) = result.problems
    assert problem.path == "line 11"
    assert "messages[1].role" in problem.message
    assert "robot" in problem.message


def test_a_byte_order_mark_is_told_once() -> None:
    result = validate_chat(_file([b"\xef\xbb\xbf" + GOOD] + [GOOD] * 9))
    assert [(p.path, p.code) for p in result.problems] == [("line 1", "byte_order_mark")]


def test_windows_line_ends_and_blank_lines_at_the_end_are_fine() -> None:
    assert validate_chat([b"\r\n".join([GOOD] * 10) + b"\r\n\r\n\n"]).is_valid


def test_too_few_examples() -> None:
    result = validate_chat(_file([GOOD] * 3))
    (problem,) = result.problems
    assert problem.code == "invalid_n_examples"
    assert problem.message == "has 3 example(s), but must have at least 10"
    assert not validate_chat([], min_examples=1).is_valid


def test_a_file_of_nothing_but_mistakes_is_told_in_part_and_counted() -> None:
    result = validate_chat(_file([b"{}"] * 5000))
    assert (len(result.problems), result.problem_count) == (MAX_PROBLEMS, 5000)


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 7))
def test_how_the_bytes_arrive_makes_no_difference(lines: list[bytes], size: int) -> None:
    content = b"\n".join(lines)
    pieces = [content[i : i + size] for i in range(0, len(content), size)]
    assert validate_chat(pieces, 1) == validate_chat([content], 1)


_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["messages", "role", "content", "weight", "name", "tools", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(_ANY_JSON, min_size=1, max_size=6))
def test_any_json_is_judged_and_bad_lines_are_named_rightly(values: list[object]) -> None:
    lines = [json.dumps(value).encode() for value in values]
    result = validate_chat(_file(line for bad in lines for line in (GOOD, bad)), 1)
    alone = {
        f"line {2 * i + 2}" for i, line in enumerate(lines) if not validate_chat(_file([line]), 1).is_valid
    }
    assert {problem.path for problem in result.problems} == alone


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=3))
def test_mangled_examples_never_break_the_check(at: int, junk: bytes) -> None:
    mangled = GOOD[:at] + junk.replace(b"\n", b" ") + GOOD[at + 1 :]
    result = validate_chat(_file([GOOD] * 4 + [mangled] + [GOOD] * 4), 1)
    assert {problem.path for problem in result.problems} <= {"line 5"}
