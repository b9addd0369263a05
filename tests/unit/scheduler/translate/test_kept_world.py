"""The world that the loop keeps is what a list of the store says, and decisions are the same from both."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from common.resources import Metadata, Node, Queue, Workload
from common.resources.pool import QueueSpec
from scheduler.core.cycle import run_cycle
from scheduler.core.model.types import Policy
from scheduler.core.placement.trial import keep_books
from scheduler.translate.kept_world import KeptWorld, WorldKeeper
from scheduler.translate.snapshots import SnapshotKeeper
from scheduler.translate.standing import Standings
from scheduler.translate.views import World, is_due, read_world, workload_view
from tests.unit.scheduler.loop_scene import Scene

NAMES = [f"w{number}" for number in range(6)]


class Life:
    """Random changes of everything that the loop looks at."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.scene = scene
        self.rng = random.Random(seed)

    async def change(self) -> None:
        kinds = (self.submit, self.submit, self.delete, self.end, self.node, self.respec, self.queue)
        await self.rng.choice((*kinds, self.restart, self.drain, self.meddle, self.gap))()

    async def submit(self) -> None:
        name, rng = self.rng.choice(NAMES), self.rng
        if await self.scene.store.find(Workload, name, "p") is None:
            spec: dict[str, Any] = {"priority": rng.randint(0, 2), "queue": rng.choice(["default", "q"])}
            await self.scene.submit(name, count=rng.randint(1, 2), replicas=rng.randint(1, 2), **spec)

    async def delete(self) -> None:
        name = self.rng.choice(NAMES)
        if await self.scene.store.find(Workload, name, "p") is not None:
            await self.scene.store.delete(Workload, name, "p")

    async def end(self) -> None:
        alive = self.scene.fabric.alive()
        if alive:
            _, uid, _ = self.rng.choice(alive)
            self.scene.fabric.exit(uid, 0, self.rng.randint(0, 1))

    async def node(self) -> None:
        host = self.scene.fabric.hosts[self.rng.choice("ab")]
        host.state = self.rng.choice(["Alive", "Alive", "Silent", "Lost"])

    async def respec(self) -> None:
        found = await self.scene.store.find(Workload, self.rng.choice(NAMES), "p")
        if found is not None:
            found.spec.suspend = self.rng.random() < 0.3
            found.spec.roles[0].env = {"turn": str(self.rng.randint(0, 1))}
            found.metadata.resource_version = 0
            await self.scene.store.apply(found)

    async def queue(self) -> None:
        spec = QueueSpec(max_devices=self.rng.choice([None, 1, 2]), default_priority=self.rng.randint(0, 2))
        await self.scene.store.apply(Queue(metadata=Metadata(name="q"), spec=spec))

    async def restart(self) -> None:
        self.scene.loop = self.scene.new_loop()

    async def drain(self) -> None:
        found = await self.scene.store.find(Node, self.rng.choice("ab"))
        if found is not None:
            found.spec.drain = not found.spec.drain
            found.metadata.resource_version = 0
            await self.scene.store.apply(found)

    async def meddle(self) -> None:
        """Another writer changes a workload between what the loop reads and what it writes."""
        scene, follow, name = self.scene, WorldKeeper.follow, self.rng.choice(NAMES)

        async def followed(keeper: WorldKeeper) -> None:
            await follow(keeper)
            found = await scene.store.find(Workload, name, "p")
            if found is not None:
                found.metadata.labels = {**found.metadata.labels, "met": str(self.rng.random())[2:6]}
                await scene.store.apply(found)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(WorldKeeper, "follow", followed)
            await scene.loop.step()

    async def gap(self) -> None:
        """The watch has missed something."""
        store = self.scene.store
        store._horizons["", ""] = await store.revision() if self.rng.random() < 0.5 else 0


def content(world: World) -> list[Any]:
    return [world.nodes, world.queues, world.projects, world.workloads]


def sums(standings: Standings) -> dict[str, Any]:
    return {
        name: set(value) if name in ("groups", "waiting") else value
        for name, value in vars(standings).items()
        if name != "families"
    }


def decisions(keeper: SnapshotKeeper, world: World, now_ms: int) -> list[Any]:
    waiting = sorted((w for w in world.workloads.values() if is_due(w, now_ms)), key=lambda w: w.metadata.uid)
    views = [workload_view(workload, world) for workload in waiting]
    snapshot = keeper.take(world, views, (), {}, now_ms)
    books = keep_books(snapshot.queues, snapshot.pool, snapshot.running)
    assert snapshot.books is not None
    for queue in snapshot.queues:
        assert snapshot.books.usage(queue.name) == books.usage(queue.name)
    return run_cycle(snapshot, Policy(), now_ms)


async def live(seed: int, passes: int) -> None:
    scene = await Scene().set_up()
    life, keeper = Life(scene, seed), WorldKeeper(scene.store)
    reader, kept = keeper.world.reader(), SnapshotKeeper(scene.loop._snapshots._catalogue, 10.0)
    for _ in range(passes):
        for _ in range(life.rng.randint(0, 3)):
            await life.change()
        await scene.steps(life.rng.randint(0, 2), seconds=life.rng.choice([0, 1, 3, 40]))
        await keeper.follow()
        world, listed, now_ms = keeper.world, await read_world(scene.store), scene.clock.now_ms()
        assert content(world) == content(listed)
        fresh_world = KeptWorld()
        for uid, workload in listed.workloads.items():
            fresh_world.workloads[uid] = workload
        assert sums(world.standings) == sums(fresh_world.standings)
        kept.follow(world, reader.take_workloads(), reader.take_nodes(), now_ms)
        fresh = SnapshotKeeper(scene.loop._snapshots._catalogue, 10.0)
        fresh.follow(listed, listed.workloads, listed.nodes, now_ms)
        assert set(kept.running) == set(fresh.running)
        assert kept.is_flexible == fresh.is_flexible
        assert decisions(kept, world, now_ms) == decisions(fresh, listed, now_ms)
    for host in scene.fabric.hosts.values():
        host.state = "Alive"
    await scene.steps(8, seconds=40)
    await keeper.follow()
    before = await scene.store.revision()
    scene.loop = scene.new_loop()  # looks at everything
    await scene.loop.step()
    told = [change.resource.key for change in await scene.store.changes(before)]
    assert told == [], "a pass that looks at all finds nothing that the others have missed"
    assert scene.used_twice() == []


@given(seed=st.integers(0, 2**32))
@example(seed=210)  # what a queue has used changes in the store alone
@hypothesis_settings(max_examples=5, deadline=None)
def test_the_kept_world_is_what_a_list_says_and_decides_the_same(seed: int) -> None:
    asyncio.run(live(seed, 12))
