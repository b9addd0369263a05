"""What cycles decide in small worlds that go on, when those that wait are expected to start, how long runs
are expected to take, and what a catalogue says of models."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from scheduler.core.cycle import run_cycle
from scheduler.core.forecast import forecast, forecast_starts
from scheduler.core.model.catalogue import Catalogue, DeviceSpec, part_of
from scheduler.core.model.runtimes import (
    PastRun,
    RunHistory,
    devices_of,
    end_ms,
    longest_ms,
    name_stem,
    run_ms,
    slowness,
)
from scheduler.core.model.types import (
    Assignment,
    DeviceView,
    NodeView,
    Policy,
    QueueView,
    Request,
    RoleView,
    RunningView,
    Share,
    Tide,
    WorkloadView,
)
from scheduler.core.placement.snapshot import take_snapshot
from tests.fixtures.approving import told
from tests.unit.scheduler.approved.story import line_of
from tests.unit.scheduler.asked.reshape_parts import scattered_world
from tests.unit.scheduler.asked.small import CATALOGUE, small_mix, small_workload, small_world
from tests.unit.scheduler.life import Life
from tests.unit.scheduler.worlds import NOW_MS, World

SCORERS = ("accelerator", "scarcity", "fragmentation", "packing", "topology")
CYCLES = 3


def _lively(rng: random.Random) -> World:
    world = small_world(rng, SCORERS, nodes=4) if rng.random() < 0.7 else scattered_world(rng)
    classes = rng.choice(((), (), ("*",), ("nvidia", "ascend/ring")))
    policy = replace(
        world.policy,
        tides=tuple(Tide(name, rng.choice((0, 2000, 6000))) for name in classes),
        reserve=rng.choice((0, 1, 2)),
        claims=rng.choice((0, 1, 64)),
        preempt=rng.random() < 0.8,
        defragment=rng.random() < 0.6,
        max_delay_seconds=rng.choice((0, 0, 1, 3600)),
    )
    return replace(world, policy=policy)


def cycle_answers(seed: int) -> Iterator[str]:
    """Of one world over a few cycles, in which some come and go."""
    rng = random.Random(seed)
    life = Life.of(_lively(rng), grace_ms=rng.choice((10_000, 60_000, 60_001)))
    life.workload_mix = small_mix(rng)
    for number in range(CYCLES):
        snapshot, before_ms = life.snapshot(), life.now_ms
        kept = run_cycle(snapshot, life.world.policy, life.now_ms, keep=True)
        life.cycle()
        gone = any(one.leaving and (one.ends_ms or NOW_MS * 2) <= before_ms for one in snapshot.running)
        assert gone or list(map(line_of, kept)) == list(map(line_of, life.decided)), seed
        yield f"kept {[(usage.used, usage.cpu_used_millis) for usage in snapshot.pool.usage]}"
        for decision in life.decided:
            yield f"{number} {line_of(decision)} {getattr(decision, 'position', '')}"
        for uid in sorted(life.running):
            if rng.random() < 0.15:
                life.withdraw(uid)
        life.arrive(small_workload(rng, f"a{number}"))


def forecast_answers(seed: int) -> Iterator[str]:
    """Of one world, looking ahead with more or less work, for all or for the first few."""
    rng = random.Random(seed)
    world = _lively(rng)
    running = tuple(_ending(rng, one) for one in world.running)
    more = tuple(small_workload(rng, f"q{number}") for number in range(rng.choice((0, 3, 6))))
    world = replace(world, pending=(*world.pending, *more))
    snapshot = replace(world, running=running).snapshot()
    uids = [*(one.uid for one in world.pending), *(one.workload.uid for one in running)]
    predicted_seconds = {uid: rng.choice((1, 60, 600)) for uid in uids if rng.random() < 0.6}
    for limit, work in ((1000, 400), (1000, 40), (2, 200)):
        found = forecast(snapshot, world.policy, NOW_MS, limit, work, predicted_seconds)
        starts = [(uid, at_ms - NOW_MS) for uid, at_ms in sorted(found.starts.items())]
        yield f"first {limit}: {starts}, guessed {sorted(found.guessed)}"
    stated = forecast_starts(snapshot, world.policy, NOW_MS, 3, 100)
    yield f"stated {[(uid, at_ms - NOW_MS) for uid, at_ms in sorted(stated.items())]}"
    for one in running:
        lengths = [run_ms(one.workload, one.placement, seconds) for seconds in (None, 7)]
        ends = [end_ms(one, now_ms, 7) for now_ms in (NOW_MS, NOW_MS + 10**6)]
        slow = slowness(one.workload.roles, one.placement), devices_of(one.workload.roles)
        yield f"{one.workload.uid} {lengths} {ends} {longest_ms(one.workload)} {told(slow)}"


def far_answers(seed: int) -> Iterator[str]:
    """Of four nodes whose devices come free one after the other, looking so far ahead that not every end has
    a cycle of its own."""
    rng = random.Random(seed)
    devices = [DeviceView(f"{at}", at, "nvidia", "big", 8, island=at // 4) for at in range(8)]
    nodes = [
        NodeView(name, tuple(replace(one, id=f"{name}/{one.id}") for one in devices))
        for name in ("a", "b", "c", "d")
    ]
    step_seconds, running = rng.choice((7, 61, 3600, 90_000)), list[RunningView]()
    for number, (node, device) in enumerate((home, one) for home in nodes for one in home.devices):
        share = Share(device.id, device.index, "nvidia", "big", 8)
        workload = WorkloadView(f"r{number}", "p", "r", "q", 0, 0, (RoleView("main", 1, Request(1)),))
        late_ms = 1000 * step_seconds * rng.randrange(1, 33)
        place = Assignment("main", 0, 0, node.name, (share,))
        running.append(RunningView(workload, (place,), NOW_MS, ends_ms=NOW_MS + late_ms))
    pending = [
        WorkloadView(
            f"w{number}",
            "p",
            "w",
            "q",
            rng.choice((0, 1)),
            0,
            (RoleView("main", rng.choice((1, 2, 4, 12, 28)), Request(rng.choice((1, 1, 2)))),),
            expected_seconds=rng.choice((None, step_seconds, 10 * step_seconds)),
        )
        for number in range(4)
    ]
    snapshot = take_snapshot(nodes, [QueueView("q")], pending, running, catalogue=CATALOGUE)
    for work in (1, 700, 2000):
        found = forecast(snapshot, Policy(reserve=rng.choice((0, 1))), NOW_MS, 100, work)
        yield f"{work}: {[(uid, at_ms - NOW_MS) for uid, at_ms in sorted(found.starts.items())]}"


def _ending(rng: random.Random, one: RunningView) -> RunningView:
    """Some have an end that is known better, some are over it."""
    ends_ms = rng.choice((None, None, None, NOW_MS - 1, NOW_MS, NOW_MS + 5000, NOW_MS + 90_000))
    return one if one.leaving else replace(one, ends_ms=ends_ms)


NAMES = (
    "train-7b",
    "train-7b-0042",
    "train-7b-1",
    "train",
    "7",
    "eval-ab12c",
    "eval-ab12",
    "eval-words",
    "x-1-2",
)


def history_answers(seed: int) -> Iterator[str]:
    """How long runs of drawn names take, by those before; the names of models of parts of devices."""
    rng = random.Random(seed)
    history = RunHistory()
    for _ in range(rng.randrange(4, 40)):
        kind = rng.choice(("training", "other"))
        seconds = rng.choice((1.0, 2.5, 60.0, 60.5, 3600.0))
        history.add(PastRun(rng.choice("pq"), rng.choice(NAMES), kind, rng.choice((1.0, 2.0)), seconds))
    if rng.random() < 0.3:
        history.forget("q")
    for number in range(4):
        one = replace(small_workload(rng, f"w{number}"), name=rng.choice(NAMES))
        yield f"{one.project} {one.name} {name_stem(one.name)} {one.kind} {told(history.predict(one))}"
    spec = DeviceSpec(
        "H100",
        rng.choice(("nvidia", "amd")),
        ("h100", "H100 80GB", "mi300x"),
        (("bf16", 989.0),),
        80 << 30,
        3350,
        "NVLink",
        900,
        700,
        frozenset({"mig", "fp8"}),
        ("1g.10gb",),
        "nvidia.com/gpu",
        4_000_000,
    )
    catalogue = Catalogue((spec, DeviceSpec("other", spec.vendor, ("h100-80gb-hbm3", "300"))))
    for model in rng.sample(MODELS, 4):
        found = catalogue.find(spec.vendor, model)
        yield f" {model}: {told(found)} {told(part_of(spec, model))} {catalogue.find('ascend', model)}"
        if found is not None:
            yield f"  {told(found.observed(rng.choice((0, 7)), {'fp16': 1.0}))} {found.tflops_of('bf16')}"


MODELS = (
    "NVIDIA H100 80GB HBM3",
    "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
    "H100 MIG 1c.3g.40gb",
    "H100 MIG 3g.40gb",
    "AMD MI300X CPX",
    "AMD MI300X qpx",
    "MI300X TPX",
    "MI300X SPX",
    "A10",
)
