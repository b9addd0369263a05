"""What is summed up of a pass: metrics, groups of replicas, device time of queues and gangs."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import REGISTRY

from billing.core.events import UsageEvent
from billing.store.ledger import PostResult
from common.errors import Conflict, NotFound, Unavailable
from common.resources import Queue, Workload
from common.resources.meta import Metadata
from common.resources.pool import QueueSpec
from common.resources.workload import Rollout
from scheduler import queues, replicas
from scheduler.core.lifecycle.metering import Span, due_spans
from scheduler.queues import SPENT_MS, WRITE_MS
from scheduler.replicas import LONGEST_NAME, group_phase, replica_name
from tests.fixtures.fabric import UsageLog
from tests.unit.scheduler.loop_scene import Scene
from tests.unit.scheduler.poison import BAD


@pytest.fixture
async def scene() -> Scene:
    return await Scene().set_up()


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_metrics_tell_who_waits_what_is_held_and_how_devices_are(scene: Scene) -> None:
    scene.fabric.set_device("a", 0, utilisation_percent=42, power_watts=300, memory_used_bytes=7)
    await scene.submit("w", count=2)
    await scene.steps(2)
    await scene.submit("big", count=2, replicas=2)
    await scene.steps()
    assert metric("computility_scheduler_workloads", queue="default", phase="Running") == 1
    assert metric("computility_scheduler_workloads", queue="default", phase="Pending") == 1
    assert metric("computility_scheduler_queue_devices", queue="default") == 2
    model = {"vendor": "nvidia", "model": "H100"}
    assert metric("computility_scheduler_device_slots", state="total", **model) == 4
    assert metric("computility_scheduler_device_slots", state="used", **model) == 2
    device = {"node": "a", "device": "a-nvidia-0", **model}
    assert metric("computility_device_healthy", **device) == 1
    assert metric("computility_device_utilisation_percent", **device) == 42
    assert metric("computility_device_memory_used_bytes", **device) == 7
    assert metric("computility_device_power_watts", **device) == 300
    assert metric("computility_device_temperature_celsius", **device) is None
    scene.fabric.set_device("a", 0, healthy=False, fault="XID 79")
    scene.fabric.hosts["b"].state = "Silent"
    await scene.store.delete(Workload, "big", "p")
    await scene.steps()
    assert metric("computility_device_healthy", **device) == 0
    assert metric("computility_scheduler_device_slots", state="total", **model) == 2
    assert metric("computility_scheduler_workloads", queue="default", phase="Pending") is None


async def test_a_queue_is_told_who_waits_and_runs_and_what_it_has_used(scene: Scene) -> None:
    await scene.store.apply(Queue(metadata=Metadata(name="all"), spec=QueueSpec()))
    await scene.store.apply(Queue(metadata=Metadata(name="q"), spec=QueueSpec(parent="all")))
    uid = await scene.submit("w", count=2, queue="q")
    await scene.steps(2)
    await scene.submit("more", count=2, replicas=2, queue="q")
    await scene.steps()
    status = (await scene.store.get(Queue, "q")).status
    assert (status.pending, status.running, status.devices_in_use) == (1, 1, 2)
    await scene.steps(1, 10)
    written = (await scene.store.get(Queue, "q")).status.used_ms
    await scene.steps(1, WRITE_MS / 1000 - 1)
    assert (await scene.store.get(Queue, "q")).status.used_ms == written, "not at every pass"
    await scene.steps(1, 1)
    for name in ("q", "all"):
        status = (await scene.store.get(Queue, name)).status
        [used], age_ms = status.used, scene.clock.now_ms() - (status.used_ms or 0)
        assert used.device_class == "nvidia/H100"
        assert age_ms < SPENT_MS
        assert used.day_seconds == used.week_seconds == used.month_seconds == 140 - 2 * age_ms / 1000
    scene.loop = scene.new_loop()
    await scene.steps(1, 30)
    scene.fabric.exit(uid, 0, 0)
    await scene.steps(2, 60)
    [used] = (await scene.store.get(Queue, "q")).status.used
    assert used.day_seconds >= 180, "what ran while control was away is counted"


async def test_a_group_is_what_its_replicas_are(scene: Scene) -> None:
    await scene.submit("g", replicas=3, readiness=True, rollout=Rollout(independent=True))
    await scene.steps(3)
    group = await scene.get("g")
    assert group.status.message == "0 of 3 replicas are ready"
    assert [rank.replica for rank in group.status.ranks] == [0, 1, 2]
    assert [rank.rank for rank in group.status.ranks] == [0, 1, 2]
    children = {w.name: w for w in await scene.store.list(Workload) if w.name != "g"}
    assert list(children) == ["g-main-0", "g-main-1", "g-main-2"]
    child = children["g-main-1"]
    assert child.metadata.owner is not None
    assert (child.metadata.owner.kind, child.metadata.owner.name) == ("Workload", "g")
    assert child.metadata.owner.uid == group.metadata.uid
    assert child.metadata.labels == {**group.metadata.labels, "computility.io/replica-of": "g"}
    assert [role.replicas for role in child.spec.roles] == [1]
    assert child.spec.rollout == Rollout()
    for each in children.values():
        scene.fabric.ready(each.metadata.uid)
    await scene.steps(2)
    assert (await scene.get("g")).status.message == "3 of 3 replicas are ready"
    assert (await scene.get("g")).status.phase == "Ready"


def child(phase: str, probed: bool = False) -> Workload:
    role = {"name": "r", "command": ["x"], "ports": ["http"]}
    if probed:
        role["readiness"] = {"port": "http", "startTimeoutSeconds": 5.0}  # type: ignore[assignment]
    made = Workload.model_validate(
        {
            "apiVersion": "computility.io/v1alpha1",
            "kind": "Workload",
            "metadata": {"name": "w", "project": "p"},
            "spec": {"roles": [role]},
        }
    )
    made.status.phase = phase  # type: ignore[assignment]
    return made


@pytest.mark.parametrize(
    ("phases", "wanted", "phase"),
    [
        ((), 1, "Pending"),
        (("Ready", "Ready"), 2, "Ready"),
        (("Ready",), 2, "Running"),
        (("Succeeded", "Failed"), 2, "Failed"),
        (("Succeeded", "Succeeded"), 2, "Succeeded"),
        (("Ready", "Running"), 2, "Ready"),
        (("Succeeded", "Running"), 2, "Running"),
        (("Starting", "Ready"), 2, "Starting"),
        (("Pending", "Ready"), 2, "Running"),
        (("Pending", "Failed"), 2, "Pending"),
    ],
)
def test_a_group_has_one_phase(phases: tuple[str, ...], wanted: int, phase: str) -> None:
    assert group_phase([child(each) for each in phases], wanted) == phase


def test_a_replica_that_is_probed_is_not_ready_by_running() -> None:
    assert group_phase([child("Ready"), child("Running", probed=True)], 2) == "Running"
    assert group_phase([child("Ready"), child("Running")], 2) == "Ready"


def test_names_of_replicas_are_short_enough_and_differ() -> None:
    assert replica_name("g", "main", 7) == "g-main-7"
    longest = "g" * (LONGEST_NAME - 7)
    assert replica_name(longest, "main", 7) == f"{longest}-main-7"
    names = {replica_name("g" * LONGEST_NAME, "main", number) for number in range(50)}
    assert {len(name) for name in names} == {LONGEST_NAME}
    assert len(names) == 50


@pytest.mark.parametrize(
    ("finished_ms", "first", "spans"),
    [
        (None, 0, [Span(0, 500, 60_500)]),
        (None, 1, []),
        (90_999, 0, [Span(0, 500, 60_500), Span(1, 60_500, 90_999)]),
        (90_999, 1, [Span(1, 60_500, 90_999)]),
        (90_999, 2, []),
        (60_500, 0, [Span(0, 500, 60_500)]),
        (1_499, 0, [Span(0, 500, 1_499)]),
        (500, 0, []),
        (100, 0, []),
    ],
)
def test_device_time_is_cut_into_whole_intervals_and_a_rest_at_the_end(
    finished_ms: int | None, first: int, spans: list[Span]
) -> None:
    assert due_spans(500, finished_ms, 120_499, 60, first) == spans


async def test_an_older_view_of_a_workload_is_never_written_over_a_newer_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.submit()
    await scene.steps(2)
    before = await scene.get()
    original = scene.store.set_status

    async def changed(resource: Any) -> Any:
        if resource.kind == "Workload":
            raise Conflict("changed meanwhile")
        return await original(resource)

    with monkeypatch.context() as patched:
        patched.setattr(scene.store, "set_status", changed)
        scene.fabric.exit(before.metadata.uid, 0, 0)
        await scene.steps()
    assert "Succeeded" not in await scene.events(), "what was not written is not told"
    await scene.steps()
    assert (await scene.get()).status.phase == "Succeeded"


async def test_events_of_one_moment_keep_their_order(scene: Scene) -> None:
    uid = await scene.submit()
    await scene.steps(2)
    scene.fabric.exit(uid, 0, 3)
    await scene.steps(2)
    events = await scene.store.events(kind="Workload", name="w")
    times = [event.time_ms for event in events]
    assert times == sorted(set(times))
    [exited] = [event for event in events if "log" in event.data]
    assert exited.level in ("warning", "error")


# -- one pass does a bounded part of what is due, and writes and posts many at once


async def made(scene: Scene) -> Counter[str]:
    """Replicas by group."""
    return Counter(one.metadata.owner.name for one in await scene.store.list(Workload) if one.metadata.owner)


@pytest.fixture
async def few(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Ten replicas in a pass, four of one group."""
    monkeypatch.setattr(replicas, "MOST_PER_PASS", 10)
    monkeypatch.setattr(replicas, "MOST_PER_GROUP", 4)
    return await Scene().set_up()


