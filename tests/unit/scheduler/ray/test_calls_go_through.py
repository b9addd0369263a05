"""Whatever stands between the scheduler and a node's agent, what is asked and answered goes through it."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from common.clock import VirtualClock
from common.settings import RaySettings, Settings
from scheduler.adapters.ray import connector
from scheduler.adapters.ray.clusters import ManyClusters
from scheduler.adapters.ray.connector import answer
from scheduler.adapters.ray.fabric import RayFabric
from scheduler.adapters.ray.link import ClusterLink
from scheduler.ports import Billing, GangOrder, NodeObservation
from tests.fixtures.ray_stand_in import StandInRay

ORDER = GangOrder("u", 1, 1, "d", Billing("t", "p", "w"), ())
CALLS: dict[str, tuple[object, ...]] = {
    "ensure_gang": (ORDER,),
    "stop_gang": ("u", 2, 7.5),
    "forget_gang": ("u", 2),
    "mark_metered": ("u", 2, {0: 3, 1: 4}),
    "read_log": ("u", 2, 1, -10, 100),
    "series": (),
}
"""What is asked of a node, without its name."""
SILENT = ("stop_gang", "forget_gang", "mark_metered")
"""These answer nothing."""


class Recorder:
    """Stands for an agent, or for the fabric of a cluster with the node ``a``."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    async def nodes(self) -> Sequence[NodeObservation]:
        return [NodeObservation("a", "1", "10.0.0.1", "Alive")]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: object) -> str:
            self.calls.append((name, *arguments))
            return f"answer to {name}"

        return call


@pytest.mark.parametrize("name", CALLS)
async def test_of_the_fabric_on_ray_to_the_agent_of_the_node(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray, agent = StandInRay().put_in_place(monkeypatch), Recorder()
    ray.add_node("1" * 56, "a")
    ray.add_node("2" * 56, "b")
    fabric = RayFabric(Settings(home=tmp_path, ray=RaySettings(address="10.9.9.9:6379")), VirtualClock())
    await fabric.nodes()
    ray.agent("1" * 56).made = agent
    told = await getattr(fabric, name)("a", *CALLS[name])
    assert agent.calls == [(name, *CALLS[name])]
    assert told == (None if name in SILENT else f"answer to {name}")
    await fabric.close()


@pytest.mark.parametrize("name", CALLS)
async def test_of_many_clusters_to_that_of_the_node(name: str) -> None:
    east, west = Recorder(), Recorder()
    west.nodes = _none  # type: ignore[method-assign]
    pool = ManyClusters({"west": west, "east": east}, 20.0, VirtualClock())
    await pool.nodes()
    told = await getattr(pool, name)("a", *CALLS[name])
    assert (east.calls, west.calls) == ([(name, "a", *CALLS[name])], [])
    assert told == (None if name in SILENT else f"answer to {name}")


async def _none() -> Sequence[NodeObservation]:
    return []


@pytest.mark.parametrize("name", [*CALLS, "nodes", "dismiss_agents"])
async def test_of_a_link_to_its_connector_and_of_that_to_the_fabric(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, asked = ClusterLink(Settings(home=tmp_path), "west", "there", VirtualClock()), list[object]()
    arguments = ("a", *CALLS[name]) if name in CALLS else ()

    async def ask(method: str, *rest: object) -> str:
        asked.extend((method, *rest))
        return f"answer to {method}"

    monkeypatch.setattr(link, "_ask", ask)
    told = await getattr(link, name)(*arguments)
    assert asked == [name, *arguments]
    assert told == (None if name in (*SILENT, "dismiss_agents") else f"answer to {name}")
    fabric = Recorder()
    number, worked, value = await answer(fabric, (7, name, arguments))
    assert (number, worked) == (7, True)
    assert fabric.calls == ([] if name == "nodes" else [(name, *arguments)])
    assert name == "nodes" or value == f"answer to {name}"


def test_a_connector_is_started_for_its_cluster_on_its_channel_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, Any] = {}
    monkeypatch.setattr(subprocess, "Popen", lambda command, **how: started.update(how, command=command))
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    for cluster in ("west", ""):
        ClusterLink(Settings(home=tmp_path), cluster, "there", VirtualClock())._spawn(9)
        env = started.pop("env")
        assert started == {
            "command": [sys.executable, "-m", connector.__name__, cluster, "9"],
            "pass_fds": [9],
            "stdin": subprocess.DEVNULL,
            "start_new_session": True,
        }
        assert env["COMPUTILITY_HOME"] == str(tmp_path)
        assert (Path(env["PYTHONPATH"].split(":")[0]) / "scheduler" / "ports.py").exists()
        assert ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" in env) == (cluster == "")
