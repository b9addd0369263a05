"""Tables of traces: CSV or CSV.gz with a header, errors that name the line and the column."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from common.errors import InvalidInput


class Row:
    """One line. ``number`` and ``text`` read a column; an empty cell is 0 or ""."""

    def __init__(self, path: Path, line: int, cells: dict[str, str]) -> None:
        self._path = path
        self.line = line
        self._cells = cells

    def text(self, column: str) -> str:
        return (self._cells.get(column) or "").strip()

    def number(self, column: str, least: float = 0.0) -> float:
        """``InvalidInput`` where it is no number or below ``least``."""
        text = self.text(column)
        try:
            value = float(text) if text else 0.0
        except ValueError:
            raise self.wrong(column, f"{text!r} is no number") from None
        if not least <= value < float("inf"):
            raise self.wrong(column, f"{text} is not {least:g} or more")
        return value

    def whole(self, column: str, least: int = 0) -> int:
        return int(self.number(column, least))

    def wrong(self, column: str, what: str) -> InvalidInput:
        where = f"line {self.line}, column {column}"
        return InvalidInput(f"{self._path.name}, {where}: {what}", param=where)


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """A text file, unpacked where its name ends in .gz; ``InvalidInput`` where it cannot be read."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8", newline="") as packed:
                yield packed
        else:
            with path.open(encoding="utf-8", newline="") as plain:
                yield plain
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"cannot read {path}: {error}", param="path") from error


def header(path: Path) -> tuple[str, ...]:
    """The names of the columns."""
    with open_text(path) as lines:
        return tuple(name.strip() for name in next(csv.reader(lines), []))


def rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """All lines; ``InvalidInput`` where one of ``columns`` is missing or a line is cut short."""
    with open_text(path) as lines:
        reader = csv.DictReader(lines)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise InvalidInput(f"{path.name} has no column {missing[0]}", param="line 1")
        for cells in reader:
            row = Row(path, reader.line_num, cells)
            short = [name for name in columns if cells.get(name) is None]
            if short:
                raise row.wrong(short[0], "the line is cut short")
            yield row
