"""Ray is asked in threads of its own: work of tenants must not make it seem lost."""

import asyncio
import threading
from pathlib import Path

import pytest

from common.settings import Settings
from scheduler.adapters.ray import fabric
from scheduler.adapters.ray.fabric import RayFabric


async def test_ray_lists_its_nodes_while_all_default_threads_are_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"NodeID": "a", "Alive": True}, {"NodeID": "b", "Alive": False}]
    monkeypatch.setattr(fabric.ray, "nodes", lambda: rows)
    go_on = threading.Event()
    blocked = [asyncio.create_task(asyncio.to_thread(go_on.wait)) for _ in range(100)]
    await asyncio.sleep(0)
    try:
        listing = await RayFabric(Settings(home=tmp_path))._list_ray_nodes()
        assert [row["NodeID"] for row in listing] == ["a"]
    finally:
        go_on.set()
        await asyncio.gather(*blocked)
