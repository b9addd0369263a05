"""What the simulator says of input and decisions that must not be is what was approved: traces after
accidents, and schedulers that err."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import InvalidInput
from scheduler.core.cycle import run_cycle
from scheduler.core.model.types import (
    Admit,
    Decision,
    Defer,
    Migrate,
    Policy,
    Preempt,
    QueueView,
    Quota,
    Reason,
    Request,
    Resize,
    RoleView,
    RunningView,
    Tide,
    WorkloadView,
)
from scheduler.core.placement.snapshot import Snapshot
from scheduler.sim.engine import simulate
from scheduler.sim.habits import Habits
from scheduler.sim.invariants import Invariants
from scheduler.sim.jobs import NodeChange, TideChange
from scheduler.sim.options import Options
from scheduler.sim.traces import read_jobs, read_nodes
from tests.fixtures.drawing import Drawn, told
from tests.unit.scheduler.drawn.courses import PARTS, Draw, check, check_draws
from tests.unit.scheduler.drawn.test_simulation_parts import error_of, node_of, outcome_of, placement_of
from tests.unit.scheduler.sim_build import gpu_job, gpu_node

Answers = Iterator[Any]


def _invariants(drawn: Drawn) -> Answers:
    """Which rule is said to be broken, and how."""
    rng = drawn.rng
    queues = [
        QueueView("all", is_cohort=True, quotas=(Quota("*", 2000),)),
        QueueView(
            "a", rng.choice((None, 1)), "all", quotas=(Quota("nvidia", 1000, rng.choice((None, 500))),)
        ),
        QueueView("b", None, rng.choice(("", "all")), quotas=(Quota("AMD", 500),)),
    ]
    rules = Invariants([node_of(rng, name) for name in "ab"], queues, rng.choice((0, 5)))
    workload = drawn.of(WorkloadView, roles=(RoleView("main", 3, Request(), 2),))
    for cycle in range(5):
        rules.cycle = cycle
        placement, before = placement_of(rng, ("main", "main", "main", "side")), placement_of(rng)
        yield error_of(rules.placed, placement, rng.choice((before, placement[1:])))
        yield error_of(rules.whole, workload, rng.choice((placement, placement[:2], placement[:1] * 2)))
        yield error_of(rules.devices, [placement, before])
        yield error_of(rules.quotas, [drawn.of(RunningView, placement=placement_of(rng)) for _ in range(3)])
        rules.promises(drawn.some(Defer, 3))
        late_ms = 1_700_000_000_000 + rng.choice((-1_000_000, 0, 1, 4999, 5000, 5001, 700_000))
        yield error_of(rules.overdue, late_ms)
        yield error_of(rules.kept, f"uid-{rng.randrange(3)}", late_ms)
        if rng.random() < 0.2:
            rules.forget()


TRACES = {
    "openb nodes": "sn,cpu_milli,memory_mib,gpu,model,vendor\nn0,64000,1024,2,T4,\nn1,1000,2,1,G3,amd\n",
    "philly": "submit_s,duration_s,num_gpus,vc\n60,300,4,a\n0,0,1,b\n120,10.5,2,a\n",
    "kalos": "job_id,submit_s,duration_s,gpu_num,type\n7,5,60,8,Pre/Train\n8,1,2,1,Eval\n",
    "openb": "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,"
    "creation_time,deletion_time,scheduled_time\n"
    "p0,1000,64,1,500,T4|P100|T4,BE,10,90,20\np1,1,2,2,1000,,,5,6,\np2,1,2,0,0,,LS,7,3,9\n",
}


def _traces(name: str, folder: Path) -> Answers:
    """What is read of a trace, and of the same after an accident of every kind."""
    path, cells = folder / "trace.csv", [line.split(",") for line in TRACES[name].splitlines()]
    read: Callable[[], Any] = lambda: read_nodes(path)  # noqa: E731
    if name != "openb nodes":
        habits = Habits(1, 0.3, elastic_part=0.5, vendor="amd")
        read = lambda: [(job, job.workload) for job in read_jobs(path, habits)]  # noqa: E731
    for row, column in [
        (None, 0),
        *((row, column) for row, line in enumerate(cells) for column in range(len(line))),
    ]:
        for other in ("", "x", "-1", "2.5") if row is not None else ("",):
            changed = [list(line) for line in cells]
            if row is not None:
                changed[row][column] = other
            path.write_text("\n".join(",".join(line) for line in changed))
            yield error_of(read)
    path.write_text("\n".join(",".join(line[:-1]) if n else ",".join(line) for n, line in enumerate(cells)))
    yield error_of(read)


def _wrong_decisions(rng: random.Random) -> Callable[[Snapshot, Policy, int], list[Decision]]:
    """A scheduler that sometimes decides what must not be."""

    def decide(snapshot: Snapshot, policy: Policy, now_ms: int) -> list[Decision]:
        decisions = list(run_cycle(snapshot, policy, now_ms))
        admits = [one for one in decisions if isinstance(one, Admit)]
        running = [view.workload.uid for view in snapshot.running]
        if rng.random() < 0.9:
            return decisions
        uid = rng.choice([*running, "nobody", *(one.uid for one in admits)])
        places = rng.choice([one.placement for one in admits] or [()])
        strange: tuple[Decision, ...] = (
            Admit(uid, places),
            Admit(uid, places[1:]),
            Preempt(uid, "nobody", "m"),
            Resize(uid, places, "m"),
            Migrate(uid, tuple(rank._replace(node="none") for rank in places), "m"),
            Defer(uid, (Reason("Strange", "m"),), "never"),
            Defer(uid, (Reason("Late", "m"),), "soon", reserved_ms=now_ms + 1000),
        )
        return [*decisions, rng.choice(strange)]

    return decide


def _engine(drawn: Drawn) -> Answers:
    """How simulations end whose scheduler errs, with nodes and tides that change, and jobs that are there
    twice."""
    rng = drawn.rng
    nodes = [gpu_node("n0", 4), gpu_node("n1", 2)]
    jobs = [
        gpu_job(
            f"j{rng.randrange(60)}" if number else "j99",
            rng.choice((1, 2, 4)),
            rng.choice((50.0, 400.0, None)),
            at_seconds=rng.randrange(300),
            queue=rng.choice("ab"),
            least=rng.choice((None, 1)),
            expected_seconds=200,
        )
        for number in range(8)
    ]
    broken = replace(nodes[0], devices=(replace(nodes[0].devices[0], healthy=False), *nodes[0].devices[1:]))
    changes: list[NodeChange | TideChange] = [
        NodeChange(
            rng.randrange(400_000),
            rng.choice((replace(nodes[0], alive=False), broken, replace(nodes[1], cordoned=True))),
        ),
        TideChange(rng.randrange(400_000), (Tide("nvidia", 2000),)),
    ]
    options = Options(
        horizon_seconds=rng.choice((300, 900)),
        warmup_seconds=rng.choice((0, 100)),
        drain_seconds=rng.choice((0, 600)),
        batch_seconds=rng.choice((0, 30)),
        heartbeat_seconds=60,
        spans=4,
        audit_every=rng.choice((1, 3)),
        promises=rng.random() < 0.5,
        start_ms=rng.choice((None, 0)),
    )
    queues = (QueueView("a", 3), QueueView("b"))

    def played() -> Any:
        result = simulate(nodes, queues, jobs, Policy(), options, _wrong_decisions(rng), changes=changes)
        yield result.start_ms, result.end_ms, result.cycles, result.decisions, result.totals, result.etas
        yield result.useless_preemptions, result.voided_preemptions
        yield [outcome_of(outcome) for outcome in result.outcomes]

    yield error_of(lambda: list(played()))


RULES: dict[str, Draw] = {
    "invariants": (_invariants, 40),
    "engine": (_engine, 30),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", RULES)
def test_what_must_not_be_is_said_as_approved(name: str, part: int) -> None:
    check_draws(Path(__file__), name, part, RULES[name])


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_is_read_as_approved(name: str, tmp_path: Path) -> None:
    answers = [told(answer).replace(str(tmp_path), "") for answer in _traces(name, tmp_path)]
    check(Path(__file__), f"trace of {name}", 0, [answers[:1], answers])


@pytest.mark.parametrize(
    ("habits", "field"),
    [({"estimate_error": 1.1}, "estimate_error"), ({"elastic_part": -0.1}, "elastic_part"),
     ({"estimate_step": 2.0}, "estimate_step"), ({"elastic_least": 1.5}, "elastic_least")],
)  # fmt: skip
def test_a_habit_is_a_part_of_one(habits: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidInput, match=f"{field} is a part of one") as refused:
        Habits(**habits)  # type: ignore[arg-type]
    assert refused.value.param == field
