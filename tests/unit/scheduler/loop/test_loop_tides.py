"""The loop obeys the tide of load: training gives way before inference needs its devices, and grows again."""

from typing import Any

from common.settings import LoadTideSettings, SchedulerSettings, Settings, TideSettings
from common.store.samples import MemorySampleLog
from scheduler.insight.answers import TideRow
from scheduler.insight.insight import Insight
from scheduler.loop import SchedulerLoop
from scheduler.serving_need import ServingNeed
from tests.fixtures.loads import FakeLoads
from tests.unit.scheduler.loop_scene import Scene

RULE = {"device_class": "nvidia", "headroom": 0.0, "ahead_seconds": 600, "release_seconds": 600}
FULL = 32
"""Requests that fill an engine."""


class TidalScene(Scene):
    """Four H100: engines hold some, a trainer of one to four ranks has the rest. A look at the engines comes
    before every pass."""

    def __init__(self, **options: Any) -> None:
        self.loads = FakeLoads()
        self.log = MemorySampleLog()
        self.options = options
        super().__init__()

    def new_loop(self, **options: Any) -> SchedulerLoop:
        rules = [LoadTideSettings.model_validate(RULE)]
        self.need = ServingNeed(self.loads, self.log, rules, self.clock)
        policy = {"load_tides": rules, "reserve": 0, **self.options}
        settings = Settings(scheduler=SchedulerSettings(usage_interval_seconds=60, policy=policy))
        self.insight = Insight(self.store, settings, self.clock, needs=self.need.needs)
        return SchedulerLoop(self.store, self.fabric, self.usage, settings, self.clock, self.need.needs)

    async def minutes(self, count: int, requests: int) -> None:
        self.loads.tell("engine", requests)
        for _ in range(4 * count):
            await self.need.step()
            await self.steps(1, 15.0)

    async def train(self) -> None:
        await self.submit("train", replicas=4, min_replicas=1, kind="training", expected_seconds=86_400)

    async def tides(self) -> list[TideRow]:
        return (await self.insight.overview(lambda project: True)).tides or []

    async def ranks(self) -> int:
        workload = await self.get("train")
        return len((workload.status.next or workload.status).ranks)


async def tidal_scene(**options: Any) -> TidalScene:
    scene = TidalScene(**options)
    await scene.set_up()
    return scene


async def test_training_gives_way_to_load_and_takes_back_what_is_not_needed() -> None:
    scene = await tidal_scene()
    await scene.train()
    await scene.minutes(20, 0)
    assert await scene.ranks() == 4
    # The load rises by an eighth of an engine a minute: what it will be in ten minutes is free by then.
    for minute in range(1, 9):
        await scene.minutes(1, minute * FULL // 8)
    assert await scene.ranks() <= 2
    assert "Resizing" in await scene.events("train")
    await scene.submit("engine", kind="inference")
    await scene.submit("engine-2", kind="inference")
    await scene.steps(2, 1.0)
    assert (await scene.get("engine-2")).status.phase in ("Starting", "Running")
    assert (await scene.get("train")).status.preemptions == 0


async def test_a_dip_does_not_bring_training_back_and_calm_does() -> None:
    scene = await tidal_scene()
    await scene.train()
    await scene.minutes(3, 2 * FULL)
    low = await scene.ranks()
    attempt = (await scene.get("train")).status.attempt
    assert low == 2
    for requests in (0, FULL, 2 * FULL, 0, 0):
        await scene.minutes(1, requests)
    assert (await scene.ranks(), (await scene.get("train")).status.attempt) == (2, attempt)
    await scene.minutes(40, 0)
    assert await scene.ranks() == 4


async def test_control_that_starts_again_knows_the_tide_before_its_first_pass() -> None:
    scene = await tidal_scene()
    await scene.train()
    await scene.minutes(5, 2 * FULL)
    assert await scene.ranks() == 2
    attempt = (await scene.get("train")).status.attempt
    scene.loop = scene.new_loop()
    await scene.need.restore()
    await scene.steps(4, 15.0)
    assert (await scene.ranks(), (await scene.get("train")).status.attempt) == (2, attempt)


async def test_of_calendar_and_load_the_larger_counts_and_people_are_told_why() -> None:
    always = TideSettings(device_class="nvidia", inference_devices=3, window="00:00-24:00")
    scene = await tidal_scene(tides=[always])
    await scene.train()
    await scene.minutes(2, FULL)
    assert await scene.ranks() == 1
    (row,) = await scene.tides()
    assert (row.inference_millis, row.calendar_millis, row.load_millis) == (3000, 3000, 1000)
    assert row.reason == "the calendar; load asks for less"
    await scene.minutes(2, 4 * FULL)
    (row,) = await scene.tides()
    assert (row.inference_millis, row.work_millis) == (4000, 2000)
    assert "expected within 10 min" in row.reason
    assert (await scene.insight.overview(lambda project: True, nodes=False)).tides is None
