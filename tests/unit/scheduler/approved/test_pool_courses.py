"""What the scheduler writes, bills, counts and answers while a pool lives is what was approved."""

import random
from itertools import count
from pathlib import Path

import pytest

from tests.fixtures import approving as approved
from tests.unit.scheduler.approved.pool_course import PoolCourse

PASSES = 24
READ, COUNTED = 1, 6
"""So many pools are kept as text, of so many further ones a digest."""


@pytest.mark.parametrize("seed", range(READ + COUNTED))
async def test_a_pool_is_told_of_as_approved(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count(1)
    monkeypatch.setattr("common.ids.fresh_bits", lambda: next(numbers))
    course = PoolCourse(random.Random(seed))
    told = "\n".join([line async for line in course.play(PASSES)])
    kept = told if seed < READ else approved.digest(told)
    approved.check(Path(__file__).with_name("pools.txt"), {f"pool {seed}": kept})
