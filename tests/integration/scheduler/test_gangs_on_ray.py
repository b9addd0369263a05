"""The loop, the agents and real processes on three raylets."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.clock import SYSTEM_CLOCK
from common.errors import SetupError
from common.ids import new_id
from common.resources import Metadata, Project, Workload
from common.resources.people import ProjectSpec
from common.resources.pool import DeviceRequest
from common.resources.workload import Readiness, RestartPolicy, WorkloadRole, WorkloadSpec
from common.settings import Settings
from common.store.memory import MemoryStore
from scheduler.adapters.ray.fabric import RayFabric
from scheduler.loop import SchedulerLoop
from tests.fixtures.fabric import UsageLog
from tests.fixtures.ray import RayCluster
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.integration

SHOW = (
    "import json, os; print(json.dumps({k: os.environ.get(k) for k in ("
    "'CUDA_VISIBLE_DEVICES', 'ASCEND_RT_VISIBLE_DEVICES', 'HIP_VISIBLE_DEVICES', 'RANK', 'WORLD_SIZE',"
    "'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT', 'COMPUTILITY_INSTANCE', 'COMPUTILITY_INTERNAL_TOKEN')}))"
)


class Scene:
    def __init__(self, fabric: RayFabric, settings: Settings) -> None:
        self.store = MemoryStore()
        self.fabric = fabric
        self.usage = UsageLog()
        self.loop = SchedulerLoop(self.store, fabric, self.usage, settings, SYSTEM_CLOCK)
        self.stop = asyncio.Event()
        self.name = new_id("w")

    async def submit(self, *roles: WorkloadRole, **spec: Any) -> None:
        await self.store.apply(Project(metadata=Metadata(name="p"), spec=ProjectSpec(tenant="acme")))
        metadata = Metadata(name=self.name, project="p")
        await self.store.apply(Workload(metadata=metadata, spec=WorkloadSpec(roles=list(roles), **spec)))

    async def get(self) -> Workload:
        return await self.store.get(Workload, self.name, "p")

    async def until(self, phase: str, attempt: int = 1, timeout_seconds: float = 30.0) -> Workload:
        async def is_so() -> bool:
            status = (await self.get()).status
            return status.phase == phase and status.attempt >= attempt

        await eventually(is_so, timeout_seconds)
        return await self.get()

    async def log(self, rank: int) -> str:
        workload = await self.get()
        placed = workload.status.ranks[rank]
        arguments = (workload.metadata.uid, workload.status.attempt, rank, 0, 100_000)
        return (await self.fabric.read_log(placed.node, *arguments)).data.decode()


@pytest.fixture
async def scene(ray_fabric: RayFabric, ray_settings: Settings) -> AsyncIterator[Scene]:
    scene = Scene(ray_fabric, ray_settings)
    running = asyncio.create_task(scene.loop.run(scene.stop))
    yield scene
    await scene.store.delete(Workload, scene.name, "p")
    await eventually(lambda: _nothing_runs(ray_fabric))
    scene.stop.set()
    await running


async def _nothing_runs(fabric: RayFabric) -> bool:
    return not any(node.gangs for node in await fabric.nodes())


def show(name: str, vendor: Any, replicas: int = 1, count: int = 1) -> WorkloadRole:
    devices = DeviceRequest(count=count, vendors=[vendor], not_models=["L20"])
    return WorkloadRole(name=name, replicas=replicas, command=["$(PYTHON)", "-c", SHOW], devices=devices)


async def test_each_rank_of_a_gang_sees_exactly_its_devices(scene: Scene) -> None:
    await scene.submit(show("a", "nvidia", replicas=2), show("b", "ascend", count=2), show("c", "amd"))
    workload = await scene.until("Succeeded")
    assert [rank.node for rank in workload.status.ranks] == ["node-a", "node-a", "node-b", "node-c"]
    seen = [json.loads(await scene.log(rank)) for rank in range(4)]
    assert {one["CUDA_VISIBLE_DEVICES"] for one in seen[:2]} == {"0", "1"}
    assert seen[2]["ASCEND_RT_VISIBLE_DEVICES"] == "0,1"
    assert seen[3]["HIP_VISIBLE_DEVICES"] in ("0", "1")
    shown = [
        sum(bool(value) for key, value in one.items() if key.endswith("VISIBLE_DEVICES")) for one in seen
    ]
    assert shown == [1, 1, 1, 1]
    assert [(one["RANK"], one["LOCAL_RANK"]) for one in seen] == [
        ("0", "0"),
        ("1", "1"),
        ("2", "0"),
        ("3", "0"),
    ]
    assert len({(one["MASTER_ADDR"], one["MASTER_PORT"]) for one in seen}) == 1
    assert {one["WORLD_SIZE"] for one in seen} == {"4"}
    assert {one["COMPUTILITY_INSTANCE"] for one in seen} == {"tests"}
    assert {one["COMPUTILITY_INTERNAL_TOKEN"] for one in seen} == {None}


async def test_a_server_becomes_ready_and_its_port_answers(scene: Scene) -> None:
    command = ["$(PYTHON)", "-m", "http.server", "$(PORT:http)", "--bind", "$(ADDRESS)"]
    role = WorkloadRole(
        name="web",
        command=command,
        ports=["http"],
        readiness=Readiness(port="http", path="/", period_seconds=0.1),
    )
    await scene.submit(role)
    rank = (await scene.until("Ready")).status.ranks[0]
    _, writer = await asyncio.open_connection(rank.address, rank.ports["http"])
    writer.close()


async def test_a_failing_rank_restarts_with_back_off_and_then_fails(scene: Scene) -> None:
    role = WorkloadRole(name="main", command=["sh", "-c", "echo attempt; exit 3"])
    policy = RestartPolicy(max_restarts=2, backoff_seconds=0.4)
    await scene.submit(role, restart=policy)
    status = (await scene.until("Failed")).status
    assert (status.attempt, status.restarts, status.ranks[0].exit_code) == (3, 2, 3)
    events = await scene.store.events(kind="Workload", name=scene.name)
    exits = [event for event in events if event.reason == "RankExited"]
    assert [event.data["log"] for event in exits] == ["attempt"] * 3
    starts = [event.time_ms for event in events if event.reason == "Started"]
    assert starts[1] - exits[0].time_ms >= 400
    assert starts[2] - exits[1].time_ms >= 800


async def test_a_lost_node_takes_its_processes_and_work_moves(scene: Scene, ray_cluster: RayCluster) -> None:
    extra = ray_cluster.add("node-d")
    role = WorkloadRole(name="main", command=["sleep", "600"], devices=DeviceRequest(models=["L20"]))
    await scene.submit(role)
    rank = (await scene.until("Running")).status.ranks[0]
    assert (rank.node, rank.pid is not None) == ("node-d", True)
    ray_cluster.remove(extra)
    workload = await scene.until("Pending", timeout_seconds=60)
    await eventually(lambda: _is_gone(rank.pid or 0))
    assert workload.status.ranks[0].state == "Lost"
    ray_cluster.add("node-e")
    assert (await scene.until("Running", attempt=2, timeout_seconds=60)).status.ranks[0].node == "node-e"


async def _is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)


CONTROL = """
import asyncio, sys
from pathlib import Path
from common.settings import RaySettings, SchedulerSettings, Settings
from scheduler.adapters.ray.fabric import RayFabric
from scheduler.ports import Billing, GangOrder, RankOrder

