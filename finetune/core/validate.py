"""What is wrong with a chat training file: every bad line, named, with a stable code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from common.errors import Problem
from finetune.core.chat_rows import NotLines, chat_rows

MIN_EXAMPLES = 10
MAX_PROBLEMS = 100


@dataclass(frozen=True)
class Validation:
    """``problems`` are the first ``MAX_PROBLEMS`` of ``problem_count``; ``examples`` counts rows."""

    examples: int
    problems: tuple[Problem, ...]
    problem_count: int

    @property
    def is_valid(self) -> bool:
        return self.problem_count == 0


def validate_chat(chunks: Iterable[bytes], min_examples: int = MIN_EXAMPLES) -> Validation:
    """Check a JSONL file of chats, given as pieces of any size. What is held does not grow with the file."""
    return with_least(check_rows(chunks), min_examples)


def check_rows(chunks: Iterable[bytes]) -> Validation:
    """All that is wrong with the rows of a file, however many there are."""
    problems: list[Problem] = []
    count = examples = 0
    try:
        for row in chat_rows(chunks):
            examples, count = examples + (not row.blank), count + len(row.findings)
            room = MAX_PROBLEMS - len(problems)
            problems += [Problem(f"line {row.number}", text, code) for code, text in row.findings[:room]]
    except NotLines as cause:
        return Validation(0, (Problem("file", cause.message, cause.code),), 1)
    return Validation(examples, tuple(problems), count)


def with_least(result: Validation, min_examples: int) -> Validation:
    """The same, and a problem where there are too few rows; a file of another form has its cause already."""
    if result.examples >= min_examples or any(p.path == "file" for p in result.problems):
        return result
    text = f"has {result.examples} example(s), but must have at least {min_examples}"
    problems = (Problem("file", text, "invalid_n_examples"), *result.problems[: MAX_PROBLEMS - 1])
    return Validation(result.examples, problems, result.problem_count + 1)
