"""Two Ray clusters, one pool: connectors, and the loss of one cluster."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import psutil
import pytest

from common.errors import Unavailable
from common.ids import new_id
from common.settings import Settings
from scheduler.adapters.ray import connector
from scheduler.adapters.ray.clusters import fabric_for
from scheduler.ports import Billing, Fabric, GangOrder, RankOrder
from tests.fixtures.ray import ForeignRay
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.integration
LOST_SECONDS = 4.0


@pytest.fixture
async def pool(ray_fabric: Any, ray_settings: Settings, foreign_ray: ForeignRay) -> AsyncIterator[Fabric]:
    """The three raylets as cluster east, and another Ray as west. ``ray_fabric`` only cleans up."""
    clusters = {"east": ray_settings.ray.address, "west": foreign_ray.address}
    ray = ray_settings.ray.model_copy(update={"address": "", "clusters": clusters})
    scheduler = ray_settings.scheduler.model_copy(update={"node_lost_seconds": LOST_SECONDS})
    fabric = fabric_for(ray_settings.model_copy(update={"ray": ray, "scheduler": scheduler}))
    await eventually(lambda: _states_are(fabric, east="Alive", west="Alive"), 60)
    yield fabric
    await fabric.close()
    await eventually(_no_connector_is_left, 20)


async def _states_are(fabric: Fabric, **wanted: str) -> bool:
    try:
        nodes = {node.name: node for node in await fabric.nodes()}
    except Unavailable:
        return False  # the connectors still start
    east = [node.state for name, node in nodes.items() if name.startswith("east.node-") and name[-1] in "abc"]
    west = [node.state for name, node in nodes.items() if name.startswith("west.")]
    return east == [wanted["east"]] * 3 and west == [wanted["west"]]


def connectors() -> list[psutil.Process]:
    return [process for process in psutil.Process().children() if _is_connector(process)]


def _is_connector(process: psutil.Process) -> bool:
    try:
        return connector.__name__ in process.cmdline()
    except psutil.NoSuchProcess:  # or a zombie
        return False


async def _no_connector_is_left() -> bool:
    return connectors() == []


def order() -> GangOrder:
    rank = RankOrder(0, "main", 0, ("sleep", "600"), {}, (), ())
    return GangOrder(new_id("uid"), 1, 1, "digest", Billing("acme", "p", "w"), (rank,))


async def test_a_lost_cluster_takes_only_its_own_nodes(pool: Fabric, foreign_ray: ForeignRay) -> None:
    west = next(node for node in await pool.nodes() if node.cluster == "west")
    records = [await pool.ensure_gang(name, order()) for name in ("east.node-a", west.name)]
    assert all(psutil.pid_exists(record.ranks[0].pid or 0) for record in records)
    for process in psutil.Process(foreign_ray.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it may end with the one before
            process.kill()
    foreign_ray.process.send_signal(signal.SIGKILL)
    await eventually(lambda: _states_are(pool, east="Alive", west="Lost"), 60)
    assert psutil.pid_exists(records[0].ranks[0].pid or 0)
    await pool.stop_gang("east.node-a", records[0].uid, 1, 0.0)


async def test_a_killed_connector_is_started_again_and_finds_the_gangs(pool: Fabric) -> None:
    started = order()
    await pool.ensure_gang("east.node-a", started)
    killed = connectors()
    assert len(killed) == 2
    for process in killed:
        os.kill(process.pid, signal.SIGKILL)
    await eventually(lambda: _states_are(pool, east="Alive", west="Alive"), 60)
    assert not {process.pid for process in killed} & {process.pid for process in connectors()}
    gangs = [gang for node in await pool.nodes() for gang in node.gangs if gang.uid == started.uid]
    assert [gang.alive for gang in gangs] == [True]
    await pool.stop_gang("east.node-a", started.uid, 1, 0.0)
