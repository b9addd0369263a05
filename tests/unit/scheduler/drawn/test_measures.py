"""What is measured, asked for and read of files is what was approved: load becomes need, settings a policy,
rows a catalogue, and all that changes is told to Prometheus."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from common.clock import VirtualClock
from common.errors import ComputilityError, InvalidInput, Unavailable
from common.load import EngineLoad, ReplicaLoad
from common.resources import Queue, Workload
from common.resources.pool import Device
from common.settings import LoadTideSettings, PolicySettings
from common.store.samples import MemorySampleLog
from scheduler import metrics
from scheduler.catalogue import load_catalogue
from scheduler.core.model.types import (
    Policy,
)
from scheduler.policy import PolicyMaker
from scheduler.ports import NodeObservation
from scheduler.serving_need import ServingNeed
from scheduler.translate.observed import Observed
from tests.fixtures.drawing import Drawn, told
from tests.unit.scheduler.drawn.courses import PARTS, Answers, Course, check, check_courses
from tests.unit.scheduler.drawn.desk import POOLS, Desk


async def _needs(drawn: Drawn) -> Answers:
    """What inference needs, from what engines tell, over restarts."""
    rng, clock, log = drawn.rng, VirtualClock(), MemorySampleLog()
    rules = [
        LoadTideSettings(
            device_class="nvidia",
            requests_per_replica=8,
            first_token_limit_seconds=rng.choice((0, 1.0)),
            devices_per_replica=2,
            headroom=0.5,
            least_replicas=1,
            most_replicas=6,
        ),
        LoadTideSettings(device_class="*", kv_cache_limit=0.5, ahead_seconds=60, release_seconds=60),
    ]

    class Loads:
        async def replicas(self) -> list[ReplicaLoad]:
            if rng.random() < 0.1:
                raise Unavailable("no answer")
            small = Drawn(
                rng,
                kv_cache_use=(0.0, 0.3, 0.95),
                running=(0, 3, 20),
                device_class=("nvidia/a", "amd/b", "NVIDIA/c"),
            )
            buckets = ((0.5, rng.randrange(50)), (2.0, 50 + rng.randrange(90)), (float("inf"), 200))
            load = small.of(EngineLoad, first_token_buckets=rng.choice(((), buckets)))
            return small.some(ReplicaLoad, 3, load=rng.choice((None, load, load)))

    need = ServingNeed(Loads(), log, rules, clock)
    await need.restore()
    for _ in range(14):
        await need.step()
        yield need.needs
        clock.advance(rng.choice((15.0, 15.0, 60.0, 5000.0, 200_000.0)))
        if rng.random() < 0.1:
            need = ServingNeed(Loads(), log, rules, clock)
            await need.restore()
    yield need.has_rules, [await log.since(f"load/{name}", 0) for name in ("nvidia", "*")]
    windows = [
        {"window": "Mon-Sun 00:00-24:00", "device_class": "nvidia", "inference_devices": rng.choice((0, 2.5))}
    ]
    given = {
        "min_run_seconds": 7,
        "reserve": 2,
        "max_moves": 3,
        "max_delay_seconds": 4,
        "utc_offset_minutes": 60,
    }
    weights = {"packing": 2.5, "data": 0.5, "near": 0.25}
    policy = PolicySettings.model_validate(
        {**given, "weights": weights, "tides": windows, "topology": ["rack"]}
    )
    made = PolicyMaker(policy, need.needs)
    yield made.at(clock.now_ms()), PolicyMaker(policy).at(clock.now_ms()), made.classes, made.calendar
    yield PolicyMaker(policy.model_copy(update={"preempt": False, "defragment": False})).at(0)


async def _metrics(drawn: Drawn) -> Answers:
    """All that is told to Prometheus while things change."""
    desk = await Desk(drawn).set_up()
    rng, world, observed, reporter = drawn.rng, desk.world, Observed(), metrics.Reporter(desk.world)
    small = Drawn(rng, **POOLS, model=("a", "b"))
    yield sorted(
        {
            str(sample.labels.get("le"))
            for family in metrics.CYCLE_SECONDS.collect()
            for sample in family.samples
        }
    )
    for _ in range(6):
        if desk.workloads and rng.random() < 0.6:
            one = rng.choice(desk.workloads)
            world.workloads[one.metadata.uid] = one.model_copy(update={"status": drawn.of(Workload).status})
        if rng.random() < 0.3:
            world.queues["a"] = drawn.of(Queue)
        names = "abc"[: rng.randrange(4)]
        devices = {name: {each.id: each for each in small.some(Device, 3)} for name in names}
        moved = observed.follow(
            [
                small.of(NodeObservation, name=name, gangs=(), devices=tuple(devices[name].values()))
                for name in names
            ]
        )
        await reporter.report(observed, moved.nodes)
        metrics.report_tides(drawn.of(Policy))
        told_of = (
            family
            for family in REGISTRY.collect()
            if family.name.startswith(_SERIES) and "cycle" not in family.name
        )
        yield sorted(
            (sample.name, sorted(sample.labels.items()), sample.value)
            for family in told_of
            for sample in family.samples
        )


_SERIES = ("computility_scheduler_", "computility_device_")
RULE = {"legalCounts": [4, 2, 4], "islandSize": 2, "islandRule": "inside", "pairSize": 2}
ROW = {
    "patterns": ["new"],
    "tflops": {"bf16": 7.5, "fp8": 15.0},
    "memoryBytes": "8GiB",
    "bandwidthGbytesPerSecond": 9,
    "link": "NVLink",
    "linkGbytesPerSecond": 5,
    "watts": 70,
    "capabilities": ["fp8"],
    "partitions": ["1g"],
    "kubernetesResource": "x/y",
    "priceMicrosPerHour": 11,
    "rule": RULE,
}
CATALOGUES: tuple[Any, ...] = (
    {
        "nvidia": {"New": ROW, "H100-SXM": {"watts": 1, "rule": {"pairSize": 3}, "tflops": {"bf16": 1.0}}},
        "amd": {"Bare": {}},
    },
    *(
        {"nvidia": {"New": {**ROW, field: other}}}
        for field in ROW
        for other in (None, [], {}, 0, -1, "x", [""], {"x": 1})
    ),
    *({"nvidia": {"New": {**ROW, "rule": {field: other}}}} for field in RULE for other in (0, -1, "x", [0])),
    {"nvidia": {"New": {**ROW, "more": 1}}},
    {"nobody": {}},
    {"cpu": {}},
    {"nvidia": []},
    {"nvidia": {"New": 7}},
    [],
    None,
    "{",
)


def _catalogues(folder: Path) -> Iterable[Any]:
    """What rows of an installation make of the catalogue, and what is wrong with others."""
    own = set(load_catalogue().specs)
    for number, content in enumerate(CATALOGUES):
        path = folder / "rows.yaml"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        try:
            yield number, [spec for spec in load_catalogue(path).specs if spec not in own]
        except ComputilityError as error:
            yield number, f"{type(error).__name__} {error.param}: {error}"
    try:
        load_catalogue(folder / "none.yaml")
    except InvalidInput as error:
        yield str(error)


COURSES: dict[str, Course] = {
    "needs": (_needs, 12),
    "metrics": (_metrics, 8),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", COURSES)
async def test_a_course_goes_as_approved(name: str, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    await check_courses(Path(__file__), name, part, COURSES[name], monkeypatch, POOLS)


def test_a_catalogue_is_read_as_approved(tmp_path: Path) -> None:
    check(
        Path(__file__),
        "catalogues",
        0,
        [[told(answer).replace(str(tmp_path), "") for answer in _catalogues(tmp_path)]],
    )
