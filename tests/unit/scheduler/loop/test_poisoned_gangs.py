"""Device time that cannot be billed is kept, a gang that cannot be started says so, and all others go on."""

from typing import Any

import pytest

import scheduler.metering as metering
from billing.store.ledger import PostResult
from tests.fixtures.past_the_gate import put
from tests.unit.scheduler.loop_scene import Scene
from tests.unit.scheduler.poison import BAD, phases, poison


@pytest.fixture
async def scene() -> Scene:
    return await Scene().set_up()


@pytest.mark.parametrize("text", ["a\tb", "line\n", "\x00", "\ud800"])
async def test_an_odd_name_makes_no_device_time_free_and_stops_nobody(scene: Scene, text: str) -> None:
    await scene.submit("good")
    uid = await scene.submit(BAD)
    workload = await scene.get(BAD)
    labels = {"computility.io/model": text, "computility.io/key": text}
    odd = workload.metadata.model_copy(update={"labels": labels})
    put(scene.store, workload.model_copy(update={"metadata": odd}))
    await scene.steps(2)
    scene.clock.advance(90)
    scene.fabric.exit(uid, 0, 0)
    await scene.submit("later")
    await scene.steps(4)
    assert await phases(scene) == {"good": "Running", BAD: "Succeeded", "later": "Running"}
    billed = [e for e in scene.usage.events.values() if e.resource == BAD]
    assert sum(e.quantities["device_seconds"] for e in billed) == 90
    assert scene.rejected.kept == []
    assert uid not in {uid for _, uid, _ in scene.fabric.alive()}
    assert all(gang.uid != uid for host in scene.fabric.hosts.values() for gang in host.gangs.values())


@pytest.mark.parametrize("restarts", [False, True])
async def test_device_time_that_can_never_be_billed_is_kept_and_holds_up_no_other(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, restarts: bool
) -> None:
    original = metering._fields

    def fields(gang: Any, rank: Any, span: Any) -> dict[str, Any]:
        made = original(gang, rank, span)
        return made | {"tenant": ""} if gang.billing.workload == BAD else made

    monkeypatch.setattr(metering, "_fields", fields)
    await scene.submit("good")
    uid = await scene.submit(BAD)
    await scene.steps(3)
    for _ in range(3):
        if restarts:
            scene.loop = scene.new_loop()
        await scene.steps(2, seconds=60)
    scene.fabric.exit(uid, 0, 0)
    await scene.steps(3, seconds=60)
    kept = {event["id"]: event for event, _ in scene.rejected.kept}
    assert sum(event["quantities"]["device_seconds"] for event in kept.values()) == 360
    assert len(kept) == len(scene.rejected.kept)
    assert "tenant" in scene.rejected.kept[0][1]
    assert {event.resource for event in scene.usage.events.values()} == {"good"}
    assert (await scene.get(BAD)).status.phase == "Succeeded"
    assert "UsageRejected" in await scene.reasons()
    assert all(gang.uid != uid for host in scene.fabric.hosts.values() for gang in host.gangs.values())


@pytest.mark.parametrize("name", ["_due", "_event"])
async def test_a_gang_whose_device_time_cannot_be_told_is_kept_after_a_while_and_ends(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    uid = await scene.submit(BAD)
    await scene.submit("good")
    await scene.steps(2)
    poison(monkeypatch, metering, name, lambda gang, *_: gang.billing.workload == BAD)
    scene.clock.advance(60)
    await scene.steps()
    scene.fabric.exit(uid, 0, 0)
    scene.fabric.exit((await scene.get("good")).metadata.uid, 0, 0)
    await scene.steps(metering.MOST_TRIES + 3, seconds=20)
    assert scene.rejected.kept
    assert await phases(scene) == {BAD: "Succeeded", "good": "Succeeded"}
    assert [host.gangs for host in scene.fabric.hosts.values()] == [{}, {}, {}]
    assert {event.resource for event in scene.usage.events.values()} == {"good"}
    kept = len(scene.rejected.kept)
    await scene.steps(5, seconds=400)
    assert len(scene.rejected.kept) == kept


async def test_a_ledger_that_refuses_one_event_takes_the_others(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.submit("one")
    await scene.steps(2)
    original = scene.usage.post

    async def post(events: Any) -> PostResult:
        bad = {event.id: "amount: too large" for event in events if event.started_ms % 300_000 < 60_000}
        await original([event for event in events if event.id not in bad])
        return PostResult(len(events) - len(bad), 0, tuple(bad), bad)

    monkeypatch.setattr(scene.usage, "post", post)
    await scene.steps(1, seconds=600)
    seconds = sum(event["quantities"]["device_seconds"] for event, _ in scene.rejected.kept)
    assert seconds == 120
    assert scene.usage.device_seconds() == 480


async def test_a_gang_that_a_node_cannot_start_gives_its_places_back_with_the_reason(scene: Scene) -> None:
    await scene.submit(replicas=2, restart={"policy": "OnFailure", "backoff_seconds": 5.0})
    scene.fabric.refuse_start |= {"a", "b"}
    await scene.steps(2)
    assert (await scene.get()).status.phase == "Starting"
    for _ in range(200):
        await scene.steps(1, seconds=1)
        workload = await scene.get()
        if workload.status.phase == "Pending":
            break
    assert "could not be started: " in workload.status.message
    assert "does not answer" in workload.status.message
    assert "NotStarted" in await scene.reasons()
    assert scene.clock.now_ms() - workload.metadata.created_ms < 180_000
    scene.fabric.refuse_start.clear()
    await scene.steps(4, seconds=5)
    assert (await scene.get()).status.phase == "Running"
    assert (await scene.get()).status.is_true("Handled")
