"""How long the gateway waits for others, what its loops outlive, and that nothing stays open at its end."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace as Told
from typing import Any, cast

import aiohttp
import pytest

from billing.core.events import UsageEvent
from common.clock import VirtualClock
from common.errors import InvalidInput, Unavailable
from common.settings import GatewaySettings, Settings
from common.wire import RouteReplica
from inference.core.body import InferenceRequest
from inference.core.routing.router import Sent
from inference.gateway.books.journal import Journal
from inference.gateway.books.shipper import Shipper
from inference.gateway.books.spool import Spool
from inference.gateway.control_link.routes import RouteFollower
from inference.gateway.engines.replicas import Replicas
from inference.gateway.engines.reports import Reports
from inference.gateway.engines.upstream import JSON_CONTENT, EngineCall, Upstream
from tests.unit.inference.gateway.front_scene import Front

REPLICA = RouteReplica(id="r0", url="http://r0", model_identity="p/m")
REQUEST = cast(InferenceRequest, Told(task="completions", api="completions", prompts=2))


class Session:
    """Stands in for a session: notes what it is asked, and answers 304, or raises what is next."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    def get(self, url: str, **options: Any) -> "Session":
        return self._ask("GET", url, options)

    def post(self, url: str, **options: Any) -> "Session":
        return self._ask("POST", url, options)

    def _ask(self, method: str, url: str, options: dict[str, Any]) -> "Session":
        self.asked.append((method, url, options))
        if self.errors:
            raise self.errors.pop(0)
        return self

    def asking(self, method: str, url: str, seconds: float, *more: object) -> "Session":
        """As an engine's client is asked."""
        return self._ask(method, url, {"seconds": seconds, "more": more})

    async def __aenter__(self) -> Any:
        async def nothing() -> bytes:
            return b""

        async def answer() -> dict[str, Any]:
            return {}

        return Told(status=304, raise_for_status=lambda: None, json=answer, read=answer, readany=nothing)

    async def __aexit__(self, *_: object) -> None:
        """Nothing to give back."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, internal_token="t")


def follower(settings: Settings, session: Session) -> RouteFollower:
    return RouteFollower(settings, cast(aiohttp.ClientSession, session), VirtualClock())


def shipper(settings: Settings, session: Session, spool: Any) -> Shipper:
    return Shipper(settings, cast(aiohttp.ClientSession, session), spool)


async def test_nobody_is_waited_for_longer_than_the_matter_takes(settings: Settings) -> None:
    session: Any = Session()
    call = EngineCall(session, REPLICA, cast(Sent, Told()), REQUEST, "req-1")
    assert await call.abort() is False
    assert await call.is_healthy() is False
    await Reports(session, Replicas(VirtualClock(), 10)).ask("http://r0")
    await follower(settings, session).poll(20)
    assert await shipper(settings, session, Told())._post([{"id": "e"}]) == []
    upstream = Upstream(GatewaySettings(), "t", VirtualClock())
    await upstream.close()
    upstream._client = session
    assert await upstream.tell(REPLICA, "/v1/completions", b"body", 5.0) is True
    control, bearer = settings.control_url, {"Authorization": "Bearer t"}
    assert session.asked == [
        (
            "POST",
            "http://r0/inference/v1/abort_requests",
            {"seconds": 2.0, "more": (b'{"request_ids": ["cmpl-req-1-0", "cmpl-req-1-1"]}', JSON_CONTENT)},
        ),
        ("GET", "http://r0/health", {"seconds": 3.0, "more": ()}),
        ("GET", "http://r0/metrics", {"seconds": 1.0, "more": ()}),
        (
            "GET",
            f"{control}/internal/v1/routes",
            {"params": {"since": "", "wait_seconds": "20"}, "headers": bearer, "timeout": _total(35)},
        ),
        (
            "POST",
            f"{control}/internal/v1/usage-events",
            {"json": {"events": [{"id": "e"}]}, "headers": bearer, "timeout": _total(30)},
        ),
        ("POST", "http://r0/v1/completions", {"seconds": 5.0, "more": (b"body", JSON_CONTENT)}),
    ]


def _total(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that were made, each over at once."""
    made: list[float] = []

    async def sleep(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return made


async def _until_cancelled(loop: Any) -> None:
    with pytest.raises(asyncio.CancelledError):
        await loop


async def test_routes_are_followed_on_whatever_control_does(settings: Settings, pauses: list[float]) -> None:
    """With pauses that grow, and are short again once it answers."""
    errors = [aiohttp.ClientError(), OSError("away"), TimeoutError(), *[OSError()] * 3]
    session = Session(*errors)
    follow = follower(settings, session)
    poll: Callable[[float], Any] = follow.poll
    polls = 0

    async def counted(wait_seconds: float) -> bool:
        nonlocal polls
        polls += 1
        if polls == len(errors) + 2:
            session.errors = [OSError("again"), asyncio.CancelledError()]
        return bool(await poll(wait_seconds))

    follow.poll = counted  # type: ignore[method-assign]
    await _until_cancelled(follow.follow())
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 0.25]


