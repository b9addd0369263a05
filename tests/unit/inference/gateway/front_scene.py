"""A whole gateway on a virtual clock, with engines and control that are reached over Unix sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from common.auth import engine_key
from common.clock import VirtualClock
from common.errors import ComputilityError
from common.settings import GatewaySettings, Settings
from common.wire import RoutingTable
from inference.core.usage import TokenCounts
from inference.gateway.app import Gateway
from inference.gateway.books.spool import read_segment, segments
from inference.gateway.budgets.guard import Asking
from inference.gateway.control_link.table import RouteIndex
from inference.gateway.engines import client
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import METRICS_TOKEN, SECRET, TOKEN, StandInControl, table
from tests.fixtures.wire import Answer, Visit, Wire

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "three words here"}]}


class StandInBudgets:
    """Hard budgets that let all through, or nothing; what was asked of them and what it came to."""

    def __init__(self, refuses: ComputilityError | None = None) -> None:
        self.refuses = refuses
        self.asked: list[Asking] = []
        self.settled: list[TokenCounts] = []

    async def admit(self, _: RouteIndex, asking: Asking) -> "StandInBudgets":
        self.asked.append(asking)
        if self.refuses is not None:
            raise self.refuses
        return self

    def settle(self, counts: TokenCounts) -> None:
        self.settled.append(counts)


class Front:
    """A gateway that serves ``tiny`` on its engines (``http://r0``, ``http://r1``, …)."""

    def __init__(self, wire: Wire, home: Path, **gateway: Any) -> None:
        self.wire = wire
        self.clock = VirtualClock()
        self.settings = Settings(
            home=home,
            internal_token=TOKEN,
            metrics_token=METRICS_TOKEN,
            gateway=GatewaySettings(**gateway),
        )
        self.engines: list[FakeEngine] = []
        self.control = StandInControl(self.settings.control.port, table([]))
        self.control_up = False
        self.gateway = Gateway(self.settings, self.clock)

    async def add_engine(self, **behaviour: Any) -> FakeEngine:
        """One more engine; it has a route once the table is told."""
        engine = FakeEngine(key=engine_key(TOKEN), **behaviour)
        engine.url = f"http://r{len(self.engines)}"
        await engine.start(unix=self.wire.socket(engine.url.removeprefix("http://")))
        self.engines.append(engine)
        return engine

    def routes(self, version: str = "1", **route: Any) -> RoutingTable:
        """The table that names all engines."""
        found = [(engine.url.removeprefix("http://"), engine.url) for engine in self.engines]
        return table(found, version, **route)

    def tell(self, routes: RoutingTable) -> None:
        """As if control had just sent this table."""
        self.control.table = routes
        self.gateway.routes.index = RouteIndex(routes)
        self.gateway._routes_changed()

    async def stand_still(self) -> None:
        """Nothing goes on by itself any more: the test does it."""
        for task in self.gateway._tasks:
            task.cancel()
        await asyncio.gather(*self.gateway._tasks, return_exceptions=True)

    async def start_control(self) -> None:
        await self.control.start(unix=self.wire.socket(f"127.0.0.1:{self.control.port}"))
        self.control_up = True

    async def stop_control(self) -> None:
        await self.control.stop()
        self.control_up = False

    def spooled(self) -> list[dict[str, Any]]:
        """All that is billed and not yet at control."""
        folder = self.gateway.spool.folder
        return [event for path in segments(folder) for event in read_segment(path).events]

    async def ask(
        self,
        body: Any = None,
        path: str = CHAT,
        method: str = "",
        secret: str = SECRET,
        on_part: Callable[[Visit, bytes], None] = lambda visit, part: None,
        **headers: str,
    ) -> Answer:
        """The whole answer to a request. Headers are given with underscores."""
        return await self.visit(body, path, method, secret, on_part, **headers).made_to(self.gateway)

    def visit(
        self,
        body: Any = None,
        path: str = CHAT,
        method: str = "",
        secret: str = SECRET,
        on_part: Callable[[Visit, bytes], None] = lambda visit, part: None,
        **headers: str,
    ) -> Visit:
        """A request that is yet to be made."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if secret:
            sent["authorization"] = f"Bearer {secret}"
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if content:
            sent.setdefault("content-type", "application/json")
        return Visit(method or ("POST" if content else "GET"), path, content, sent, on_part)


@asynccontextmanager
async def front_scene(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    engines: int = 1,
    routes: dict[str, Any] | None = None,
    **gateway: Any,
) -> AsyncIterator[Front]:
    """The scene while it runs; control is away until it is started."""
    wire = Wire()
    monkeypatch.setattr(aiohttp, "TCPConnector", wire.connector)
    monkeypatch.setattr(client, "open_connection", wire.open_connection)
    front = Front(wire, home, **gateway)
    for _ in range(engines):
        await front.add_engine()
    front.control.table = front.routes(**(routes or {}))
    spool = front.settings.folder("spool")
    (spool / "routes.json").write_text(front.control.table.model_dump_json())
    await front.gateway.start()
    try:
        yield front
    finally:
        await front.gateway.stop()
        for engine in front.engines:
            await engine.stop()
        if front.control_up:
            await front.stop_control()
        wire.close()
