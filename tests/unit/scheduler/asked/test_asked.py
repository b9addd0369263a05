"""What each part of the core answers when it is asked all that it can be asked, about small drawn worlds, is
what was approved. Kept are the answers about the first world, to be read, and a digest of those about each
other."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures import approving as approved
from tests.unit.scheduler.asked.claim_parts import claim_answers, node_answers, room_answers
from tests.unit.scheduler.asked.cycle_parts import (
    cycle_answers,
    far_answers,
    forecast_answers,
    history_answers,
)
from tests.unit.scheduler.asked.place_parts import (
    books_answers,
    later_answers,
    place_answers,
    remedy_answers,
    trial_answers,
)
from tests.unit.scheduler.asked.pool_parts import mix_answers, pool_answers
from tests.unit.scheduler.asked.quota_parts import order_answers, pledge_answers, quota_answers
from tests.unit.scheduler.asked.reshape_parts import move_answers, rank_answers, start_answers
from tests.unit.scheduler.asked.rule_parts import rule_answers

Answers = Callable[[int], Iterator[str]]
BLOCKS = 4
PARTS: dict[str, tuple[Answers, int]] = {
    "pool": (pool_answers, 40),
    "mix": (mix_answers, 96),
    "claims": (claim_answers, 96),
    "room": (room_answers, 72),
    "node": (node_answers, 120),
    "places": (place_answers, 84),
    "later": (later_answers, 60),
    "remedies": (remedy_answers, 36),
    "rules": (rule_answers, 228),
    "trial": (trial_answers, 60),
    "books": (books_answers, 60),
    "moves": (move_answers, 72),
    "ranks": (rank_answers, 72),
    "starts": (start_answers, 48),
    "cycles": (cycle_answers, 24),
    "forecast": (forecast_answers, 36),
    "far": (far_answers, 8),
    "history": (history_answers, 48),
    "quota": (quota_answers, 52),
    "order": (order_answers, 120),
    "pledge": (pledge_answers, 72),
}
"""How a part is asked about the world of a seed, and of how many seeds."""


def _file(part: str) -> Path:
    return Path(__file__).with_name(f"{part}.txt")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_answers_as_can_be_read(part: str) -> None:
    approved.check(_file(part), {"world 0": "\n".join(PARTS[part][0](0))})


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("block", range(BLOCKS))
def test_a_part_answers_as_approved(part: str, block: int) -> None:
    ask, seeds = PARTS[part]
    told = [approved.digest("\n".join(ask(seed))) for seed in range(1 + block, seeds, BLOCKS)]
    approved.check(_file(part), {f"block {block}": "\n".join(told)})
