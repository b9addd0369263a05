"""The gateway's application in drawn courses: pages, how requests end, and how it begins and stops."""

import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.clock import VirtualClock
from common.errors import InvalidInput, NotFound, TooManyRequests, Unavailable
from common.http_server.request import ClientGone
from common.ids import secret_digest
from common.settings import Settings
from common.wire import Route, RouteKey, RoutingTable
from inference.gateway import app, metrics
from inference.gateway.app import Gateway
from inference.gateway.control_link.table import RouteIndex
from tests.unit.inference.drawn.gateway.session import broken
from tests.unit.inference.drawn.worlds import Worlds, check_worlds

Patch = pytest.MonkeyPatch
GAUGES = (
    metrics.SPOOL_SEGMENTS,
    metrics.USAGE_OVERDUE,
    metrics.SPOOL_REJECTED_BYTES,
    metrics.SPOOL_OLDEST_SECONDS,
    metrics.ROUTES_AGE_SECONDS,
    metrics.IN_FLIGHT,
)


def _keys() -> tuple[RouteKey, ...]:
    member: dict[str, Any] = {"role": "member", "tenant": "t", "project": "p"}
    return (
        RouteKey(digest=secret_digest("ck-a"), name="a", **member),
        RouteKey(digest=secret_digest("ck-root"), name="root", role="platform-admin"),
    )


def _routes(table: RoutingTable, clock: Any, **more: Any) -> Any:
    """Of which control knows no more."""
    index = RouteIndex(table)

    async def key_of(authorization: bytes) -> RouteKey:
        return index.key_of(authorization, clock)

    async def find(digest: str, model: str) -> tuple[RouteKey, Route]:
        key = index.in_force(digest, clock.now_ms())
        return key, index.find(key.principal, model)

    return SimpleNamespace(index=index, key_of=key_of, find=find, **more)


def _route(name: str, **more: Any) -> Route:
    names = {"model": name, "backend_model": name, "base_model": name, "project": "p", "tenant": "t"}
    return Route(**{**names, **more})


class _Client:
    """A client whose request is made to an application."""

    def __init__(self, rng: random.Random) -> None:
        self.sent: list[Any] = []
        secret = rng.choice((b"ck-a", b"ck-root", b"metrics", b"odd"))
        self.headers = [(b"authorization", b"Bearer " + secret), (b"x-request-id", b"mine-1")]
        self.headers += [(b"content-type", rng.choice((b"application/json", b"text/plain")))]

    async def receive(self) -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def ask(self, gateway: Gateway, method: str, path: str) -> list[Any]:
        scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": self.headers}
        scope |= {"raw_path": path.encode(), "query_string": b"", "client": ("c", 1)}
        await gateway(scope, self.receive, self.send)
        return self.sent


