"""The lines of a batch's file, and the ids that each has for good."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from batches.check_file import read_chunks
from common.ids import derived_id
from finetune.core.lines import Line, numbered_lines


def lines_of(path: Path, most_bytes: int) -> Iterator[Line]:
    """The lines of a batch's file that are not blank."""
    return (line for line in numbered_lines(read_chunks(path), most_bytes) if not line.is_blank)


def usage_id(batch_uid: str, line: int) -> str:
    """The id of the usage event of a line: always the same, so that it is billed once."""
    return derived_id("use", batch_uid, line)


def result_id(batch_uid: str, line: int) -> str:
    """The id of a line in the files of answers and errors."""
    return derived_id("batchreq", batch_uid, line)
