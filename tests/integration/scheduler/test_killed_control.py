"""Control is killed again and again under load, and the store still says what runs on the nodes."""

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.clock import SYSTEM_CLOCK
from common.db import Database
from common.errors import Conflict, NotFound
from common.resources import Metadata, Project, Workload
from common.resources.people import ProjectSpec
from common.resources.workload import Rollout, WorkloadSpec
from common.settings import Settings, child_environment
from common.store.sql import SqlStore
from scheduler.core.lifecycle import LEAVING, PLACED
from tests.fixtures.fleet import Watched, launchers
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.integration
KILLS = 20
CONTROL = """
import asyncio, sys
from common.clock import SYSTEM_CLOCK
from common.db import Database
from common.settings import load_settings
from common.store.sql import SqlStore
from scheduler.adapters.ray.clusters import fabric_for
from scheduler.loop import SchedulerLoop
from tests.fixtures.fabric import UsageLog

async def main() -> None:
    settings = load_settings()
    store = SqlStore(Database(settings.store_url))
    loop = SchedulerLoop(store, fabric_for(settings), UsageLog(), settings, SYSTEM_CLOCK)
    await loop.step()
    print("up", flush=True)
    await loop.run(asyncio.Event())

asyncio.run(main())
"""


class Control:
    """The loop in a process of its own, on a database that this process shares."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.script = folder / "control.py"
        self.script.write_text(textwrap.dedent(CONTROL))
        root = str(Path(__file__).parents[3])
        self.environment = {**child_environment(settings), "PYTHONPATH": root}
        self.log = (folder / "control.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, str(self.script)]
        self.process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=self.log
        )

    async def until_up(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        line = b""
        while line != b"up\n":
            line = await asyncio.wait_for(asyncio.to_thread(self.process.stdout.readline), 60)
            assert line, "control ended"

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()


class Load:
    """Creates, changes, resizes and deletes workloads of three vendors, by chance."""

    def __init__(self, store: SqlStore, watched: Watched, seed: int) -> None:
        self.store = store
        self.watched = watched
        self.random = random.Random(seed)
        self.made = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(Conflict, NotFound):  # control writes too, and the last one wins
                await self._act()
            await asyncio.sleep(self.random.uniform(0.05, 0.3))

    async def _act(self) -> None:
        mine = [w for w in await self.store.list(Workload) if w.metadata.owner is None]
        action = self.random.choice(["create", "create", "change", "resize", "delete"])
        if not mine or (action == "create" and len(mine) < 8):
            await self._create()
            return
        workload = self.random.choice(mine)
        if action == "delete":
            await self.store.delete(Workload, workload.name, workload.project)
            return
        role = workload.spec.roles[0]
        if action == "resize":
            role.replicas = self.random.randint(1, 3)
        else:
            role.command[-1] = f"version-{self.random.randint(0, 99)}"
        await self.store.apply(workload)

    async def _create(self) -> None:
        self.made += 1
        vendor = self.random.choice(["nvidia", "ascend", "amd"])
        role = self.watched.role(vendor, replicas=self.random.randint(1, 2))
        rollout = Rollout(independent=self.random.random() < 0.3)
        spec = WorkloadSpec(
            roles=[role], rollout=rollout, priority=self.random.randint(0, 2), grace_seconds=1.0
        )
        await self.store.apply(Workload(metadata=Metadata(name=f"w{self.made}", project="p"), spec=spec))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'state.db'}")
    await database.migrate()
    store = SqlStore(database, SYSTEM_CLOCK)
    await store.apply(Project(metadata=Metadata(name="p"), spec=ProjectSpec(tenant="acme")))
    yield store
    await database.close()


async def difference(store: SqlStore, home: Path) -> str:
    """What the store and the nodes do not agree about, in words; empty when they do."""
    allocated: dict[int, tuple[str, int]] = {}
    for workload in await store.list(Workload):
        status = workload.status
        if workload.spec.rollout.independent:
            continue
        if status.phase in LEAVING or status.next is not None:
            return f"{workload.name} is {status.phase}"
        for rank in status.ranks if status.phase in PLACED else ():
            if rank.pid is None or rank.state != "Running":
                return f"{workload.name} rank {rank.rank} is {rank.state}"
            allocated[rank.pid] = (workload.metadata.uid, status.attempt)
    running = launchers(home)
    if allocated != running:
        return f"the store has {allocated}, the nodes have {running}"
    return ""


async def agree(control: Control, store: SqlStore, home: Path) -> int:
    """A new control process, left alone, brings both to the same. How many processes there are then."""
    control.start()
    await control.until_up()
    last = ""

    async def is_same() -> bool:
        nonlocal last
        last = await difference(store, home)
        return not last

    try:
        await eventually(is_same, 30)
    except AssertionError:
        pytest.fail(last)
    return len(launchers(home))


async def test_after_each_of_twenty_kills_the_store_is_what_runs(
    ray_settings: Settings, ray_fabric: object, store: SqlStore, watched: Watched, tmp_path: Path
) -> None:
    settings = ray_settings.model_copy(deep=True)
    settings.store.url = f"sqlite+aiosqlite:///{tmp_path / 'state.db'}"
    control, chance = Control(settings, tmp_path), random.Random(7)
    load, counts = Load(store, watched, seed=11), []
    try:
        for kill in range(KILLS):
            counts.append(await agree(control, store, settings.home))
            stop = asyncio.Event()
            loading = asyncio.create_task(load.run(stop))
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            control.kill()
            if kill % 4 == 0:  # and once more, while it starts
                control.start()
                await asyncio.sleep(chance.uniform(1.0, 3.0))
                control.kill()
            stop.set()
            await loading
        counts.append(await agree(control, store, settings.home))
    finally:
        control.kill()
        control.log.close()
    assert load.made > KILLS
    assert sum(count > 0 for count in counts) > KILLS / 2, f"there was hardly anything to compare: {counts}"
