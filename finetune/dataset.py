"""Checking a stored training file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from common.errors import InvalidInput
from finetune.core.validate import MIN_EXAMPLES, Validation, validate_chat

Param = Literal["training_file", "validation_file"]

_CHUNK_BYTES = 1024**2
_SHOWN_PROBLEMS = 10


def check_dataset(path: Path, param: Param) -> int:
    """The number of examples in a JSONL chat file.

    Raises ``InvalidInput`` (``invalid_training_file``, ``invalid_validation_file`` or ``invalid_n_examples``)
    whose message lists the first bad lines and whose ``problems`` hold up to a hundred.
    """
    result = validate_chat(_chunks(path), MIN_EXAMPLES if param == "training_file" else 1)
    if result.is_valid:
        return result.examples
    raise InvalidInput(_summary(result, param), _code(result, param), param, result.problems)


def _code(result: Validation, param: Param) -> str:
    if result.problem_count == 1 and result.problems[0].code == "invalid_n_examples":
        return "invalid_n_examples"
    return f"invalid_{param}"


def _summary(result: Validation, param: Param) -> str:
    shown = "; ".join(f"{p.path}: {p.message}" for p in result.problems[:_SHOWN_PROBLEMS])
    rest = result.problem_count - min(len(result.problems), _SHOWN_PROBLEMS)
    count = "1 problem" if result.problem_count == 1 else f"{result.problem_count} problems"
    return f"{param}: {count} found: {shown}" + (f"; and {rest} more" if rest else "")


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
