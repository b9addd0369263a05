"""Training files that people reported elsewhere as refused, or as failing late, are read as meant."""

from pathlib import Path
from typing import Any

import pytest

from finetune.core.validate import validate_chat
from finetune.train.data import token_rows
from tests.unit.finetune.test_chat_rows import WordTokenizer

REPORTED = Path(__file__).parents[2] / "fixtures" / "reported"


@pytest.mark.parametrize(
    ("name", "examples"),
    [("null-members", 12), ("weight-null", 12), ("cr-between-tokens", 12), ("one-row-beyond-context", 20)],
)
def test_a_sound_file_passes_the_check_and_trains(name: str, examples: int) -> None:
    path = REPORTED / f"{name}.jsonl"
    verdict = validate_chat([path.read_bytes()])
    assert (verdict.examples, verdict.problems) == (examples, ())
    tokenizer: Any = WordTokenizer()
    found = token_rows(path, tokenizer, 2048, name=f"file-1 ({name}.jsonl)")
    beyond = name == "one-row-beyond-context"
    assert len(found.rows) == examples - beyond, "a row whose answer lies beyond the context is left out"


def test_an_array_is_refused_with_its_one_cause() -> None:
    verdict = validate_chat([(REPORTED / "json-array.jsonl").read_bytes()])
    assert [problem.path for problem in verdict.problems] == ["file"]
    assert "array" in verdict.problems[0].message
