"""What frames a request in the gateway, in drawn courses: tables, bodies, bills, labels, paths, processes."""

import asyncio
import io
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from structlog.testing import capture_logs

from common.auth import Principal
from common.clock import VirtualClock
from common.errors import ComputilityError, Unavailable
from common.http_server.request import ClientGone
from common.settings import GatewaySettings, Settings
from common.wire import Route, RouteReplica, RoutingTable
from inference.core.usage import TokenCounts
from inference.gateway import app, bodies, main, metrics, parse_worker
from inference.gateway.app import Gateway
from inference.gateway.bodies import Bodies
from inference.gateway.books import bill
from inference.gateway.books.bill import Bill, Books, Job, Outcome
from inference.gateway.books.journal import Journal, read_journal
from inference.gateway.control_link import routes
from inference.gateway.control_link.routes import RouteFollower
from inference.gateway.control_link.table import RouteIndex
from inference.gateway.engines.legs import Handover, Sides
from inference.gateway.exchange import Exchange
from inference.gateway.metrics import ModelLabels
from tests.fixtures import approving as approved
from tests.unit.inference.drawn.gateway.session import Ended, Paused, Reply, Session, broken, pauses
from tests.unit.inference.drawn.worlds import Worlds, check_worlds, said
from tests.unit.inference.gateway.front_scene import front_scene

Patch = pytest.MonkeyPatch


def _route(name: str = "m", **more: Any) -> Route:
    return Route(
        **{"model": name, "backend_model": name, "base_model": name, "project": "p", "tenant": "t"} | more
    )


async def _following(rng: random.Random, patch: Patch, home: Path) -> str:
    """A table that is followed, kept on file, and forgotten when it is too old."""
    clock, lines, changes = VirtualClock(), list[str](), list[str]()
    patch.setattr(routes, "asyncio", Paused(pauses(lines, rng.choice((2, 4, 8)))))
    file = home / "spool" / "routes.json"
    file.parent.mkdir()
    kind = rng.random()
    if kind < 0.6:
        file.write_text(RoutingTable(version="kept", routes=(_route(),)).model_dump_json())
        age = rng.choice((-5, 0, 20, 40))
        os.utime(file, (clock.now_ms() / 1000 - age,) * 2)
    elif kind < 0.8:
        file.write_text("{")

    def draw(*_: Any) -> Reply | BaseException:
        clock.advance(rng.choice((0.0, 1.0, 20.0)))
        answer = rng.random()
        if answer < 0.25:
            return broken(rng)
        if answer < 0.5:
            return Reply(rng.choice((304, 304, 500, 401)))
        table = RoutingTable(version=rng.choice(("1", "2")), routes=(_route(rng.choice("mn")),))
        return Reply(200, [table.model_dump_json().encode() if answer < 0.8 else b"[]"])

    session: Any = Session(draw)
    settings = Settings(
        home=home, internal_token="i", gateway=GatewaySettings(routes_max_age_seconds=rng.choice((30, 60)))
    )
    follower = RouteFollower(settings, session, clock, lambda: changes.append(follower.index.version))
    lines.append(f"{follower.known} {follower.age_seconds}")
    follower.load()
    lines.append(f"{follower.known} {follower.age_seconds} {follower.index.version} {changes}")
    turns = rng.choice((3, 6))
    poll = follower.poll

    async def one(wait_seconds: float) -> bool:
        nonlocal turns
        turns -= 1
        if turns < 0:
            raise Ended
        found = await poll(wait_seconds)
        lines.append(f"polled {found} {follower.age_seconds}")
        return found

    patch.setattr(follower, "poll", one)
    with pytest.raises(Ended):
        await follower.follow()
    lines.append(f"{follower.known} {follower.index.version} {changes}")
    for path in sorted(file.parent.iterdir()):
        lines.append(f"{path.name} {approved.digest(path.read_text())} {path.stat().st_mode & 0o77:o}")
    return "\n".join([*lines, *session.asked])


