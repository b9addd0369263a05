"""The loop on a fabric in memory and a virtual clock: what a user sees of a workload's life."""

import importlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from common.resources import Metadata, Node, Queue, Workload
from common.resources.pool import QueueSpec
from common.resources.workload import RestartPolicy, WorkloadRole, WorkloadSpec
from tests.unit.scheduler.loop_scene import Scene


@pytest.fixture
async def scene() -> Scene:
    return await Scene().set_up()


async def test_a_workload_is_placed_started_and_ready(scene: Scene) -> None:
    uid = await scene.submit(readiness=True)
    await scene.steps(2)
    assert (await scene.get()).status.phase == "Starting"
    scene.fabric.ready(uid)
    await scene.steps()
    status = (await scene.get()).status
    assert (status.phase, status.attempt, status.ranks[0].state) == ("Ready", 1, "Ready")
    assert status.is_true("Admitted")
    assert status.is_true("Ready")
    assert status.ranks[0].ports["http"] > 0
    assert await scene.reasons() == ["Admitted", "Started", "Ready"]


async def test_nodes_and_queues_are_described(scene: Scene) -> None:
    await scene.store.apply(Queue(metadata=Metadata(name="default"), spec=QueueSpec(max_devices=2)))
    await scene.submit("runs", count=2)
    await scene.submit("waits")
    await scene.steps(2)
    node = await scene.store.get(Node, "a")
    assert [device.model for device in node.status.devices] == ["H100", "H100"]
    assert node.status.is_true("Ready")
    queue = await scene.store.get(Queue, "default")
    assert (queue.status.pending, queue.status.running, queue.status.devices_in_use) == (1, 1, 2)
    assert (await scene.get("waits")).status.pending[0].code == "QueueLimit"


async def test_a_large_world_is_set_apart_from_the_collector_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart: list[int] = []
    monkeypatch.setattr("scheduler.loop.set_world_apart", lambda: apart.append(1))
    await scene.submit()
    await scene.steps(2)
    assert apart == []
    monkeypatch.setattr("scheduler.loop.LARGE_WORLD", 1)
    scene.loop = scene.new_loop()
    await scene.steps(3)
    assert apart == [1]


async def test_a_quiet_pass_writes_nothing(scene: Scene) -> None:
    await scene.submit()
    await scene.submit("waits", count=8)
    await scene.steps(4)
    revision = await scene.store.revision()
    await scene.steps(5)
    assert await scene.store.revision() == revision


async def test_a_gang_over_two_nodes_shares_one_master(scene: Scene) -> None:
    await scene.submit(replicas=4)
    await scene.steps(2)
    assert {node for node, _ in scene.fabric.started} == {"a", "b"}
    masters = {gang.master for host in scene.fabric.hosts.values() for gang in host.gangs.values()}
    assert len(masters) == 1
    assert None not in masters
    first = scene.fabric.started[0][1]
    assert first.ranks[0].rank == 0
    assert first.world_size == 4


async def test_a_gang_is_completed_when_a_node_answers_again(scene: Scene) -> None:
    await scene.submit(replicas=4)
    scene.fabric.refuse_start.add("b")
    await scene.steps(3)
    assert (await scene.get()).status.phase == "Starting"
    handled = (await scene.get()).status.condition("Handled")
    assert handled is not None
    assert (handled.status, handled.message) == ("False", "b does not answer")
    scene.fabric.refuse_start.clear()
    await scene.steps(2, seconds=2)
    assert (await scene.get()).status.phase == "Running"
    assert (await scene.get()).status.is_true("Handled")
    masters = {order.master for _, order in scene.fabric.started[1:]}
    assert masters == {scene.fabric.hosts[scene.fabric.started[0][0]].gangs.popitem()[1].master}


