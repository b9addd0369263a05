"""What a gateway answers, asks engines, bills, counts and ships in drawn courses is what was approved."""

import random
from itertools import count
from pathlib import Path

import pytest

from tests.fixtures import approving as approved
from tests.unit.inference.approved.gateway_course import GatewayCourse
from tests.unit.inference.gateway.front_scene import front_scene

REQUESTS = 16
READ, COUNTED, TOGETHER = 1, 40, 5
"""So many courses are kept as text, of so many further ones a digest; so many are one test."""


async def _told(seed: int, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    numbers = count(1)
    monkeypatch.setattr("common.ids.fresh_bits", lambda: next(numbers))
    course = GatewayCourse(random.Random(seed))
    async with front_scene(home, monkeypatch, engines=len(course.roles), **course.limits) as front:
        return "\n".join([line async for line in course.play(front, REQUESTS)])


@pytest.mark.parametrize("seed", range(READ))
async def test_a_gateway_does_what_was_approved(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _approve(f"gateway {seed}", await _told(seed, tmp_path, monkeypatch))


@pytest.mark.parametrize("first", range(READ, READ + COUNTED, TOGETHER))
async def test_gateways_do_what_was_approved(
    first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = range(first, first + TOGETHER)
    told = [await _told(seed, tmp_path / str(seed), monkeypatch) for seed in seeds]
    _approve(f"gateways from {first}", "\n".join(map(approved.digest, told)))


def _approve(name: str, text: str) -> None:
    approved.check(Path(__file__).with_name("gateway.txt"), {name: text})
