"""What parts of the core answer in drawn worlds and to drawn numbers is what was approved."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import InvalidInput
from scheduler.core.fragmentation.cutting_stock import worth_of_free
from scheduler.core.fragmentation.fragmentation import TypicalTask, typical_tasks
from scheduler.core.fragmentation.linear import shadow_prices
from scheduler.core.fragmentation.usable_capacity import UsableCapacity, Usual
from scheduler.core.model.islands import IslandMember, islands_of
from scheduler.core.model.types import Policy
from scheduler.core.quota.spending import PERIODS, Spent, renews_ms, spend
from scheduler.core.tide.tidal import LoadRule
from tests.fixtures import approving as approved
from tests.unit.scheduler.approved.core_answers import answers

KEPT = Path(__file__).with_name("core_answers.txt")
READ = 2
BLOCKS, BLOCK = 10, 10


@pytest.mark.parametrize("block", range(BLOCKS))
def test_parts_of_the_core_answer_as_approved(block: int) -> None:
    told = ["\n".join(answers(seed)) for seed in range(block * BLOCK, (block + 1) * BLOCK)]
    approved.check(KEPT, {f"block {block}": "\n".join(map(approved.digest, told))})


@pytest.mark.parametrize("seed", range(READ))
def test_parts_of_the_core_answer_as_can_be_read(seed: int) -> None:
    approved.check(KEPT, {f"world {seed}": "\n".join(answers(seed))})


SHARES = (1, 5, 45, 50, 100, 241, 250, 333, 500, 700, 950, 995, 999, 1000)


def _cuts(rng: random.Random) -> Any:
    """What parts of devices are worth to who asks for shares, and which tasks are usual."""
    demand = {rng.choice(SHARES): rng.choice((0.0, 0.5, 1.0, 3.0)) for _ in range(rng.randrange(5))}
    cpus = (0, 1000, 8000)
    usual = [
        Usual(rng.choice((0.1, 1.0)), rng.choice(cpus), rng.choice((1, 2)), rng.choice((250, 500, 1000)))
        for _ in range(rng.randrange(1, 5))
    ]
    capacity = UsableCapacity(usual)
    free = tuple(rng.choice((0, 100, 250, 700, 1000, 2000)) for _ in range(3))
    tasks = [
        TypicalTask(
            rng.choice((0.5, 1.0, 4.0)), rng.choice(cpus), rng.randrange(3), 500, rng.choice(((), ("a",)))
        )
        for _ in range(rng.randrange(8))
    ]
    return (
        worth_of_free(demand),
        capacity.short_millis(rng.choice((0, 500, 9000)), sum(free)),
        capacity.worthless_millis(free),
        typical_tasks(tasks, rng.choice((0.5, 0.95, 1.0))) if tasks else (),
    )


def _prices(rng: random.Random) -> Any:
    """What one more of each limited thing would add."""
    rows, columns, cases = rng.randrange(1, 5), rng.randrange(1, 6), rng.randrange(1, 4)
    matrix = np.array([[float(rng.choice((0, 0, 1, 2, 5))) for _ in range(columns)] for _ in range(rows)])
    matrix[rng.randrange(rows)] += 1.0
    values = np.array([float(rng.choice((0, 1, 3))) for _ in range(columns)])
    limits = np.array([[float(rng.choice((0, 1, 4, 10))) for _ in range(cases)] for _ in range(rows)])
    return [[round(float(one), 6) + 0.0 for one in case] for case in shadow_prices(matrix, values, limits)]


def _islands(rng: random.Random) -> Any:
    """Which devices of a node are one island."""
    names = [f"d{number}" for number in range(rng.randrange(1, 9))]
    kinds = ("NVLink", "HCCS", "XGMI", "SIO", "PCIe", "")
    return islands_of(
        [
            IslandMember(
                name,
                rng.choice((at, at, rng.randrange(9))),
                tuple((rng.choice((*names, "gone")), rng.choice(kinds)) for _ in range(rng.randrange(3))),
                rng.choice((0, 2, 4)),
            )
            for at, name in enumerate(names)
        ]
    )


DAY_MS = 86_400_000


def _spending(rng: random.Random) -> Any:
    """What queues have spent of their budgets, and when these renew."""
    now_ms = 1_700_000_000_000 + rng.randrange(800) * DAY_MS + rng.choice((0, 1, 80_000_000))
    since_ms = now_ms - rng.choice((-5, 0, 60_000, DAY_MS, 9 * DAY_MS, 40 * DAY_MS))
    midnight_ms = now_ms - now_ms % DAY_MS
    since_ms = rng.choice((since_ms, midnight_ms, midnight_ms - 1))
    months, decayed = (0.0, 9.0), (0.0, 0.5, 7.0)
    spent = {name: Spent(rng.random(), 5.0, rng.choice(months), rng.choice(decayed)) for name in "ab"}
    held = {name: rng.choice((0.0, 1.0, 2.5)) for name in "bc"}
    return spend(spent, held, since_ms, now_ms), [renews_ms(period, now_ms) for period in PERIODS]


def _refused(rng: random.Random) -> Any:
    """Which rules of loads cannot be, and by which field."""
    numbers: dict[str, Any] = {
        "load_per_replica": rng.choice((-1.0, 0.0, 0.5, 1.0)),
        "replica_millis": rng.choice((-1, 0, 1, 1000)),
        "headroom": rng.choice((-0.1, 0.0, 0.5)),
        "ahead_seconds": rng.choice((-1, 0, 1)),
        "release_seconds": rng.choice((-1, 0, 1)),
    }
    try:
        return LoadRule("nvidia", **numbers)
    except InvalidInput as error:
        return f"{error.param}: {error}"


RULES: dict[str, tuple[Callable[[random.Random], Any], int]] = {
    "cuts": (_cuts, 300),
    "prices": (_prices, 150),
    "islands": (_islands, 500),
    "spending": (_spending, 400),
    "rules of loads": (_refused, 300),
}


@pytest.mark.parametrize("name", RULES)
def test_rules_of_the_core_answer_as_approved(name: str) -> None:
    ask, draws = RULES[name]
    told = [approved.told(ask(random.Random(seed))) for seed in range(draws)]
    approved.check(KEPT, {name: approved.kept(told, 3)})


def test_the_usual_policy_is_what_was_approved() -> None:
    approved.check(KEPT, {"policy": approved.told(Policy())})
