"""What is decided in random worlds is what was approved: a change of who starts where, who gives way and what
people are told is seen, however small.

That a decision is right is for the tests of promises and scenarios; here it is the same as before.
"""

from pathlib import Path

import pytest

from tests.fixtures import approving as approved
from tests.unit.scheduler.approved.story import WORLDS, story

CYCLES = 10
READ = 5
"""So many worlds of each kind are kept as text."""
BLOCKS, BLOCK = 6, 2
"""Of so many further worlds of each kind, times so many, a digest is kept; ``python -m
tests.unit.scheduler.approved.story KIND SEED 10`` tells their story. A test plays some of every kind."""


def told(kind: str, seed: int) -> str:
    return "\n".join(story(kind, seed, CYCLES))


@pytest.mark.parametrize("kind", WORLDS)
def test_worlds_go_as_approved(kind: str) -> None:
    file = Path(__file__).with_name(f"{kind}.txt")
    approved.check(file, {f"world {seed}": told(kind, seed) for seed in range(READ)})


@pytest.mark.parametrize("block", range(BLOCKS))
def test_many_more_worlds_go_as_approved(block: int) -> None:
    first = READ + block * BLOCK
    worlds = [(kind, seed) for kind in WORLDS for seed in range(first, first + BLOCK)]
    lines = [f"{kind} {seed} {approved.digest(told(kind, seed))}" for kind, seed in worlds]
    approved.check(Path(__file__).with_name("worlds.txt"), {f"block {block}": "\n".join(lines)})
