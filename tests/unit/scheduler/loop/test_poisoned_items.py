"""One workload, gang, node or queue that the scheduler cannot handle holds up no other, and says why."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import scheduler.decisions as decisions
import scheduler.loop as loop
import scheduler.queues as queues
import scheduler.translate.snapshots as snapshots
import scheduler.translate.views as views
import scheduler.waiting as waiting
from common.resources import Metadata, Node, Queue, Workload
from common.resources.pool import QueueSpec
from common.settings import Settings
from scheduler.core.cycle import run_cycle
from scheduler.core.placement.snapshot import Snapshot
from scheduler.cycles import owner_of
from scheduler.gangs import GangKeeper
from scheduler.insight.insight import Insight
from scheduler.nodes import NodeWriter
from tests.fixtures.fabric import cpu_device
from tests.fixtures.past_the_gate import put
from tests.unit.scheduler.loop_scene import Scene
from tests.unit.scheduler.poison import BAD, phases, poison


@pytest.fixture
async def scene() -> Scene:
    return await Scene().set_up()


def is_bad(workload: Workload, *_: Any) -> bool:
    return workload.name == BAD


PENDING_STEPS = [
    (waiting, "wants_successor", is_bad),
    (waiting, "is_due", is_bad),
    (waiting, "workload_view", is_bad),
    (loop, "state_view", is_bad),
    (loop, "seen_of", is_bad),
    (loop, "after_step", is_bad),
    (decisions, "after_admit", is_bad),
]
RUNNING_STEPS = [
    (loop, "seen_of", is_bad),
    (loop, "merge_ranks", is_bad),
    (loop, "gangs_of", is_bad),
    (snapshots, "running_views", is_bad),
    (loop, "after_step", is_bad),
    (GangKeeper, "_stop_unwanted", lambda keeper, node, gang, *_: gang.billing.workload == BAD),
]


@pytest.mark.parametrize(("where", "name", "is_bad"), PENDING_STEPS)
async def test_a_workload_that_cannot_be_handled_holds_up_no_other_and_says_why(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, is_bad: Any
) -> None:
    with monkeypatch.context() as patched:
        poison(patched, where, name, is_bad)
        for workload in ("good-1", BAD, "good-2"):
            await scene.submit(workload)
        await scene.steps(3)
        for restarted in (False, True):
            if restarted:
                scene.loop = scene.new_loop()
            await scene.steps(3, seconds=1)
            assert await phases(scene) == {"good-1": "Running", "good-2": "Running", BAD: "Pending"}
            bad = await scene.get(BAD)
            handled = bad.status.condition("Handled")
            assert handled is not None
            assert (handled.status, handled.reason) == ("False", "InternalError")
            assert bad.status.pending[0].code == "SetAside"
            assert "int too large" in bad.status.pending[0].message
            told = await Insight(scene.store, Settings(), scene.clock).explain(BAD, "p")
            assert told.reasons[0].code == "SetAside"
            assert "set aside" in told.no_eta
            others = await Insight(scene.store, Settings(), scene.clock).explain("good-1", "p")
            assert others.phase == "Running"
    await scene.steps(4, seconds=400)
    assert (await phases(scene))[BAD] == "Running"
    assert (await scene.get(BAD)).status.is_true("Handled")
    assert (await scene.get("good-1")).status.condition("Handled") is None


@pytest.mark.parametrize(("where", "name", "is_bad"), RUNNING_STEPS)
async def test_a_gang_that_cannot_be_handled_keeps_its_places_and_holds_up_no_other(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, is_bad: Any
) -> None:
    await scene.submit(BAD, count=2)
    await scene.steps(2)
    with monkeypatch.context() as patched:
        poison(patched, where, name, is_bad)
        for restarted in (False, True):
            if restarted:
                scene.loop = scene.new_loop()
            await scene.submit(f"good-{restarted:d}")
            await scene.steps(4, seconds=1)
        assert await phases(scene) == {BAD: "Running", "good-0": "Running", "good-1": "Running"}
        (home,) = {rank.node for rank in (await scene.get(BAD)).status.ranks}
        for good in ("good-0", "good-1"):
            assert all(rank.node != home for rank in (await scene.get(good)).status.ranks)
    await scene.steps(4, seconds=400)
    condition = (await scene.get(BAD)).status.condition("Handled")
    assert condition is None or condition.status == "True"


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("devices", "memory_bytes", 10**400),
        ("devices", "host_memory_bytes", 10**400),
        ("devices", "cpu_millis", 10**400),
        ("devices", "tflops", float("nan")),
        ("devices", "tflops", float("inf")),
        ("devices", "count", -5),
        ("devices", "count", 10**400),
        ("devices", "share_millis", 0),
        ("devices", "models", [None, 7]),
        ("devices", "node_labels", {"a": None}),
        ("role", "replicas", 10**400),
        ("role", "replicas", 0),
        ("role", "command", []),
        ("role", "env", {"\x00": 7}),
        ("spec", "priority", 10**400),
        ("spec", "priority", "high"),
        ("spec", "queue", None),
        ("spec", "expected_seconds", 10**400),
        ("spec", "grace_seconds", float("nan")),
        ("spec", "start_within_seconds", 10**400),
        ("spec", "roles", []),
        ("metadata", "created_ms", None),
    ],
    ids=lambda value: str(value)[:12],
)
async def test_whatever_a_stored_workload_says_the_others_are_placed(
    scene: Scene, part: str, field: str, value: Any
) -> None:
    """Documents that the gate would refuse, put into the store past it."""
    await scene.submit("good-1")
    await scene.submit(BAD)
    odd = await scene.get(BAD)
    role = odd.spec.roles[0]
    parts = {"devices": role.devices, "role": role, "spec": odd.spec, "metadata": odd.metadata}
    parts[part].__dict__[field] = value
    put(scene.store, odd)
    await scene.submit("good-2")
    await scene.steps(6, seconds=1)
    found = await phases(scene)
    assert (found["good-1"], found["good-2"]) == ("Running", "Running")
    insight = Insight(scene.store, Settings(), scene.clock)
    assert (await insight.explain("good-1", "p")).phase == "Running"
    odd = await scene.get(BAD)
    told = odd.status.condition("Handled")
    assert odd.status.phase in ("Running", "Succeeded") or told is not None or odd.status.pending


def poison_cycle(patched: pytest.MonkeyPatch, bad: set[str]) -> list[int]:
    """A cycle breaks wherever one of these waits or runs. Returns the sizes of those that were run."""
    sizes: list[int] = []

    def cycle(snapshot: Snapshot, *arguments: Any, **options: Any) -> Any:
        sizes.append(len(snapshot.pending))
        names = [view.name for view in snapshot.pending]
        names += [view.workload.name for view in snapshot.running]
        if bad & set(names):
            raise OverflowError("int too large to convert to float")
        return run_cycle(snapshot, *arguments, **options)

    patched.setattr("scheduler.translate.deciding.run_cycle", cycle)
    return sizes


@given(good=st.integers(0, 12), bad=st.sets(st.integers(0, 12), min_size=1, max_size=10))
@hypothesis_settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_breaks_a_cycle_is_found_and_all_else_is_decided(
    monkeypatch: pytest.MonkeyPatch, good: int, bad: set[int]
) -> None:
    async def run() -> None:
        scene = await Scene().set_up()
        scene.fabric.hosts["c"].devices = (cpu_device("c", 64),)
        names = [f"w{number:02}" for number in range(max(good, *bad) + 1)]
        for name in names:
            await scene.submit(name, vendor="cpu")
        broken = {names[number] for number in bad}
        with monkeypatch.context() as patched:
            poison_cycle(patched, broken)
            await scene.steps(6, seconds=1)
            found = await phases(scene)
            assert {name for name, phase in found.items() if phase == "Running"} == set(names) - broken
            for name in broken:
                assert (await scene.get(name)).status.pending[0].code == "SetAside"
        await scene.steps(4, seconds=400)
        assert set((await phases(scene)).values()) == {"Running"}

    asyncio.run(run())


async def test_finding_what_breaks_a_cycle_takes_few_cycles_and_none_while_it_is_set_aside(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.fabric.hosts["c"].devices = (cpu_device("c", 4),)
    for number in range(64):
        await scene.submit(f"w{number:02}", vendor="cpu")
    await scene.steps(2)
    await scene.submit(BAD, vendor="cpu")
    sizes = poison_cycle(monkeypatch, {BAD})
    await scene.steps()
    assert len(sizes) <= 6
    await scene.steps(3, seconds=1)
    sizes.clear()
    await scene.steps(3)
    assert len(sizes) == 3


async def test_a_running_gang_that_breaks_cycles_keeps_its_places(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.submit(BAD, count=2)
    await scene.steps(2)
    poison_cycle(monkeypatch, {BAD})
    await scene.submit("good-1", count=2)
    await scene.submit("good-2", count=2)
    await scene.steps(6, seconds=1)
    assert await phases(scene) == {BAD: "Running", "good-1": "Running", "good-2": "Pending"}
    held = (await scene.get(BAD)).status.condition("Handled")
    assert held is not None
    assert held.status == "False"


async def test_a_cycle_that_breaks_on_its_own_fails_the_pass(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.submit()

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("scheduler.translate.deciding.run_cycle", broken)
    with pytest.raises(ZeroDivisionError):
        await scene.steps()


async def test_a_node_that_cannot_be_handled_takes_no_other_with_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.steps()
    for where, name, of in (
        (NodeWriter, "_observed_status", lambda writer, node, *_: node.name == "a"),
        (snapshots, "node_view", lambda node, *_: node.name == "a"),
    ):
        with monkeypatch.context() as patched:
            poison(patched, where, name, of)
            scene.fabric.hosts["a"].labels = {"turn": name.strip("_")}
            await scene.submit(f"w-{name.replace('_', '')}", count=1)
            await scene.steps(4, seconds=1)
            node = await scene.store.get(Node, "a")
            handled = node.status.condition("Handled")
            assert handled is not None
            assert (handled.status, handled.message[:13]) == ("False", "OverflowError")
            assert (await scene.store.get(Node, "b")).status.condition("Handled") is None
        await scene.steps(2, seconds=1)
        assert (await scene.store.get(Node, "a")).status.is_true("Handled")
    assert set((await phases(scene)).values()) == {"Running"}


@pytest.mark.parametrize(
    ("where", "name", "of"),
    [
        (queues.QueueBook, "_status", lambda book, queue, *_: queue.name == BAD),
        (queues.QueueBook, "_spend", lambda book, queue, *_: queue.name == BAD),
        (views, "queue_view", lambda queue, *_: queue.name == BAD),
    ],
)
async def test_a_queue_that_cannot_be_handled_takes_no_other_with_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, of: Any
) -> None:
    for queue in (BAD, "fine"):
        await scene.store.apply(Queue(metadata=Metadata(name=queue), spec=QueueSpec()))
    with monkeypatch.context() as patched:
        poison(patched, where, name, of)
        await scene.submit("w", queue="fine")
        await scene.steps(3, seconds=1)
        assert (await scene.get()).status.phase == "Running"
        assert (await scene.store.get(Queue, "fine")).status.running == 1
        assert (await scene.store.get(Queue, "fine")).status.condition("Handled") is None
        handled = (await scene.store.get(Queue, BAD)).status.condition("Handled")
        assert handled is not None
        assert handled.status == "False"
    await scene.steps(3, seconds=1)
    assert (await scene.store.get(Queue, BAD)).status.is_true("Handled")


def test_the_owner_of_a_view_is_its_workload() -> None:
    assert [owner_of(uid) for uid in ("u", "u/next", "u/left")] == ["u"] * 3