async def test_no_more_replicas_are_made_in_a_pass_than_may_be_and_all_in_the_end(few: Scene) -> None:
    for name in "abc":
        await few.submit(name, replicas=7, rollout=Rollout(independent=True))
    totals, before = [], Counter[str]()
    for _ in range(4):
        await few.steps()
        now = await made(few)
        totals.append(now.total())
        assert max((now - before).values(), default=0) <= 4
        before = now
    assert totals == [10, 20, 21, 21]


async def test_no_more_replicas_are_deleted_in_a_pass_than_may_be_and_all_in_the_end(few: Scene) -> None:
    for name in "abc":
        await few.submit(name, replicas=7, rollout=Rollout(independent=True))
    await few.steps(4)
    for name in "abc":
        await few.store.delete(Workload, name, "p")
    totals = []
    for _ in range(4):
        await few.steps()
        totals.append((await made(few)).total())
    assert totals == [11, 1, 0, 0]


class CountedPosts(UsageLog):
    def __init__(self) -> None:
        super().__init__()
        self.posts: list[int] = []

    async def post(self, events: Sequence[UsageEvent]) -> PostResult:
        self.posts.append(len(events))
        return await super().post(events)


async def test_device_time_of_many_gangs_is_posted_at_once_and_nothing_where_none_is_due() -> None:
    scene = Scene()
    usage = scene.usage = CountedPosts()
    scene.loop = scene.new_loop()
    await scene.set_up()
    for name in "abc":
        await scene.submit(name)
    await scene.steps(2)
    await scene.steps(1, seconds=59.5)
    assert usage.posts == []
    await scene.steps(1, seconds=0.5)
    assert usage.posts == [3]
    await scene.steps(2, seconds=10)
    assert usage.posts == [3]
    await scene.steps(1, seconds=40)
    assert usage.posts == [3, 3]
    assert scene.usage.device_seconds() == 3 * 120


