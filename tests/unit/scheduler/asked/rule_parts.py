"""What small rules of the core answer to drawn numbers: which queues, windows and loads cannot be, and by
which field; which replicas are replaced; which spans are due; how full engines are."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from common.errors import InvalidInput
from scheduler.core.lifecycle.metering import due_spans
from scheduler.core.lifecycle.rolling import ReplicaProgress, next_replacements
from scheduler.core.model.rules import QueueRules
from scheduler.core.model.types import PeriodBudget, QueueView, Quota
from scheduler.core.quota.queue_members import grow_tree, stranger
from scheduler.core.quota.queue_rules import DEFAULTS, inherited
from scheduler.core.tide.engine_load import fullness
from scheduler.core.tide.tidal import LoadRule, parse_window
from tests.fixtures.approving import told
from tests.unit.scheduler.asked.small import small_queues

MISTAKES: tuple[dict[str, Any], ...] = (
    {},
    {"name": "b"},
    {"parent": "a"},
    {"weight": -1},
    {"weight": 0},
    {"max_devices": -1},
    {"max_devices": 0},
    {"quotas": (Quota("Nvidia/Big"), Quota("nvidia/big"))},
    {"quotas": (Quota("no such/class/"),)},
    {"quotas": (Quota("*", -1),)},
    {"quotas": (Quota("*", 1, -1),)},
    {"quotas": (Quota("*", 1, 0, -1),)},
    {"quotas": (Quota("*", 0, 0, 0),)},
    {"budgets": (PeriodBudget("a b", 1, 0, 0),)},
    {"budgets": (PeriodBudget("*", -1, 0, 0),)},
    {"budgets": (PeriodBudget("*", 0, 0, 0),)},
    {"rules": QueueRules(preempt_min_runtime_seconds=-1)},
    {"rules": QueueRules(reclaim_min_runtime_seconds=-1)},
    {"rules": QueueRules(preempt_min_runtime_seconds=0, reclaim_min_runtime_seconds=0)},
)


def rule_answers(seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    views = [replace(one, rules=QueueRules()) for one in small_queues(rng)]
    at = rng.choice([number for number, one in enumerate(views) if not one.is_cohort])
    views[at] = replace(views[at], **MISTAKES[seed % len(MISTAKES)])
    yield _tried(lambda: _tree(views))
    one, above = (replace(view.rules) for view in small_queues(rng)[:2])
    yield f"{told(inherited(one, above))} {told(inherited(one, DEFAULTS))}"
    text = rng.choice(("Mon-Fri 08:00-18:00", "08:00-06:00", "Sat", "25:00-26:00", "Mon 08:00-08:00"))
    yield _tried(lambda: told(parse_window(text, "nvidia", rng.choice((-1, 0, 1)))))
    numbers = {
        "load_per_replica": rng.choice((0.0, 1.0)),
        "replica_millis": rng.choice((0, 1)),
        "headroom": rng.choice((-0.1, 0.0)),
        "ahead_seconds": rng.choice((-1, 0)),
        "release_seconds": rng.choice((-1, 0)),
    }
    yield _tried(lambda: told(LoadRule("nvidia", **numbers)))  # type: ignore[arg-type]
    replicas = [
        ReplicaProgress(f"r{number}", *(rng.random() < 0.5 for _ in range(4)))
        for number in range(rng.randrange(8))
    ]
    limits = rng.randrange(4), rng.randrange(5)
    yield f"{told(replicas)} {limits}: {told(next_replacements(replicas, *limits))}"
    started_ms = rng.choice((0, 1, 999, 1000))
    ended_ms = started_ms + rng.choice((-1, 0, 999, 1000, 60_000, 60_999, 61_000, 120_000))
    spans = due_spans(
        started_ms, rng.choice((None, ended_ms)), ended_ms, rng.choice((1, 7, 60)), rng.randrange(3)
    )
    yield told(spans[:3] + spans[-1:])
    yield told(fullness(rng.randrange(9), rng.choice((0.0, 0.4, 0.8, 0.95)), rng.choice((1.0, 4.0)), 0.8))


def _tree(views: list[QueueView]) -> str:
    members = grow_tree(views, {("nvidia", "big"): 4000, ("cpu", "cpu"): 8000})
    told_of = [
        (
            one.name,
            one.is_cohort,
            one.height,
            one.limit_millis,
            [above.name for above in one.chain],
            one.recent,
        )
        for one in (*members.values(), stranger("s"))
    ]
    return told(told_of)


def _tried(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except InvalidInput as error:
        return f"{error.param}: {error}"
