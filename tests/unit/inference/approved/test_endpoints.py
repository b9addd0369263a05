"""What the endpoint controller makes of drawn Endpoints, Models and Adapters is what was approved."""

import random
from pathlib import Path

from tests.fixtures import approving as approved
from tests.unit.inference.approved.endpoint_course import EndpointCourse

STEPS = 12
READ, COUNTED = 1, 36
"""So many courses are kept as text, of so many further ones a digest."""


async def _told(seed: int, home: Path) -> str:
    return "\n".join([line async for line in EndpointCourse(random.Random(seed), home).play(STEPS)])


async def test_endpoints_become_what_was_approved(tmp_path: Path) -> None:
    told = [await _told(seed, tmp_path / str(seed)) for seed in range(READ + COUNTED)]
    kept = told[:READ] + list(map(approved.digest, told[READ:]))
    approved.check(Path(__file__).with_name("endpoints.txt"), {"courses": "\n".join(kept)})