async def main() -> None:
    address, home, uid = sys.argv[1:]
    scheduler = SchedulerSettings(device_file=home + "/devices.yaml", stop_grace_seconds=2.0)
    fabric = RayFabric(Settings(home=Path(home), instance="tests", ray=RaySettings(address=address),
    scheduler=scheduler))
    while not any(node.state == "Alive" and node.name == "node-a" for node in await fabric.nodes()):
        await asyncio.sleep(0.1)
    rank = RankOrder(0, "main", 0, ("sleep", "600"), {}, (), ())
    billing = Billing(tenant="acme", project="p", workload="adopted")
    await fabric.ensure_gang("node-a", GangOrder(uid, 1, 1, "digest", billing, (rank,)))
    print("started", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_new_control_finds_the_gang_of_one_that_was_killed(
    ray_fabric: RayFabric, ray_cluster: RayCluster, tmp_path: Path
) -> None:
    script, uid = tmp_path / "control.py", new_id("uid")
    script.write_text(textwrap.dedent(CONTROL))
    command = [sys.executable, str(script), ray_cluster.address, str(ray_cluster.home), uid]
    root = str(Path(__file__).parents[3])
    control = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root})
    assert control.stdout is not None
    line = await asyncio.to_thread(control.stdout.readline)
    assert line == b"started\n"
    control.send_signal(signal.SIGKILL)
    control.wait()
    control.stdout.close()
    await asyncio.sleep(1.0)
    gangs = [gang for node in await ray_fabric.nodes() for gang in node.gangs if gang.uid == uid]
    assert [(gang.attempt, gang.alive, gang.billing.workload) for gang in gangs] == [(1, True, "adopted")]
    assert psutil.pid_exists(gangs[0].ranks[0].pid or 0)


async def test_a_killed_agent_takes_its_gangs_and_comes_back_empty(scene: Scene) -> None:
    role = WorkloadRole(name="main", command=["sleep", "600"], devices=DeviceRequest(vendors=["ascend"]))
    await scene.submit(role)
    rank = (await scene.until("Running")).status.ranks[0]
    agent = psutil.Process(rank.pid).parent()
    assert agent is not None
    agent.kill()
    status = (await scene.until("Running", attempt=2, timeout_seconds=60)).status
    assert status.ranks[0].pid != rank.pid
    assert not psutil.pid_exists(rank.pid or 0)


async def test_another_installation_is_refused_and_touches_nothing(
    ray_fabric: RayFabric, ray_settings: Settings
) -> None:
    before = await ray_fabric.nodes()
    other = RayFabric(ray_settings.model_copy(update={"instance": "others", "home": Path("/elsewhere")}))

    async def is_never() -> bool:
        return await other.nodes() == []

    with pytest.raises(SetupError, match="another installation") as refused:
        await eventually(is_never)
    assert str(ray_settings.home) in refused.value.message
    await other.close()
    after = await ray_fabric.nodes()
    assert [(node.name, node.ray_node_id, node.state) for node in after] == [
        (node.name, node.ray_node_id, "Alive") for node in before
    ]