class _Worker:
    """A process that parses, in this one; it may break."""

    def __init__(self, rng: random.Random, lines: list[str]) -> None:
        self._rng, self._lines, self._asked = rng, lines, b""
        self.returncode: int | None = None
        self.stdin = self.stdout = self

    def write(self, data: bytes) -> None:
        self._asked += data

    async def drain(self) -> None:
        accident = self._rng.random()
        if accident < 0.3:
            raise self._rng.choice((BrokenPipeError(), EOFError("cut"), TimeoutError(), ValueError("odd")))
        answer = io.BytesIO()
        parse_worker.serve(io.BytesIO(self._asked), answer)
        self._asked, self._answer = b"", io.BytesIO(answer.getvalue())

    async def readexactly(self, size: int) -> bytes:
        return self._answer.read(size)

    def kill(self) -> None:
        self._lines.append("killed")
        self.returncode = -9
        if self._rng.random() < 0.2:
            raise ProcessLookupError

    async def wait(self) -> None:
        self._lines.append("waited for")


BODIES = (
    b'{"model": "m", "prompt": "x"}',
    b'{"model": "m", "prompt": "x", "n": 3, "user": "u", "max_tokens": 9}',
    b'{"model": "gone", "prompt": "x"}',
    b'{"prompt": "x"}',
    b'{"model": "m", "prompt": ["a", "b", "c"]}',
    b'{"model": "m"',
    b'{"model": "m", "prompt": "x", "stream": true, "temperature": 0}',
    b'{"model": "m", "prompt": "' + b"x" * 60 + b'"}',
)


async def _bodies(rng: random.Random, patch: Patch, _: Path) -> str:
    """Small bodies and large ones, and processes that break."""
    lines: list[str] = []

    async def start() -> Any:
        lines.append("started")
        if rng.random() < 0.1:
            raise OSError(12, "no memory")
        return _Worker(rng, lines)

    patch.setattr(bodies, "_start", start)
    patch.setattr(bodies, "REUSE_BYTES", rng.choice((len(BODIES[1]), len(BODIES[4]), 50)))
    settings = GatewaySettings(
        large_body_bytes=rng.choice((10, 28, 29, 30, 1000)), body_limit_bytes=90, max_sequences_per_request=4
    )
    made = Bodies(settings, ("Host",))
    index = RouteIndex(RoutingTable(version="1", routes=(_route(),)))
    routes: Any = SimpleNamespace(index=index, renewed=AsyncMock(return_value=index))
    for _number in range(4):
        raw, taken, turns = rng.choice(BODIES), list[int](), list[bool]()
        size = rng.choice((7, 1000))
        parts = [raw[at : at + size] for at in range(0, len(raw), size)]
        messages: list[Any] = [{"type": "http.request", "body": one, "more_body": True} for one in parts]
        messages[-1]["more_body"] = False

        async def receive(messages: list[Any] = messages) -> Any:
            return messages.pop(0)

        lock = asyncio.Lock()
        key = SimpleNamespace(principal=Principal("k", "member", "t", "p"))
        ticket: Any = SimpleNamespace(take_bytes=taken.append, turn=lambda lock=lock: lock, key=key)
        exchange = Exchange({"method": "POST", "path": "/", "headers": []}, receive, None)  # type: ignore[arg-type]
        try:
            request = await made.read(exchange, "completions", ticket, routes)
            lines.append(str(request))
        except (ComputilityError, ClientGone, ValueError) as error:
            lines.append(said(error))
        turns.append(lock.locked())
        lines.append(f"{taken} {turns} {len(made._parser._idle)} {made._parser._free._value}")
        if made._parser._idle and rng.random() < 0.2:
            idle: Any = made._parser._idle[0]
            idle.returncode = 1
    await made.close()
    return "\n".join([*lines, str(made._parser._idle)])


