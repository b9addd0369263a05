"""What ranks take of a node's CPU and memory is not there for the next one."""

from typing import Any

import pytest

from scheduler.core.model.types import Policy, QueueView
from scheduler.core.placement.placing import ANYWHERE
from scheduler.core.placement.snapshot import take_snapshot
from scheduler.core.placement.trial import Trial
from tests.unit.scheduler.build import GIB, NOW_MS, admitted, cycle, gpu, holding, node, role, workload

HOST = node("a", gpu(0), gpu(1), gpu(2), cpu_millis=8000, host_memory_bytes=100 * GIB)
TAKES = [{"cpu_millis": 5000}, {"host_memory_bytes": 60 * GIB}]
NVIDIA = ("nvidia",)


@pytest.mark.parametrize("takes", TAKES)
def test_what_one_takes_of_the_host_the_next_one_does_not_get(takes: dict[str, Any]) -> None:
    first, second = (workload(name, role(vendors=NVIDIA, **takes)) for name in ("first", "second"))
    assert admitted(cycle([HOST], first, second)) == ["first"]


@pytest.mark.parametrize("takes", TAKES)
def test_nor_after_somebody_else_has_left_the_node(takes: dict[str, Any]) -> None:
    leaves = holding("leaves", HOST, 0)
    snapshot = take_snapshot([HOST], [QueueView("default")], (), [leaves])
    trial = Trial(snapshot, Policy(), NOW_MS)
    first, second = (workload(name, role(vendors=NVIDIA, **takes)) for name in ("first", "second"))
    assert isinstance(trial.place(first, ANYWHERE), tuple)
    trial.evict("uid-leaves")
    assert not isinstance(trial.place(second, ANYWHERE), tuple)
