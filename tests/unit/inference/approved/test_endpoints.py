"""What the endpoint controller makes of drawn Endpoints, Models and Adapters is what was approved."""

import random
from pathlib import Path

import pytest

from tests.fixtures import approving as approved
from tests.unit.inference.approved.endpoint_course import EndpointCourse

STEPS = 12
READ, COUNTED, TOGETHER = 1, 36, 6
"""So many courses are kept as text, of so many further ones a digest; so many are one test."""


async def _told(seed: int, home: Path) -> str:
    return "\n".join([line async for line in EndpointCourse(random.Random(seed), home).play(STEPS)])


@pytest.mark.parametrize("first", [0, *range(READ, READ + COUNTED, TOGETHER)])
async def test_endpoints_become_what_was_approved(first: int, tmp_path: Path) -> None:
    seeds = range(first, first + TOGETHER if first >= READ else READ)
    told = [await _told(seed, tmp_path / str(seed)) for seed in seeds]
    text = "\n".join(told if first < READ else map(approved.digest, told))
    approved.check(Path(__file__).with_name("endpoints.txt"), {f"courses from {first}": text})