async def test_a_failed_rank_restarts_the_whole_gang_after_the_back_off(scene: Scene) -> None:
    uid = await scene.submit(replicas=2)
    await scene.steps(2)
    scene.fabric.exit(uid, 1, 9)
    await scene.steps()
    status = (await scene.get()).status
    assert (status.phase, status.ranks[1].exit_code) == ("Restarting", 9)
    assert "exit code 9" in status.message
    await scene.steps(2)
    assert scene.fabric.alive() == []
    await scene.steps(2, seconds=1.0)
    status = (await scene.get()).status
    assert (status.phase, status.attempt, status.restarts) == ("Running", 2, 1)
    exited = [event for event in await scene.store.events() if event.reason == "RankExited"]
    assert [event.level for event in exited] == ["warning"]


async def test_success_is_final_and_frees_the_devices(scene: Scene) -> None:
    uid = await scene.submit("first", count=2, replicas=2)
    await scene.submit("second", count=2)
    await scene.steps(2)
    assert (await scene.get("second")).status.phase == "Pending"
    scene.fabric.exit(uid, 0, 0)
    scene.fabric.exit(uid, 1, 0)
    await scene.steps(3)
    first = (await scene.get("first")).status
    assert (first.phase, first.is_true("Finished")) == ("Succeeded", True)
    assert (await scene.get("second")).status.phase == "Running"


async def test_a_deleted_workload_is_stopped_charged_and_forgotten(scene: Scene) -> None:
    await scene.submit()
    await scene.steps(2)
    scene.clock.advance(5)
    await scene.store.delete(Workload, "w", "p")
    await scene.steps(3)
    assert [host.gangs for host in scene.fabric.hosts.values()] == [{}, {}, {}]
    assert scene.usage.device_seconds() == 5


async def test_devices_of_processes_that_still_stop_are_not_given_away(scene: Scene) -> None:
    scene.fabric.hosts = {"a": scene.fabric.hosts["a"]}
    uid = await scene.submit("old", count=2)
    await scene.steps(2)
    scene.fabric.hosts["a"].gangs[(uid, 1)] = _stubborn(scene, uid)
    await scene.store.delete(Workload, "old", "p")
    await scene.submit("new", count=2)
    await scene.steps(2)
    assert (await scene.get("new")).status.phase == "Pending"
    scene.fabric.exit(uid, 0, 137)
    await scene.steps(2)
    assert (await scene.get("new")).status.phase == "Running"


def _stubborn(scene: Scene, uid: str) -> Any:
    """The gang as one that was told to stop and has not yet."""
    return replace(scene.fabric.hosts["a"].gangs[(uid, 1)], stopping=True)


async def test_suspend_and_resume(scene: Scene) -> None:
    await scene.submit()
    await scene.steps(2)
    workload = await scene.get()
    workload.spec.suspend = True
    await scene.store.apply(workload)
    await scene.steps(3)
    workload = await scene.get()
    assert (workload.status.phase, scene.fabric.alive()) == ("Suspended", [])
    workload.spec.suspend = False
    await scene.store.apply(workload)
    await scene.steps(3)
    status = (await scene.get()).status
    assert (status.phase, status.attempt) == ("Running", 2)


async def test_changed_roles_run_anew_and_a_changed_priority_does_not(scene: Scene) -> None:
    await scene.submit()
    await scene.steps(2)
    workload = await scene.get()
    workload.spec.priority = 7
    workload = (await scene.store.apply(workload)).resource
    await scene.steps(3)
    assert (await scene.get()).status.attempt == 1
    workload = await scene.get()
    workload.spec.roles[0].command = ["sleep", "900"]
    await scene.store.apply(workload)
    await scene.steps(4)
    status = (await scene.get()).status
    assert (status.phase, status.attempt, len(scene.fabric.alive())) == ("Running", 2, 1)


