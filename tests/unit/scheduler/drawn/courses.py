"""How what parts tell in drawn courses is compared with what was approved: of the first course as text, of
all others as a digest. Courses are played in ``PARTS``, so that a test takes a moment only."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import approving as approved
from tests.fixtures.drawing import Drawn, told

PARTS = range(3)
Answers = AsyncIterator[Any]
Course = tuple[Callable[[Drawn], Answers], int]
"""What is played, and so many times."""
Draw = tuple[Callable[[Drawn], Iterator[Any]], int]


def check_draws(file: Path, name: str, part: int, draw: Draw) -> None:
    """Draw, and compare what is told with what is kept beside ``file``, a test."""
    play, draws = draw
    seeds = range(part, draws, len(PARTS))
    check(file, name, part, [[told(each) for each in play(Drawn(random.Random(seed)))] for seed in seeds])


async def check_courses(
    file: Path,
    name: str,
    part: int,
    course: Course,
    monkeypatch: pytest.MonkeyPatch,
    pools: Mapping[str, Sequence[Any]],
) -> None:
    """The same of courses that wait for others. In each, ids are counted anew."""
    play, courses = course
    answers = []
    for seed in range(part, courses, len(PARTS)):
        monkeypatch.setattr("common.ids.fresh_bits", partial(next, count(1)))
        answers.append([told(each) async for each in play(Drawn(random.Random(seed), **pools))])
    check(file, name, part, answers)


def check(file: Path, name: str, part: int, answers: Sequence[Sequence[str]]) -> None:
    """Compare them with the text of this name, which a file of the same name as ``file`` keeps."""
    read = [line for each in answers[:1] for line in each] if part == 0 else []
    everything = approved.digest("\n".join(line for each in answers for line in each))
    kept = file.with_name(file.stem.removeprefix("test_")).with_suffix(".txt")
    approved.check(kept, {f"{name} {part}": "\n".join([*read, f"all: {everything}"])})


def _next(numbers: Iterator[int], bits: int) -> int:
    return next(numbers)