@pytest.mark.parametrize("error", [Unavailable("the disk is full"), NotFound("gone")])
async def test_a_status_that_is_not_written_is_tried_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await Scene().set_up()
    for name in (BAD, "fine"):
        await scene.store.apply(Queue(metadata=Metadata(name=name), spec=QueueSpec()))
        await scene.submit(f"of-{name}", queue=name)
    write_all, broken = queues.write_all, True

    async def write(store: Any, writes: Sequence[Any]) -> list[Any]:
        wanted = [one for one in writes if not broken or one.resource.name != BAD]
        done = iter(await write_all(store, wanted))
        return [next(done) if one in wanted else error for one in writes]

    monkeypatch.setattr(queues, "write_all", write)
    await scene.steps(2)
    bad, fine = [(await scene.store.get(Queue, name)).status for name in (BAD, "fine")]
    assert (bad.running, fine.running) == (0, 1)
    broken = False
    await scene.steps(3, seconds=5)
    status = (await scene.store.get(Queue, BAD)).status
    assert (status.running, status.devices_in_use) == (1, 1)
    before = await scene.store.revision()
    await scene.steps(2)
    assert await scene.store.revision() == before


async def test_an_agent_is_told_now_and_then_what_is_posted(scene: Scene) -> None:
    """Each time is a call to a node; what it was not told is posted again, with the same ids."""
    await scene.submit()
    await scene.steps(2)
    marks = []
    for _ in range(11):
        await scene.steps(1, seconds=60)
        [gang] = scene.fabric.hosts["a"].gangs.values()
        marks.append(gang.ranks[0].metered_spans)
    assert marks == [0] * 4 + [5] * 5 + [10] * 2
    posted = set(scene.usage.events)
    scene.loop = scene.new_loop()
    await scene.steps(2)
    assert set(scene.usage.events) == posted
    await scene.steps(1, seconds=60 * 5)
    assert len(scene.usage.events) == 16