async def test_a_lost_node_means_another_place(scene: Scene) -> None:
    await scene.submit(count=2)
    await scene.steps(2)
    lost = (await scene.get()).status.ranks[0].node
    scene.fabric.hosts[lost].state = "Lost"
    await scene.steps()
    assert not (await scene.store.get(Node, lost)).status.is_true("Ready")
    await scene.steps(3, seconds=1.0)
    status = (await scene.get()).status
    assert status.phase == "Running"
    assert status.ranks[0].node != lost
    assert "NodeLost" in await scene.reasons()


async def test_a_silent_node_is_waited_for(scene: Scene) -> None:
    await scene.submit()
    await scene.steps(2)
    node = (await scene.get()).status.ranks[0].node
    scene.fabric.hosts[node].state = "Silent"
    await scene.steps(3, seconds=1.0)
    scene.fabric.hosts[node].state = "Alive"
    await scene.steps(2)
    status = (await scene.get()).status
    assert (status.phase, status.attempt) == ("Running", 1)


async def test_a_gang_that_came_back_from_the_dead_is_stopped(scene: Scene) -> None:
    await scene.submit(count=2)
    await scene.steps(2)
    lost = (await scene.get()).status.ranks[0].node
    scene.fabric.hosts[lost].state = "Lost"
    await scene.steps(4, seconds=1.0)
    scene.fabric.hosts[lost].state = "Alive"
    await scene.steps(3)
    assert [(node, attempt) for node, _, attempt in scene.fabric.alive()] != []
    assert all(attempt == 2 and node != lost for node, _, attempt in scene.fabric.alive())


async def test_a_restarted_agent_means_a_restarted_gang(scene: Scene) -> None:
    await scene.submit()
    await scene.steps(2)
    scene.fabric.restart_agent((await scene.get()).status.ranks[0].node)
    await scene.steps(4, seconds=1.0)
    status = (await scene.get()).status
    assert (status.phase, status.attempt) == ("Running", 2)


async def test_not_ready_in_time_restarts(scene: Scene) -> None:
    await scene.submit(readiness=True)
    await scene.steps(2)
    scene.clock.advance(101)
    await scene.steps()
    assert "not ready after 100 s" in (await scene.get()).status.message
    await scene.steps(3, seconds=1.0)
    assert (await scene.get()).status.attempt == 2


async def test_a_restarted_control_adopts_what_runs(scene: Scene) -> None:
    await scene.submit()
    await scene.submit("waits", count=8)
    await scene.steps(2)
    before, started = await scene.get(), list(scene.fabric.started)
    scene.loop = scene.new_loop()
    await scene.steps(3)
    assert scene.fabric.started == started
    assert (await scene.get()).status == before.status


async def test_control_dies_between_writing_a_placement_and_starting_it(scene: Scene) -> None:
    await scene.submit()
    scene.fabric.refuse_start.update({"a", "b", "c"})
    await scene.steps()
    assert (await scene.get()).status.phase == "Starting"
    scene.fabric.refuse_start.clear()
    scene.loop = scene.new_loop()
    await scene.steps(2)
    assert (await scene.get()).status.phase == "Running"
    assert len(scene.fabric.started) == 1


async def test_a_job_that_ends_within_a_second_is_not_free(scene: Scene) -> None:
    uid = await scene.submit()
    await scene.steps(2)
    scene.clock.advance(0.2)
    scene.fabric.exit(uid, 0, 0)
    await scene.steps(3)
    assert scene.usage.device_seconds() == 1


async def test_device_time_is_charged_to_the_second_across_restarts_of_control(scene: Scene) -> None:
    uid = await scene.submit(count=2)
    await scene.steps(2)
    for seconds in (59.4, 30.2, 61.7, 100.0):
        scene.clock.advance(seconds)
        await scene.loop.step()
        scene.loop = scene.new_loop()
        scene.fabric.hosts["a"].gangs = {
            key: _unmarked(gang) for key, gang in scene.fabric.hosts["a"].gangs.items()
        }
    scene.clock.advance(0.9)
    scene.fabric.exit(uid, 0, 0)
    await scene.steps(3)
    assert scene.usage.device_seconds() == math.ceil(2 * (59.4 + 30.2 + 61.7 + 100.0 + 0.9))
    event = next(iter(scene.usage.events.values()))
    assert (event.tenant, event.project, event.key, event.model) == ("acme", "p", "key-1", "m")
    assert (event.device_class, event.resource) == ("nvidia/H100", "w")


