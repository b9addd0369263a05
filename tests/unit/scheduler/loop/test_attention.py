"""Which workloads are looked at again although nothing has changed; and gauges of what is gone."""

from typing import Any, cast

import pytest
from prometheus_client import Gauge

from common.clock import VirtualClock
from common.resources import Metadata, Workload
from common.resources.workload import NextGang, WorkloadRole, WorkloadSpec, WorkloadStatus
from scheduler import metrics
from scheduler.attention import SWEEP_SECONDS, Attention, is_at_rest
from scheduler.translate.observed import Observed
from tests.unit.scheduler.loop_scene import Scene

SUCCESSOR = NextGang(cause="Update", beside=True, attempt=2, digest="d", ranks=[])


class World:
    def __init__(self, workload: Workload) -> None:
        self.workloads = {"u": workload}


@pytest.mark.parametrize(
    ("status", "rests"),
    [
        ({"phase": "Running"}, True),
        ({"phase": "Ready"}, True),
        ({"phase": "Pending"}, True),
        ({"phase": "Succeeded"}, True),
        ({"phase": "Starting"}, False),
        ({"phase": "Restarting", "next_start_ms": 5}, False),
        ({"phase": "Running", "next_start_ms": 5}, False),
        ({"phase": "Pending", "next_start_ms": 5}, True),
        ({"phase": "Running", "next": SUCCESSOR}, False),
        ({"phase": "Ready", "next": SUCCESSOR}, False),
    ],
)
def test_what_time_or_a_successor_will_change_is_looked_at_again(status: dict[str, Any], rests: bool) -> None:
    spec = WorkloadSpec(roles=[WorkloadRole(name="main", command=["x"])])
    workload = Workload(metadata=Metadata(name="w", project="p"), spec=spec, status=WorkloadStatus(**status))
    assert is_at_rest("u", cast(Any, World(workload)), Observed()) is rests


def test_a_loop_that_begins_shows_nothing_of_what_was_before() -> None:
    kept = [
        gauge for gauge in vars(metrics).values() if isinstance(gauge, Gauge) and gauge is not metrics.TIDE
    ]
    for gauge in kept:
        gauge.labels(*("gone" for _ in gauge._labelnames)).set(1)
    Scene()
    assert [sample for gauge in kept for family in gauge.collect() for sample in family.samples] == []


class NothingNew:
    def take_workloads(self) -> set[str]:
        return set()


class ManyWorkloads:
    def __init__(self, count: int) -> None:
        self.workloads = {f"w{number}": None for number in range(count)}

    def reader(self) -> NothingNew:
        return NothingNew()


@pytest.mark.parametrize("count", [1, 7, 100])
@pytest.mark.parametrize("parts", [3, 10, 144])
def test_each_is_looked_at_as_often_as_all_others(count: int, parts: int) -> None:
    clock, world = VirtualClock(), ManyWorkloads(count)
    attention = Attention(cast(Any, world), clock)
    looked: list[str] = []
    for number in range(1, 2 * parts + 1):
        clock.advance(SWEEP_SECONDS / parts)
        found = attention._sweep()
        assert len(found) == len(set(found))
        looked += found
        assert len(looked) == pytest.approx(count * number / parts, abs=count % parts + 1)
    times = [looked.count(name) for name in world.workloads]
    assert max(times) - min(times) <= 1
    assert min(times) >= 1