async def _bills(rng: random.Random, patch: Patch, home: Path) -> str:
    """What is noted, billed and kept of requests, on a disk that refuses now and then."""
    clock, lines = VirtualClock(), list[str]()
    patch.setattr(bill, "new_id", lambda *_: "use-1")
    patch.setattr(bill, "asyncio", Paused(pauses(lines, 3)))
    kept = Journal(home / "journal", 2)

    class Disk:
        folder = home

        async def append(self, event: Any, on_durable: Callable[[], None]) -> None:
            if rng.random() < 0.35:
                raise Unavailable("full")
            lines.append(f"spooled {event.to_dict()}")
            on_durable()

    disk: Any = Disk()
    books = Books(disk, kept, clock)
    billed: list[Any] = []
    patch.setattr(bill.metrics, "count_billed", billed.append)
    patch.setattr(kept, "sync", lambda at: _may_refuse(rng, lines, f"sync {at}"))
    route = _route(model="n" * rng.choice((1, 1, 1, 5000)))
    names: Any = SimpleNamespace(request_id="req-1")
    request: Any = SimpleNamespace(
        task=rng.choice(("chat", "embeddings")), user="", tags={}, choices_per_prompt=1, prompts=1
    )
    who = Principal("k", "member", "t", "p")
    job = Job(names, None, request, who, route, "t", "p", clock.now_ms(), 0.0)  # type: ignore[arg-type]
    replica = RouteReplica(
        id="r", url="http://r", model_identity="p/w", model_shared=rng.random() < 0.5, device_class="d"
    )
    ours = Bill(books, job)
    try:
        with ours:
            for _number in range(rng.choice((1, 2))):
                ours.begin(replica)
            for _number in range(rng.choice((0, 1, 3))):
                clock.advance(rng.choice((0.0, 1.0)))
                ours.note(TokenCounts(rng.choice((0, 5)), rng.choice((0, 2)), rng.choice((0, 1, 2))))
                found = read_journal(home / "journal")
                lines.append(str([one.to_dict() for one in found.events]))
            counts = TokenCounts(rng.choice((0, 5)), rng.choice((0, 2, 9)), rng.choice((0, 0, 3)))
            outcome: Outcome = rng.choice(("completed", "cancelled", "engine_failed"))
            await ours.settle(counts, outcome)
    except ComputilityError as error:
        lines.append(said(error))
    lines.append(f"{len(kept._free)} {len(books.overdue)} {len(billed)}")
    for path in sorted(home.glob("*.ndjson")):
        lines.append(path.read_text())
    waiting = await asyncio.gather(*books.overdue, return_exceptions=True)
    await books.close()
    lines.append(f"{[type(one).__name__ for one in waiting]} {len(kept._free)} {len(billed)}")
    return "\n".join(lines)


def _may_refuse(rng: random.Random, lines: list[str], what: str) -> None:
    lines.append(what)
    if rng.random() < 0.4:
        raise OSError(5, "odd")


async def _labels(rng: random.Random, patch: Patch, _: Path) -> str:
    """Which models have series of their own."""
    patch.setattr(metrics, "MAX_MODELS", 3)
    removed: list[str] = []
    series = SimpleNamespace(remove_by_labels=lambda labels: removed.append(labels["model"]))
    patch.setattr(metrics, "_BY_MODEL", (series,))
    labels, lines = ModelLabels(), list[str]()
    for _number in range(4):
        labels.serve(rng.sample("abcdef", rng.randrange(6)))
        lines.append(f"{[labels.of(name) for name in ('', *'abcdef')]} {sorted(removed)}")
    return "\n".join(lines)


PATHS = (
    *("/v1/models", "/v1/models/m", "/v1/models/", "/healthz", "/readyz", "/metrics", "/v1/embeddings", "/x"),
    *("/v1/chat/completions", "/v1/completions", "/v1/files", "/v1/files/a/b/c", "/v1/fine_tuning/jobs", "/"),
)


async def _paths(_: random.Random, __: Patch, home: Path) -> str:
    """What answers at which path by which method, and what metrics call it."""
    gateway, lines = Gateway(Settings(home=home)), list[str]()
    for path in PATHS:
        for method in ("GET", "POST", "DELETE", "HEAD"):
            scope: Any = {"method": method, "path": path, "headers": []}
            exchange = Exchange(scope, None, None)  # type: ignore[arg-type]
            name, handler = gateway._handler(exchange)
            refused = getattr(handler, "__name__", "")
            try:
                if refused in ("refuse", "_no_such_route"):
                    await handler(exchange)
            except ComputilityError as error:
                refused = said(error)
            lines.append(f"{method} {path}: {name} {refused}")
    lines.append(str(app._model_object(_route(created_ms=1_700_000_000_999))))
    return "\n".join(lines)