def _unmarked(gang: Any) -> Any:
    """The record as if control had died before it could mark what is posted."""
    return replace(gang, ranks=tuple(replace(rank, metered_spans=0) for rank in gang.ranks))


async def test_a_gang_is_not_forgotten_before_its_time_is_posted(scene: Scene) -> None:
    uid = await scene.submit()
    await scene.steps(2)
    scene.clock.advance(7)
    scene.fabric.exit(uid, 0, 0)
    scene.usage.fail = True
    await scene.steps()
    scene.usage.fail = False
    await scene.steps(3)
    assert scene.usage.device_seconds() == 7


async def test_a_lost_node_is_charged_until_it_was_last_seen(scene: Scene) -> None:
    await scene.submit()
    await scene.steps(2)
    await scene.steps(1, seconds=10)
    scene.fabric.hosts[(await scene.get()).status.ranks[0].node].state = "Lost"
    scene.clock.advance(30)
    await scene.loop.step()
    assert scene.usage.device_seconds() == 10


async def test_who_waits_is_told_why_once(scene: Scene) -> None:
    await scene.submit("first", count=8)
    await scene.submit("second", count=3)
    await scene.steps(2)
    stored = (await scene.get("second")).status
    assert stored.message.startswith("never fits on this pool")
    assert stored.pending[0].message
    assert await scene.reasons() == ["Waiting", "Waiting"]


async def test_who_waits_on_costs_a_pass_nothing_but_its_cycle(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def seen(workload: Workload, *_: object) -> None:
        looked.append(workload.name)

    _spy(monkeypatch, "scheduler.waiting.workload_view", seen)
    _spy(monkeypatch, "scheduler.decisions.after_defer", seen)
    _spy(monkeypatch, "scheduler.loop.gangs_of", seen)
    for number in range(3):
        await scene.submit(f"waits-{number}", count=3)
    await scene.steps(4)
    assert {*looked} == {"waits-0", "waits-1", "waits-2"}
    looked.clear()
    await scene.steps(4)
    assert looked == []
    changed = await scene.get("waits-1")
    changed.spec.priority = 5
    await scene.store.apply(changed)
    await scene.steps(4)
    assert {*looked} == {"waits-1"}


def _spy(monkeypatch: pytest.MonkeyPatch, name: str, told: Callable[..., None]) -> None:
    """Tell of each call of a function, and make it."""
    module, _, attribute = name.rpartition(".")
    original = getattr(importlib.import_module(module), attribute)

    def call(*arguments: Any, **named: Any) -> Any:
        told(*arguments)
        return original(*arguments, **named)

    monkeypatch.setattr(name, call)


async def test_a_workload_of_an_unknown_project_waits_with_a_reason(scene: Scene) -> None:
    role = WorkloadRole(name="main", command=["sleep", "1"])
    await scene.store.apply(
        Workload(metadata=Metadata(name="w", project="nobody"), spec=WorkloadSpec(roles=[role]))
    )
    await scene.steps()
    status = (await scene.store.get(Workload, "w", "nobody")).status
    assert status.pending[0].code == "ProjectUnknown"


async def test_never_restarted_work_fails_with_its_exit_code(scene: Scene) -> None:
    uid = await scene.submit(restart=RestartPolicy(policy="Never"))
    await scene.steps(2)
    scene.fabric.exit(uid, 0, 3)
    await scene.steps(2)
    status = (await scene.get()).status
    assert status.phase == "Failed"
    finished = status.condition("Finished")
    assert finished is not None
    assert (finished.reason, "exit code 3" in finished.message) == ("Failed", True)
