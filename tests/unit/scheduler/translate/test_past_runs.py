"""What the loop writes about runs that ended well, and what is read of it."""

from dataclasses import replace

import pytest

from common.clock import VirtualClock
from common.resources import Metadata, Project, Workload
from common.resources.people import ProjectSpec
from common.store.memory import MemoryStore
from common.store.port import Event
from scheduler.core.model.runtimes import Prediction, RunHistory
from scheduler.translate import past_runs
from scheduler.translate.past_runs import PastRuns, run_of
from tests.unit.scheduler.build import role, workload
from tests.unit.scheduler.loop_scene import Scene


def ended(number: int, seconds: float = 60.0, **more: object) -> Event:
    data = {"seconds": seconds, "devices": 1, "workloadKind": "other", **more}
    return Event(f"e{number:03}", number, "info", "Succeeded", "done", "Workload", f"w-{number}", "p", data)


async def told(scene: Scene, name: str) -> list[Event]:
    events = await scene.store.events(kind="Workload", name=name)
    return [event for event in events if run_of(event) is not None]


async def test_a_run_that_ended_well_is_written_down_with_how_long_it_took() -> None:
    scene = await Scene().set_up()
    for number in range(3):
        uid = await scene.submit(f"train-{number}", count=2)
        await scene.steps(3, seconds=100.0)
        scene.fabric.exit(uid, 0, 0)
        await scene.steps()
        await scene.store.delete(Workload, f"train-{number}", "p")
    run = run_of((await told(scene, "train-1"))[0])
    assert run is not None
    assert (run.project, run.kind, run.devices) == ("p", "other", 2)
    assert run.seconds == pytest.approx(200, abs=1)
    history = await PastRuns(scene.store).read()
    known = history.predict(workload("train-77", role(count=2, vendors=("nvidia",))))
    assert known == Prediction(200, 3, "name and devices"), "a restart, or a deletion, forgets nothing"


async def test_runs_that_failed_or_were_begun_anew_say_nothing() -> None:
    scene = await Scene().set_up()
    uid = await scene.submit("again")
    await scene.steps(2)
    scene.fabric.exit(uid, 0, 1)
    await scene.steps(5, seconds=5.0)
    scene.fabric.exit(uid, 0, 0)
    await scene.steps()
    assert "Succeeded" in await scene.events("again")
    assert await told(scene, "again") == []


async def test_an_elastic_run_counts_as_long_as_it_would_have_taken_with_all_ranks() -> None:
    scene = await Scene().set_up()
    uid = await scene.submit("elastic", count=2, replicas=4, min_replicas=1)
    await scene.steps(3, seconds=100.0)
    for rank in range(2):
        scene.fabric.exit(uid, rank, 0)
    await scene.steps()
    run = run_of((await told(scene, "elastic"))[0])
    assert run is not None
    assert (run.devices, run.seconds) == (8, pytest.approx(100, abs=1))


async def test_each_event_is_read_once_also_when_the_store_has_forgotten_the_last_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(past_runs, "PAGE", 2)
    store, added = MemoryStore(VirtualClock()), []
    monkeypatch.setattr(RunHistory, "add", lambda self, run: added.append(run.name))
    keeper = PastRuns(store)
    for number in range(5):
        await store.record(ended(number))
    await keeper.read()
    await keeper.read()
    assert added == [f"w-{number}" for number in range(5)]
    del store._events["e004"]  # as when the oldest are dropped
    await store.record(ended(5))
    await keeper.read()
    assert added == [f"w-{number}" for number in range(6)]


def test_events_that_say_nothing_of_a_run_are_passed_over() -> None:
    assert run_of(ended(1)) is not None
    assert run_of(ended(1, seconds="long")) is None  # type: ignore[arg-type]
    assert run_of(replace(ended(1), data={})) is None


async def test_the_next_owner_of_a_project_s_name_is_told_nothing_by_the_former_s_runs() -> None:
    store = MemoryStore(VirtualClock())
    await store.apply(Project(metadata=Metadata(name="p"), spec=ProjectSpec(tenant="acme")))
    keeper = PastRuns(store)
    for number in range(4):
        await store.record(ended(number))
    like_these = workload("w-77", role(count=1, vendors=("nvidia",)))
    assert (await keeper.read()).predict(like_these) is not None
    await store.delete(Project, "p")
    await store.apply(Project(metadata=Metadata(name="p"), spec=ProjectSpec(tenant="evil")))
    for after_a_restart in (keeper, PastRuns(store)):
        assert (await after_a_restart.read()).predict(like_these) is None
