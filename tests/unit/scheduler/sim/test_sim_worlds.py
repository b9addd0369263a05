"""Random worlds, played to their end by the real cycle: what must hold in every cycle holds."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core.cycle import run_cycle
from scheduler.core.model.types import (
    DeviceView,
    NodeView,
    Policy,
    QueueView,
    Quota,
    Request,
    RoleView,
    Tide,
    WorkloadView,
)
from scheduler.sim.engine import simulate
from scheduler.sim.jobs import Job, NodeChange, TideChange
from scheduler.sim.options import Options
from scheduler.sim.result import SimResult
from tests.unit.scheduler.sim_build import GIB, gpu_job, gpu_node

VENDORS = (("nvidia", "A100"), ("ascend", "910B3"), ("amd", "MI300X"))
HORIZON_SECONDS = 4000


@st.composite
def nodes(draw: st.DrawFn) -> list[NodeView]:
    found = []
    for number in range(draw(st.integers(1, 5))):
        vendor, model = draw(st.sampled_from(VENDORS))
        devices = tuple(
            DeviceView(f"n{number}/{n}", n, vendor, model, 64 * GIB, island=n // 2)
            for n in range(draw(st.sampled_from((1, 2, 4, 8))))
        )
        rack = (("computility.io/rack", f"r{number % 2}"),)
        found.append(
            NodeView(f"n{number}", devices, labels=rack, cpu_millis=draw(st.sampled_from((0, 8000))))
        )
    return found


@st.composite
def queues(draw: st.DrawFn) -> list[QueueView]:
    def quota() -> tuple[Quota, ...]:
        if draw(st.booleans()):
            return ()
        lending = draw(st.sampled_from((None, 0, 1000)))
        borrowing = draw(st.sampled_from((None, 0, 2000)))
        return (Quota("*", draw(st.integers(0, 8)) * 1000, borrowing, lending),)

    limits = st.sampled_from((None, 3, 6))
    parent = draw(st.sampled_from(("", "all")))
    first = QueueView("a", draw(limits), parent, quotas=quota())
    second = QueueView("b", draw(limits), parent, weight=2, quotas=quota())
    return [first, second, *([QueueView("all", is_cohort=True)] if parent else [])]


@st.composite
def jobs(draw: st.DrawFn, shared: list[QueueView]) -> list[Job]:
    least = st.sampled_from((None, 1, 2))
    found = []
    for number in range(draw(st.integers(1, 14))):
        ranks = draw(st.integers(1, 5))
        whole = draw(st.booleans())
        request = Request(
            count=draw(st.sampled_from((1, 1, 2, 4))) if whole else 1,
            vendors=draw(st.sampled_from(((), ("nvidia",), ("amd", "ascend")))),
            share_millis=1000 if whole else draw(st.sampled_from((250, 500))),
            cpu_millis=draw(st.sampled_from((0, 1000))),
        )
        roles = [RoleView("main", ranks, request, draw(least))]
        if draw(st.integers(0, 4)) == 0:
            roles.append(RoleView("side", draw(st.integers(1, 2)), Request(count=1)))
        seconds = draw(st.integers(1, 600))
        workload = WorkloadView(
            uid=f"uid-{number}",
            project="p",
            name=f"job-{number}",
            queue=draw(st.sampled_from(("a", "b"))),
            priority=draw(st.sampled_from((0, 0, 10, 100))),
            created_ms=draw(st.integers(0, 900)) * 1000,
            roles=tuple(roles),
            preemptible=draw(st.booleans()),
            movable=draw(st.booleans()),
            expected_seconds=draw(st.sampled_from((None, seconds, 2 * seconds))),
            kind=draw(st.sampled_from(("training", "training", "other"))),
            grace_seconds=draw(st.sampled_from((0, 10))),
        )
        found.append(Job(workload, float(seconds), draw(st.sampled_from((0, 30))), 5, 5))
    return found


@st.composite
def changes(draw: st.DrawFn, pool: list[NodeView]) -> list[NodeChange | TideChange]:
    found: list[NodeChange | TideChange] = []
    for _ in range(draw(st.integers(0, 4))):
        at_ms = draw(st.integers(0, 1500)) * 1000
        if draw(st.booleans()):
            node = draw(st.sampled_from(pool))
            ill = draw(st.sampled_from(("cordoned", "lost", "broken")))
            if ill == "broken":
                broken = replace(node.devices[0], healthy=False)
                after = replace(node, devices=(broken, *node.devices[1:]))
            else:
                after = replace(node, cordoned=ill == "cordoned", alive=ill != "lost")
            found += [NodeChange(at_ms, after), NodeChange(at_ms + 300_000, node)]
        else:
            found.append(TideChange(at_ms, (Tide("*", draw(st.integers(0, 10)) * 1000),)))
            found.append(TideChange(at_ms + 400_000, ()))
    return found


def play(
    pool: list[NodeView], shared: list[QueueView], work: list[Job], later: list[NodeChange | TideChange]
) -> SimResult:
    options = Options(HORIZON_SECONDS, start_ms=0, spans=5, heartbeat_seconds=200)
    return simulate(pool, shared, work, Policy(min_run_seconds=30), options, run_cycle, changes=later)


@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_must_hold_holds_in_every_cycle(data: st.DataObject) -> None:
    pool, shared = data.draw(nodes()), data.draw(queues())
    work, later = data.draw(jobs(shared)), data.draw(changes(pool))
    result = play(pool, shared, work, later)
    assert result.outcomes == play(pool, shared, work, later).outcomes, "same input, same output"
    for outcome in result.outcomes:
        if outcome.ended_ms is not None:
            done = outcome.useful_device_seconds
            tick = (1e-3 + 1e-9) * max(1, outcome.devices)  # the clock counts milliseconds; floats round
            assert done == pytest.approx((outcome.seconds or 0) * outcome.devices, rel=1e-6, abs=tick)


@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_reservations_are_not_delayed_where_users_promise_too_much(data: st.DataObject) -> None:
    draw = data.draw
    pool = [gpu_node(f"n{n}", 4) for n in range(draw(st.integers(1, 3)))]
    work = []
    for number in range(draw(st.integers(2, 25))):
        seconds = draw(st.integers(5, 400))
        ranks = draw(st.sampled_from((1, 1, 1, 2, 4, 8)))
        bound = seconds + draw(st.integers(0, seconds))
        at_seconds = draw(st.integers(0, 300))
        work.append(gpu_job(f"j{number}", ranks, seconds, at_seconds, expected_seconds=bound, kind="other"))
    options = Options(20_000, start_ms=0, spans=2, promises=True, heartbeat_seconds=60)
    result = simulate(pool, [QueueView("default")], work, Policy(), options, run_cycle)
    fitting = [o for o in result.outcomes if o.devices <= 4 * len(pool)]
    assert all(outcome.ended_ms is not None for outcome in fitting)
