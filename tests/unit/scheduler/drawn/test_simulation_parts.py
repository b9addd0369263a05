"""What the parts of the simulator make of drawn input is what was approved: runs, served load, books, charts
and reports."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import ComputilityError
from scheduler.core.model.types import (
    Admit,
    Assignment,
    Decision,
    Defer,
    DeviceView,
    NodeView,
    Placement,
    Preempt,
    QueueView,
    Request,
    RoleView,
    Share,
    WorkloadView,
)
from scheduler.core.tide.tidal import LoadRule
from scheduler.sim import compare, svg
from scheduler.sim.books import DeviceTimeBooks
from scheduler.sim.eta import Eta, Forecasts, median_error
from scheduler.sim.jobs import Job, JobOutcome, RunState
from scheduler.sim.report import html_report
from scheduler.sim.result import SimResult, Totals
from scheduler.sim.runs import Run, speed_of
from scheduler.sim.series import Recorder, jain
from scheduler.sim.serving import FluidQueue, Load, Service, ServiceSpec, samples_of, serve_statically
from scheduler.sim.svg import Axis, Curve
from scheduler.sim.useless import Useless
from tests.fixtures import approving as approved
from tests.fixtures.drawing import Drawn
from tests.unit.scheduler.drawn.courses import PARTS, Draw, check_draws

Answers = Iterator[Any]
MODELS = (("nvidia", "A100"), ("amd", "MI300X"), ("cpu", "cpu"))


def error_of(work: Callable[..., Any], *arguments: Any) -> Any:
    """What comes of it, or the whole error."""
    try:
        return work(*arguments)
    except ComputilityError as error:
        return f"{type(error).__name__} {error.code} {error.param}: {error}"


def placement_of(rng: random.Random, roles: Sequence[str] = ("main", "side"), most: int = 4) -> Placement:
    def share() -> Share:
        vendor, model = rng.choice(MODELS)
        return Share(
            f"d{rng.randrange(3)}", 0, vendor, model, rng.choice((1, 40, 90)), rng.choice((250, 500, 1000))
        )

    return tuple(
        Assignment(
            rng.choice(roles),
            number,
            number,
            rng.choice("ab"),
            tuple(share() for _ in range(rng.choice((1, 1, 2)))),
        )
        for number in range(rng.randrange(1, most + 1))
    )


def _runs(drawn: Drawn) -> Answers:
    """The progress of a job that starts, changes size, moves, leaves and is stopped."""
    rng, now_ms = drawn.rng, 1_000_000
    roles = (RoleView("main", 4, Request(), 1), RoleView("side", 2, Request(count=2), 1))
    workload = drawn.of(WorkloadView, roles=roles)
    job = Job(
        replace(workload, expected_seconds=rng.choice((None, 50, 400))),
        rng.choice((None, 100.0, 900.0)),
        *(rng.choice(of) for of in ((0, 30, 600), (0, 45), (0, 20))),
    )
    run = Run(job, now_ms)
    for _ in range(10):
        now_ms += rng.choice((0, 500, 10_000, 61_000, 300_000))
        act = (
            rng.choice((run.resize, run.move, run.leave, run.stop, run.settle))
            if run.placement
            else run.start
        )
        result = act(now_ms) if act in (run.leave, run.stop, run.settle) else act(_both(rng), now_ms)  # type: ignore[call-arg, arg-type]
        yield act.__name__, result, run.state(), run.view, run.through_ms(), run.saved_seconds, run.version
        yield (
            run.speed,
            run.progress_seconds,
            run.workload.expected_seconds,
            run.workload.nominated,
            job.devices,
        )
        yield outcome_of(run.outcome)
    run.finish(now_ms + 1500)
    yield outcome_of(run.outcome), run.outcome.completion_seconds, run.view, run.through_ms(), run.version
    yield speed_of(job.workload, _both(rng))


def _both(rng: random.Random) -> Placement:
    """Some ranks of each role."""
    return (*placement_of(rng, ("main",)), *placement_of(rng, ("side",), 2))


def outcome_of(outcome: JobOutcome) -> dict[str, Any]:
    return {name: getattr(outcome, name) for name in outcome.__slots__}


def _serving(drawn: Drawn) -> Answers:
    """A load served by so many replicas, and by those that an autoscaler asks for."""
    rng, seconds = drawn.rng, drawn.rng.choice((200, 601))
    draw = np.random.default_rng(rng.randrange(1000))
    requests = draw.poisson(rng.choice((0.5, 3.0)), seconds).astype(float)
    load = Load(5000, requests * 0.7, requests)
    measured = rng.choice((None, range(50, 150)))
    for replicas in range(4):
        served = serve_statically(load, replicas, rng.choice((0.5, 5.0)), measured)
        yield served, served.attainment
    yield (
        error_of(Load, 0, requests, requests[1:]),
        load.end_ms,
        load.work_of(4000, 9000),
        load.work_of(9000, 8000),
    )
    yield samples_of(load, 0.7, 50)[:4], samples_of(load, 1.4)[:4]
    queue = FluidQueue(load, 2.0, measured)
    for until_ms in (5000, 25_000, 20_000, 150_000, 2_000_000):
        queue.serve(until_ms, [5000, 30_000, 12_000], 2)
        yield queue.served, queue.backlog_seconds, queue.wait_seconds
    rule = LoadRule("nvidia", rng.choice((1.0, 2.0)), 1000, 0.25, 120, 60, 0.0, 2.0, rng.choice((0, 1)), 5)
    service = Service(
        ServiceSpec(drawn.of(WorkloadView), rule, 1.0, 0.7, *rng.choice(((30, 20), ()))), load, (), measured
    )
    now_ms, running = service.first_ms(), dict[str, RunState]()
    for _ in range(12):
        turn = service.act(now_ms, running.get)
        yield turn.end, [(job, job.workload.uid, job.workload.created_ms) for job in turn.submit]
        yield turn.tides, turn.again_ms, service.served
        for uid in turn.end:
            running.pop(uid, None)
        for job in turn.submit:
            if rng.random() < 0.8:
                running[job.workload.uid] = RunState(now_ms, now_ms, (), leaving=rng.random() < 0.1)
        now_ms = turn.again_ms or now_ms + 20_000


def _books(drawn: Drawn) -> Answers:
    """What is held by model, queue and kind, on average."""
    rng, now_ms = drawn.rng, 10_000
    nodes = [node_of(rng, name) for name in "ab"]
    queues = [
        QueueView(name, weight=rng.choice((0, 1, 2)), decayed_use=rng.choice((0.0, 50.0))) for name in "ab"
    ]
    books = DeviceTimeBooks(nodes, queues, 0, (10_000, 200_000), 5)
    yield books.models, [(f"{vendor}/{model}", n) for (vendor, model), n in books.devices_of.items()]
    held: list[tuple[WorkloadView, Placement]] = []
    for _ in range(10):
        if held and rng.random() < 0.4:
            workload, placement = held.pop(rng.randrange(len(held)))
            books.book(workload, placement, -1)
        else:
            workload, placement = drawn.of(WorkloadView), _on(rng, nodes)
            held.append((workload, placement))
            books.book(workload, placement)
        waiting = [(one, rng.choice((0.5, 2.0))) for one in drawn.some(WorkloadView, 3)]
        books.waiting(waiting)
        now_ms += rng.choice((0, 5000, 40_000))
        books.advance(now_ms)
        yield (
            [books.used(name) for name in ("training", "inference", "other", "queue a")],
            books.views(now_ms),
        )
    series = books.series()
    yield series.start_ms, series.step_ms, series.values, series.mean("stranded"), series.mean("none")


def _on(rng: random.Random, nodes: Sequence[NodeView]) -> Placement:
    """On devices that there are."""
    node = rng.choice(nodes)
    device = rng.choice(node.devices)
    millis = rng.choice((250, 1000))
    share = Share(device.id, device.index, device.vendor, device.model, 10, millis)
    return (Assignment("main", 0, 0, node.name, (share,)),)


def node_of(rng: random.Random, name: str) -> NodeView:
    devices = [
        DeviceView(
            f"d{n}",
            n,
            *rng.choice(MODELS),
            memory_bytes=80,
            slots=rng.choice((1, 2)),
            healthy=rng.random() < 0.8,
        )
        for n in range(3)
    ]
    return NodeView(name, tuple(devices), cordoned=rng.random() < 0.2, alive=rng.random() < 0.8)


def _preemptions(drawn: Drawn) -> Answers:
    """Who was preempted for nothing, and what forecasts were worth."""
    rng, useless = drawn.rng, Useless()
    forecasts = Forecasts(rng.choice((0, 60_000)))
    small = Drawn(
        rng,
        uid=("u", "v", "w"),
        beneficiary=("u", "v"),
        outbid_by=("", "", "u", "w"),
        nominated=((), _SOME, _OTHER),
    )
    for step in range(10):
        kinds: list[Any] = [rng.choice((Admit, Preempt, Preempt, Defer, Defer)) for _ in range(3)]
        decisions: list[Decision] = [small.of(kind) for kind in kinds]
        useless.follow(decisions)
        yield useless.preemptions, useless.voided
        if rng.random() < 0.3:
            useless.withdraw(rng.choice("uvw"))
        if rng.random() < 0.3:
            node = rng.choice("ab")
            useless.shake(lambda uid, places: uid == "u" or any(rank.node == node for rank in places))  # noqa: B023
        now_ms = step * 30_000
        if forecasts.due(now_ms):
            forecasts.ask(lambda *_: {rng.choice("uvw"): now_ms + 90_000}, None, None, now_ms)  # type: ignore[arg-type] # noqa: B023
        forecasts.started(rng.choice("uvw"), now_ms + rng.choice((0, 40_000)))
    yield forecasts.kept(), median_error(forecasts.kept())


_SOME, _OTHER = ((Assignment("main", 0, 0, node, ()),) for node in "ab")


def _charts(drawn: Drawn) -> Answers:
    """Charts as text, and how numbers are written in them."""
    rng, size = drawn.rng, drawn.rng.choice((1, 2, 7))
    top = rng.choice((0.0, 0.3, 7.0, 99.0, 12_345.0, 3e6, 2e9))
    x = [rng.choice((0.5, 3.0)) * n for n in range(size)]
    curves = [Curve(f"<c{n}>", [rng.random() * top for _ in x]) for n in range(rng.choice((1, 3, 9)))]
    charts = (
        svg.areas(x, curves, "devices", rng.choice((None, curves[0]))),
        svg.lines(x, curves, "", rng.choice((None, 1.0))),
        svg.distributions(
            [(curve.label, curve.values) for curve in curves], rng.choice((1.0, 60.0)), "seconds"
        ),
        svg.lines(x, [], ""),
        svg.distributions([("none", [])], 1.0, "s"),
    )
    yield [approved.digest(chart) for chart in charts]
    yield (
        Axis.round(top),
        Axis.round(top, -1.0, 8),
        Axis.powers(0.5, max(top, 1.0)),
        svg.number(top),
        svg.number(-top),
    )


def _reports(drawn: Drawn) -> Answers:
    """Figures, reports and comparisons of results."""
    rng, models = drawn.rng, MODELS[:2]
    names = [
        "pending",
        "pending devices",
        "stranded",
        "fairness",
        *(f"model {v}/{m}" for v, m in models),
        "queue q0",
    ]
    names += [f"queue q{n}" for n in range(1, rng.choice((3, 12)))]
    recorder = Recorder(names, 0, 7_200_000, 6)
    for step in range(8):
        recorder.put(rng.choice(names), rng.random() * 9)
        recorder.advance(step * 1_000_000)
    small = Drawn(rng, queue=[f"q{n}" for n in range(12)], seconds=(None, 100.0, 9000.0), priority=(0,))
    outcomes = tuple(replace(small.of(JobOutcome), uid=f"u{n}") for n in range(rng.choice((0, 3, 40))))
    etas = tuple(drawn.some(Eta, 3))
    counted = ({"admit": 3, "preempt": 1}, dict(zip(models, (8, 4), strict=True)))
    result = SimResult(
        0, 7_200_000, 9, counted[0], outcomes, recorder.series(), counted[1], drawn.of(Totals), etas, 2, 1
    )
    summary = result.summary()
    yield (
        summary,
        jain([1.0, 2.0]),
        jain([]),
        Totals.of(outcomes),
        approved.digest(html_report(result, "<T>")),
    )
    other = {name: value for name, value in summary.items() if rng.random() < 0.8}
    yield [
        (table.title, table.caption, table.columns, table.rows) for table in compare.compared(summary, other)
    ]
    yield [compare._markdown(table) for table in compare.compared(other, summary)]


RULES: dict[str, Draw] = {
    "runs": (_runs, 60),
    "served loads": (_serving, 8),
    "books": (_books, 25),
    "preemptions": (_preemptions, 60),
    "charts": (_charts, 25),
    "reports": (_reports, 8),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", RULES)
def test_a_part_of_the_simulator_does_as_approved(name: str, part: int) -> None:
    check_draws(Path(__file__), name, part, RULES[name])