async def _sides(rng: random.Random, _: Patch, __: Path) -> str:
    """Who reads and who answers, and which caches fit."""
    engines = tuple(
        RouteReplica(
            id=f"r{number}",
            url=f"http://r{number}",
            role=rng.choice(("", "prefill", "prefill", "decode", "decode")),
            endpoint=rng.choice(("p/a", "p/a", "p/b")),
            model_identity=rng.choice(("p/m", "p/m", "p/n")),
            min_prompt_tokens=rng.choice((0, 5, 9)),
        )
        for number in range(rng.choice((0, 1, 2, 4, 6)))
    )
    sides = Sides.of(_route(replicas=engines))

    def ids(route: Route | None) -> list[str] | None:
        return [one.id for one in route.replicas] if route is not None else None

    fits = [[Handover(one, {}, TokenCounts()).fits(other) for other in engines] for one in engines]
    decoders = {kin: ids(route) for kin, route in sides.decoders.items()}
    told = (ids(sides.prefill), decoders, ids(sides.answering), ids(sides.others), sides.min_prompt_tokens)
    return f"{told} {fits}"


async def _process(rng: random.Random, patch: Patch, home: Path) -> str:
    """How the process is set up."""
    lines: list[str] = []

    class Config:
        def __init__(self, _: Any, **options: Any) -> None:
            odd = {"http", "callback_notify", "log_config"}
            lines.append(str({name: one for name, one in sorted(options.items()) if name not in odd}))
            lines.append(str(options["log_config"]))
            self.look = options["callback_notify"]

    class Server:
        def __init__(self, config: Any, gateway: Any) -> None:
            self.config, self.gateway = config, gateway

        def run(self, sockets: Any) -> None:
            lines.append(f"{len(sockets)} sockets, {type(self.gateway).__name__}")

    def handle(number: int, act: Any) -> None:
        with pytest.raises(SystemExit) as ended:
            act()
        lines.append(f"{signal.Signals(number).name} ends with {ended.value.code}")

    tls = SimpleNamespace(context=None, look=lambda: lines.append("looks at its certificate"))
    patch.setattr(main, "uvicorn", SimpleNamespace(Config=Config))
    patch.setattr(main, "GatewayServer", Server)
    patch.setattr(main, "ServerTls", lambda _: tls)
    patch.setattr(main, "guarded_by_tls", lambda _, tls, direct: lines.append(f"{tls} {direct.__name__}"))
    patch.setattr(main, "listen", lambda host, port: lines.append(f"listens on {host} {port}"))
    names = {name: getattr(signal, name) for name in ("SIGTERM", "SIGINT")}
    patch.setattr(main, "signal", SimpleNamespace(signal=handle, **names))
    main.serve(Settings(home=home, gateway=GatewaySettings(port=8000 + rng.randrange(9))))
    limits: list[Any] = []
    resource = SimpleNamespace(RLIMIT_AS=9, setrlimit=lambda *told: limits.append(told))
    patch.setattr(parse_worker, "resource", resource)
    patch.setattr(parse_worker, "give_way_alone", limits.append)
    head = json.dumps({"api": "completions", "limits": {}}).encode()
    raw = rng.choice(BODIES)
    asked = parse_worker.LENGTHS.pack(len(head), len(raw)) + head + raw
    pipes = SimpleNamespace(
        stdin=SimpleNamespace(buffer=io.BytesIO(asked)), stdout=SimpleNamespace(buffer=io.BytesIO())
    )
    patch.setattr(parse_worker, "sys", pipes)
    lines.append(f"{parse_worker.main()} {limits} {pipes.stdout.buffer.getvalue()!r}")
    return "\n".join(lines)


WORLDS: Worlds = {
    "followed tables": (_following, 40, 1),
    "bodies": (_bodies, 100, 1),
    "bills": (_bills, 200, 2),
    "labels": (_labels, 40, 1),
    "paths": (_paths, 1, 1),
    "sides": (_sides, 150, 3),
    "processes": (_process, 8, 1),
}


@pytest.mark.parametrize("name", WORLDS)
async def test_what_frames_requests_does_what_was_approved(name: str, tmp_path: Path) -> None:
    await check_worlds(Path(__file__), name, WORLDS, tmp_path)


async def test_a_loop_of_the_gateway_that_dies_is_told(tmp_path: Path, monkeypatch: Patch) -> None:
    async def dies(_: Any) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(app.Shipper, "run", dies)
    with capture_logs() as logs:
        async with front_scene(tmp_path, monkeypatch):
            await asyncio.sleep(0.01)
    assert [one["error"] for one in logs if one["event"] == "a background task died"] == ["ValueError('odd')"]


def test_of_a_model_that_is_gone_every_series_ends() -> None:
    by_model = {one for one in vars(metrics).values() if "model" in getattr(one, "_labelnames", ())}
    assert set(metrics._BY_MODEL) == by_model
