"""What is decided in random worlds is what was approved: a change of who starts where, who gives way and what
people are told is seen, however small.

That a decision is right is for the tests of promises and scenarios; here it is the same as before.
"""

from pathlib import Path

import pytest

from tests.fixtures import approved
from tests.unit.scheduler.approved.story import WORLDS, story

CYCLES = 10
READ, AT_ONCE = 5, 5
"""So many worlds of each kind are kept as text, so many in a test."""
COUNTED, COUNTED_AT_ONCE = 40, 10
"""Of so many further ones a digest is kept; ``python -m tests.unit.scheduler.approved.story KIND SEED 10``
tells their story."""


def kept_in(kind: str) -> Path:
    return Path(__file__).with_name(f"{kind}.txt")


def told(kind: str, seed: int) -> str:
    return "\n".join(story(kind, seed, CYCLES))


@pytest.mark.parametrize("first", range(0, READ, AT_ONCE))
@pytest.mark.parametrize("kind", WORLDS)
def test_worlds_go_as_approved(kind: str, first: int) -> None:
    seeds = range(first, first + AT_ONCE)
    approved.check(kept_in(kind), {f"world {seed}": told(kind, seed) for seed in seeds})


@pytest.mark.parametrize("first", range(READ, READ + COUNTED, COUNTED_AT_ONCE))
@pytest.mark.parametrize("kind", WORLDS)
def test_many_more_worlds_go_as_approved(kind: str, first: int) -> None:
    last = first + COUNTED_AT_ONCE - 1
    lines = [f"{seed} {approved.digest(told(kind, seed))}" for seed in range(first, last + 1)]
    approved.check(kept_in(kind), {f"digests of worlds {first} to {last}": "\n".join(lines)})
