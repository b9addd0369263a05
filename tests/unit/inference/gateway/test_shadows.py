"""Copies of requests that are under way when a gateway ends."""

import asyncio
from pathlib import Path

import pytest

from common.wire import RouteReplica, RouteShadow
from tests.fixtures.gateway import table
from tests.unit.inference.gateway.front_scene import ASK, front_scene


async def test_copies_are_given_up_before_the_books_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    async with front_scene(tmp_path, monkeypatch) as front:
        other = await front.add_engine(token_seconds=30.0)
        replica = RouteReplica(id="next-0", url=other.url, model_identity="acme-bots/tiny-v2")
        shadow = RouteShadow(source="chat", percent=100.0, model="next", replicas=(replica,))
        front.tell(table([("r0", front.engines[0].url)], shadow=shadow))
        assert (await front.ask(ASK)).status == 200
        async with asyncio.timeout(10):
            while not other.bodies:
                await asyncio.sleep(0.01)
        close, copies = front.gateway.spool.close, front.gateway._inference._shadows
        assert len(copies._tasks) == 1

        async def closing() -> None:
            left.append(len(copies._tasks))
            await close()

        monkeypatch.setattr(front.gateway.spool, "close", closing)
    assert left == [0]