def _requests() -> dict[str, float]:
    return {
        str(sorted(sample.labels.items())): sample.value
        for metric in metrics.REQUESTS.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


async def _pages(rng: random.Random, patch: Patch, home: Path) -> str:
    """What is told at the paths that need no engine, by a gateway in some state."""
    clock = VirtualClock()
    gateway = Gateway(Settings(home=home, metrics_token=rng.choice(("metrics", ""))), clock)
    folder = home / "spool" / "gateway-1"
    folder.mkdir(parents=True)
    for number in range(rng.choice((0, 1, 3))):
        path = folder / f"{number:012d}.jsonl"
        path.touch()
        os.utime(path, (clock.now_ms() / 1000 - rng.choice((-5, 2, 30)),) * 2)
    (folder / "rejected.ndjson").write_text("x" * rng.choice((0, 7)))
    made: Any = gateway
    made.spool = SimpleNamespace(folder=folder)
    made._books = SimpleNamespace(overdue=set(range(rng.choice((0, 2)))))
    made._upstream = SimpleNamespace(replicas=SimpleNamespace(breakers=lambda routes: {}))
    found = [_route("m", created_ms=1_700_000_000_999), _route("n", tenant="u", project="q", shared=True)]
    table = RoutingTable(version="1", keys=_keys(), routes=tuple(found[: rng.choice((0, 1, 2))]))
    age = rng.choice((None, 0.0, 12.5))
    made.routes = _routes(table, made._clock, age_seconds=age, known=rng.random() < 0.5)
    patch.setattr(app, "render_metrics", lambda: (b"page", "text/plain"))
    before, lines = _requests(), list[str]()
    metrics.MODELS.serve(["m"])
    for page in ("/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/m", "/v1/models/n", "/x"):
        for gauge in GAUGES:
            gauge.set(-9)
        told = await _Client(rng).ask(gateway, rng.choice(("GET", "GET", "GET", "PUT")), page)
        values = [sample.value for gauge in GAUGES for metric in gauge.collect() for sample in metric.samples]
        lines.append(f"{page} {told} {values}")
    news = {name: count - before.get(name, 0.0) for name, count in _requests().items()}
    return "\n".join([*lines, str({name: count for name, count in sorted(news.items()) if count})])


async def _ends(rng: random.Random, _: Patch, home: Path) -> str:
    """What becomes of a request whose handling fails, before or after its answer has begun."""
    gateway: Any = Gateway(Settings(home=home), VirtualClock())
    gateway.routes = _routes(RoutingTable(version="1", keys=_keys()), gateway._clock)
    begins, before = rng.random() < 0.4, _requests()
    failure: Any = rng.choice(
        (
            None,
            ClientGone(),
            ValueError("odd"),
            NotFound("gone"),
            TooManyRequests("many"),
            Unavailable("away"),
        )
    )
    handled: list[str] = []

    async def handle(exchange: Any, *more: Any) -> None:
        handled.append(f"{exchange.path} {more}")
        exchange.model = rng.choice(("", "m", "strange"))
        if begins:
            await exchange.start(200, [])
        if failure is not None:
            raise failure

    gateway._inference = SimpleNamespace(handle=handle)
    gateway._proxy = SimpleNamespace(handle=handle)
    client, lines = _Client(rng), list[str]()
    path = rng.choice(("/v1/chat/completions", "/v1/embeddings", "/v1/files/a", "/v1/models/m"))
    method = "DELETE" if path == "/v1/models/m" else "POST"
    metrics.MODELS.serve(["m"])
    try:
        await client.ask(gateway, method, path)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        lines.append(f"raised {error!r}")
    news = {name: count - before.get(name, 0.0) for name, count in _requests().items()}
    counted = {name: count for name, count in sorted(news.items()) if count}
    return "\n".join([*lines, str(handled), str(client.sent), str(counted)])


async def _lives(rng: random.Random, patch: Patch, home: Path) -> str:
    """How a gateway begins and ends, as its server tells it to."""
    gateway: Any = Gateway(Settings(home=home), VirtualClock())
    lines: list[str] = []

    async def start() -> None:
        lines.append("started")
        if refused:
            raise InvalidInput("no room", param="x")

    async def stop() -> None:
        lines.append("stopped")

    refused = rng.random() < 0.4
    patch.setattr(gateway, "start", start)
    patch.setattr(gateway, "stop", stop)
    client = _Client(rng)
    kind = rng.choice(("lifespan", "lifespan", "websocket"))
    await gateway({"type": kind}, client.receive, client.send)
    return f"{kind} {lines} {client.sent}"


class _Part:
    """Something that is closed, and notes it."""

    def __init__(self, name: str, lines: list[str], failure: BaseException | None = None) -> None:
        self._name, self._lines, self._failure = name, lines, failure

    async def close(self) -> None:
        self._lines.append(f"{self._name} is closed")

    async def step(self) -> None:
        self._lines.append(f"{self._name} steps")
        if self._failure is not None:
            raise self._failure

    def end_waits(self) -> None:
        self._lines.append(f"{self._name} ends waits")

    async def give_up_copies(self) -> None:
        self._lines.append(f"{self._name} gives copies up")


async def _stops(rng: random.Random, _: Patch, home: Path) -> str:
    """What is closed when it stops, whether control is there or not."""
    gateway: Any = Gateway(Settings(home=home), VirtualClock())
    lines: list[str] = []
    gateway.shipper = _Part("shipper", lines, rng.choice((None, broken(rng), broken(rng))))
    for name in ("_leases", "_books", "spool", "_session", "_upstream", "_proxy", "_inference"):
        setattr(gateway, name, _Part(name, lines))
    gateway._journal = SimpleNamespace(close=lambda: lines.append("journal is closed"))
    gateway.leave()
    await gateway.stop()
    return "\n".join(lines)


async def _changes(rng: random.Random, _: Patch, home: Path) -> str:
    """What is told of another table."""
    gateway: Any = Gateway(Settings(home=home), VirtualClock())
    lines: list[str] = []
    routes = tuple(_route(name) for name in rng.sample("mno", rng.randrange(4)))
    gateway.routes = SimpleNamespace(index=RouteIndex(RoutingTable(version="1", routes=routes)))
    told = SimpleNamespace(
        keep_only=lambda kept: lines.append(f"keeps {[one.model for one in kept]}"),
        routes_changed=lambda: lines.append("changed"),
    )
    gateway._upstream = gateway._inference = told
    gateway._routes_changed()
    return f"{lines} {[metrics.MODELS.of(name) for name in 'mno']}"


WORLDS: Worlds = {
    "pages": (_pages, 60, 1),
    "ends of requests": (_ends, 48, 2),
    "lives": (_lives, 16, 3),
    "stops": (_stops, 16, 2),
    "changes": (_changes, 16, 2),
}


@pytest.mark.parametrize("name", WORLDS)
async def test_the_application_does_what_was_approved(name: str, tmp_path: Path) -> None:
    try:
        await check_worlds(Path(__file__), name, WORLDS, tmp_path)
    finally:
        for gauge in GAUGES:
            gauge.set(0)
        metrics.MODELS.serve(())