class Tables(Session):
    """Answers with what is no table, one after the other."""

    def __init__(self, *contents: bytes) -> None:
        super().__init__()
        self.contents = list(contents)

    async def __aenter__(self) -> Any:
        if not self.contents:
            raise asyncio.CancelledError
        content = self.contents.pop(0)

        async def read() -> bytes:
            return content

        return Told(status=200, raise_for_status=lambda: None, read=read)


async def test_a_table_that_is_none_is_asked_for_again(settings: Settings, pauses: list[float]) -> None:
    follow = follower(settings, Tables(b'{"version": 7, "routes": "none"}', b"{"))
    await _until_cancelled(follow.follow())
    assert pauses == [0.25, 0.5]


async def test_usage_is_shipped_on_whatever_control_does(settings: Settings, pauses: list[float]) -> None:
    """Also after what nobody has thought of."""
    ship = shipper(settings, Session(), Told(folder=settings.home))
    errors = iter(
        [aiohttp.ClientError(), OSError("away"), TimeoutError(), Unavailable("no room"), KeyError("odd")]
    )

    async def step() -> None:
        raise next(errors, asyncio.CancelledError())

    ship.step = step  # type: ignore[method-assign]
    await _until_cancelled(ship.run())
    assert pauses == [0.6, 1.2, 2.4, 4.8, 9.6]


async def test_a_gateway_that_has_stopped_holds_nothing_open(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    gateway = front.gateway

    def noted(name: str, part: Any) -> Any:
        close = part.close

        async def closing() -> None:
            closed.append(name)
            await close()

        return closing

    parts = {
        "session": gateway._session,
        "engines": gateway._upstream,
        "control": gateway._proxy,
        "bodies": gateway._inference._bodies,
        "legs": gateway._inference._legs,
    }
    for name, part in parts.items():
        monkeypatch.setattr(part, "close", noted(name, part))
    await gateway.stop()
    assert sorted(closed) == sorted(parts)
    assert gateway._session.closed
    monkeypatch.setattr(gateway, "stop", _nothing)


async def _nothing() -> None:
    """It has been stopped already."""


async def test_a_spool_gives_back_every_file_that_it_has_opened(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    spool = Spool(tmp_path / "spool", segment_bytes=1)
    for number in range(4):
        await spool.append(UsageEvent(f"use-{number}", "inference", "acme", "bots", 1, 2, {}))
    assert len(spool.sealed()) == 3
    await spool.close()
    assert len(os.listdir("/proc/self/fd")) == before
    again = Spool(tmp_path / "spool")
    assert len(again.sealed()) == 4
    await again.close()


def test_names_that_no_slot_of_the_journal_holds_are_told_before_anything_is_served(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    labels = {f"l{number}": "" for number in range(500)}
    event = UsageEvent("use-1", "inference", "acme", "bots", 1, 2, {}, labels=labels)
    with pytest.raises(InvalidInput, match="names of event use-1 are too long for the journal"):
        journal.open(event)
    journal.close()
