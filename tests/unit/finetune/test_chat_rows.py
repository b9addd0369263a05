"""The check at the door and the worker read a training file alike; a file of another form has one cause."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInput
from finetune.core.lines import numbered_lines
from finetune.core.validate import Validation, check_rows, validate_chat
from finetune.train.data import TokenRows, token_rows

USER: dict[str, Any] = {"role": "user", "content": "What is unit 0?"}
ANSWER: dict[str, Any] = {"role": "assistant", "content": "Unit 0 is a measure."}


def _row(*messages: object, **more: object) -> str:
    return json.dumps({"messages": list(messages), **more})


GOOD = _row(USER, ANSWER)


class WordTokenizer:
    """Stands for a base model's tokenizer: a token is a word, the assistant's words are trained."""

    def apply_chat_template(self, messages: list[dict[str, Any]], **_: object) -> dict[str, list[int]]:
        words = [(word, m["role"] == "assistant") for m in messages for word in m["content"].split()]
        return {"input_ids": [len(word) for word, _ in words], "assistant_masks": [int(a) for _, a in words]}


def _tokens(content: bytes, folder: Path, max_length: int = 100) -> TokenRows:
    path = folder / "0123abcd"
    path.write_bytes(content)
    tokenizer: Any = WordTokenizer()
    return token_rows(path, tokenizer, max_length, name="file-1 (zoo.jsonl)")


def _causes(content: bytes) -> list[tuple[str, str]]:
    return [(p.path, p.code) for p in validate_chat([content]).problems]


@pytest.mark.parametrize(
    "absent",
    [
        {"name": None, "tool_calls": None, "function_call": None, "tool_call_id": None},
        {"weight": None},
        {"refusal": None, "audio": None, "annotations": []},
        {"reasoning_content": None, "anything": None},
    ],
)
def test_null_is_absent(absent: dict[str, Any], tmp_path: Path) -> None:
    content = f"{_row({**USER, **absent}, {**ANSWER, **absent}, tools=None, mood=None)}\n".encode() * 12
    assert validate_chat([content]) == Validation(12, (), 0)
    assert len(_tokens(content, tmp_path).rows) == 12


@pytest.mark.parametrize(("weight", "trained"), [(1.0, True), (1, True), (0.0, False), (0, False)])
def test_a_weight_is_a_number_however_it_is_written(weight: float, trained: bool, tmp_path: Path) -> None:
    line = _row(USER, {**ANSWER, "weight": weight}, USER, {**ANSWER, "weight": 1})
    (row,) = _tokens(line.encode(), tmp_path).rows
    assert row.trained_tokens == (10 if trained else 5)


@pytest.mark.parametrize("key", ["refusal", "audio", "annotations"])
def test_what_cannot_be_learned_is_not_left_out_in_silence(key: str) -> None:
    content = f"{_row(USER, {**ANSWER, key: 'something'})}\n".encode() * 12
    assert {code for _, code in _causes(content)} == {"answer_not_supported"}


def _pretty(rows: int) -> str:
    return "\n".join(json.dumps(json.loads(GOOD), indent=1) for _ in range(rows))


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (json.dumps([json.loads(GOOD)] * 12).encode(), "json_array", "one JSON object per line"),
        (json.dumps([json.loads(GOOD)] * 12, indent=1).encode(), "json_array", "one JSON object per line"),
        (_pretty(12).encode(), "json_over_lines", "one JSON object per line"),
        ("\r\n".join(_pretty(12).split("\n")).encode(), "json_over_lines", "one JSON object per line"),
        (f"{GOOD}\n".encode("utf-16") * 12, "invalid_encoding", "UTF-8"),
        (f"{GOOD}\n".encode("utf-16-le") * 12, "invalid_encoding", "UTF-8"),
        (f"{GOOD}\n".encode("utf-16-be") * 12, "invalid_encoding", "UTF-8"),
        (f"{GOOD}\n".encode("utf-32") * 12, "invalid_encoding", "UTF-8"),
        (f"{GOOD}\r".encode() * 12, "line_ends", "LF"),
    ],
)
def test_a_file_of_another_form_is_refused_with_the_one_cause(
    content: bytes, code: str, says: str, tmp_path: Path
) -> None:
    (problem,) = validate_chat([content]).problems
    assert (problem.path, problem.code) == ("file", code)
    assert says in problem.message
    with pytest.raises(InvalidInput, match=says):
        _tokens(content, tmp_path)


def test_a_cut_line_among_good_ones_is_named_and_not_taken_for_another_form() -> None:
    content = "\n".join([GOOD[:30], *[GOOD] * 12]).encode()
    assert _causes(content) == [("line 1", "invalid_json")]


@pytest.mark.parametrize("inside", ["\r", "\r\r", "\t"])
def test_only_a_line_feed_ends_a_line(inside: str, tmp_path: Path) -> None:
    odd = GOOD.replace(", ", f",{inside}")
    text = json.dumps({"messages": [USER, {**ANSWER, "content": "a\u2028b\u0085c"}]}, ensure_ascii=False)
    content = "\n".join([odd] * 12 + [text, f"{GOOD}\r", f"{GOOD}\r\r"]).encode()
    assert validate_chat([content]) == Validation(15, (), 0)
    assert len(_tokens(content, tmp_path).rows) == 15


def test_a_row_whose_answer_lies_beyond_the_context_is_left_out_and_told(tmp_path: Path) -> None:
    long = _row({**USER, "content": "word " * 200}, ANSWER)
    rows = _tokens("\n".join([GOOD, long, GOOD, long]).encode(), tmp_path)
    assert ([row.line for row in rows.rows], rows.left_out) == ([1, 3], (2, 4))


def test_a_file_that_leaves_nothing_is_named_as_the_user_knows_it(tmp_path: Path) -> None:
    long = _row({**USER, "content": "word " * 200}, ANSWER)
    for content in (long.encode(), b"{broken", b""):
        with pytest.raises(InvalidInput) as refused:
            _tokens(content, tmp_path)
        assert refused.value.param == "training_file"
        assert "file-1 (zoo.jsonl)" in refused.value.message
        assert "0123abcd" not in refused.value.message


_TEXTS = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["a\r", "\u2028", "\ud800"])
_VALUES: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.sampled_from([0, 1, 1.0, 2, float("nan")]) | _TEXTS | st.just([])
)
_KEYS = ("role", "content", "name", "weight", "tool_calls", "refusal", "x")
_MESSAGES = st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=4) | st.builds(
    lambda message, more: {**message, **more},
    st.sampled_from([USER, ANSWER]),
    st.dictionaries(st.sampled_from(_KEYS[2:]), _VALUES, max_size=2),
)
_LINES = st.lists(_MESSAGES, max_size=3).map(lambda messages: _row(*messages).encode()) | st.sampled_from(
    [GOOD.encode(), b"", b" \r", b"{", b"[", b"\xff", b"null", GOOD.encode() + b"\r"]
)


@given(st.lists(_LINES, max_size=6), st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n"]), st.integers(1, 99))
def test_whatever_the_lines_the_check_and_the_worker_come_to_one_verdict(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], end: bytes, size: int
) -> None:
    content = end.join(lines)
    verdict = check_rows([content[at : at + size] for at in range(0, len(content), size)])
    folder = tmp_path_factory.getbasetemp()
    if verdict.is_valid and verdict.examples:
        assert len(_tokens(content, folder, 10**6).rows) == verdict.examples
    else:
        with pytest.raises(InvalidInput) as refused:
            _tokens(content, folder, 10**6)
        told = [p for p in refused.value.problems if p.path != "file"]
        assert [p.path for p in told] == list(
            dict.fromkeys(p.path for p in verdict.problems if p.path != "file")
        )


def test_megabytes_of_blank_lines_are_one_line_to_look_at() -> None:
    chunks = [b"{}\n", *[b"\n" * 2**20] * 30, b"{}\n"]
    lines = list(numbered_lines(chunks, 2**22))
    assert len(lines) == 32
    assert lines[-1].number == 2 + 30 * 2**20
    verdict = check_rows(chunks)
    assert [p.path for p in verdict.problems][:2] == ["line 1", "line 2"]
    assert len(verdict.problems) == 3
