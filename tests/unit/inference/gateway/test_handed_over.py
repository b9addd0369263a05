"""What the gateway hands to the libraries that do its work, whole: servers, connections, processes."""

import asyncio
import signal
import socket
import ssl
import sys
from pathlib import Path
from types import SimpleNamespace as Told
from typing import Any, cast

import aiohttp
import pytest
import uvicorn

from common.auth import engine_headers
from common.clock import VirtualClock
from common.errors import SetupError, TooLarge
from common.http_server.door import Door
from common.settings import ControlSettings, GatewaySettings, Settings
from common.wire import JSON_LIMIT_BYTES
from inference.core.body import BodyLimits
from inference.gateway import main
from inference.gateway.bodies import Bodies, _start
from inference.gateway.control_link.proxy import ControlProxy
from inference.gateway.engines import upstream
from inference.gateway.exchange import Exchange
from tests.fixtures.ports import free_port


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What sessions and their connectors were made with."""
    found: dict[str, Any] = {}

    class Session:
        def __init__(self, **options: Any) -> None:
            found["session"] = options
            self.close = asyncio.Event().wait

    class Connector:
        def __init__(self, **options: Any) -> None:
            found["connector"] = options

    monkeypatch.setattr(aiohttp, "ClientSession", Session)
    monkeypatch.setattr(aiohttp, "TCPConnector", Connector)
    monkeypatch.setattr(aiohttp, "DummyCookieJar", lambda: "no cookies")
    return found


def settings(home: Path, **gateway: Any) -> Settings:
    return Settings(home=home, internal_token="t", gateway=GatewaySettings(**gateway))


def test_connections_to_engines_wait_as_long_as_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(upstream, "EngineClient", lambda *told: made.append(told))
    gateway = settings(tmp_path, connect_timeout_seconds=1.5, read_timeout_seconds=77.0).gateway
    upstream.Upstream(gateway, "token", VirtualClock())
    headers = {
        "Accept-Encoding": "identity",
        "User-Agent": "computility-gateway",
        **engine_headers("token"),
    }
    assert made == [(headers, 1.5, 77.0)]


def test_what_is_passed_on_to_control_is_passed_on_as_it_is(made: dict[str, Any], tmp_path: Path) -> None:
    trust = ssl.create_default_context()
    ControlProxy(settings(tmp_path, connect_timeout_seconds=2.5), trust)
    assert made["connector"] == {"limit": 0, "keepalive_timeout": 3.0, "ssl": trust}
    session = made["session"]
    del session["connector"]
    assert session == {
        "timeout": aiohttp.ClientTimeout(total=None, sock_connect=2.5, sock_read=300),
        "auto_decompress": False,
        "skip_auto_headers": ("User-Agent", "Accept-Encoding", "Accept", "Content-Type"),
        "cookie_jar": "no cookies",
    }


@pytest.mark.parametrize(
    ("path", "limit"), [("/v1/files", 512 * 1024 + 1024**2), ("/v1/fine_tuning/jobs", JSON_LIMIT_BYTES)]
)
def test_what_is_announced_as_longer_than_control_takes_does_not_come_that_far(
    made: dict[str, Any], tmp_path: Path, path: str, limit: int
) -> None:
    control = ControlSettings(upload_limit_bytes=512 * 1024)
    proxy = ControlProxy(Settings(home=tmp_path, internal_token="t", control=control))

    def check(size: bytes) -> None:
        proxy._check_length(cast(Exchange, Told(path=path, headers={b"content-length": size})))

    for size in (b"", b"x", b"%d" % limit):
        check(size)
    with pytest.raises(TooLarge, match="over the limit of"):
        check(b"%d" % (limit + 1))


def test_limits_of_bodies_are_those_of_the_settings(tmp_path: Path) -> None:
    gateway = settings(
        tmp_path, max_sequences_per_request=3, max_inputs_per_request=5, max_values_per_request=7
    ).gateway
    assert Bodies(gateway, ("Images.Example",))._limits == BodyLimits(3, 5, 7, ("images.example",))


async def test_a_process_that_parses_is_a_python_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def start(*command: str, **options: Any) -> str:
        asked.append((command, options))
        return "process"

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    assert str(await _start()) == "process"
    pipe = asyncio.subprocess.PIPE
    assert asked == [
        (
            (sys.executable, "-m", "inference.gateway.parse_worker"),
            {"stdin": pipe, "stdout": pipe, "start_new_session": True},
        )
    ]


class Server:
    """Stands in for the gateway's server: notes what it is to serve, and is told to stop."""

    told: dict[str, Any]

    def __init__(self, options: dict[str, Any], gateway: Any) -> None:
        assert options["app"] is gateway, "it tells the gateway that it serves"
        Server.told = options

    def run(self, sockets: list[socket.socket]) -> None:
        Server.told["sockets"] = [one.getsockname()[:1] for one in sockets]
        Server.told["inherited"] = [one.get_inheritable() for one in sockets]
        for one in sockets:
            one.close()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """Handlers of signals that were set."""
    handlers: dict[int, Any] = {}
    signals = Told(
        signal=lambda number, handler: handlers.update({number: handler}),
        SIGTERM=signal.SIGTERM,
        SIGINT=signal.SIGINT,
    )
    monkeypatch.setattr(main, "signal", signals)
    monkeypatch.setattr(uvicorn, "Config", lambda app, **options: {"app": app, **options})
    monkeypatch.setattr(main, "GatewayServer", Server)
    monkeypatch.setattr(main, "guarded_by_tls", lambda door, *options: (type(door), *options))
    return handlers


async def test_the_process_serves_as_it_is_set_up(served: dict[int, Any], tmp_path: Path) -> None:
    main.serve(settings(tmp_path, host="127.0.0.1", port=free_port(), drain_seconds=77))
    told = dict(Server.told)
    gateway, look = told.pop("app"), told.pop("callback_notify")
    assert told == {
        "loop": "uvloop",
        "http": (Door, None, gateway.direct),
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "proxy_headers": False,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": 77,
        "timeout_notify": main.LOOK_SECONDS,
        "sockets": [("127.0.0.1",)],
        "inherited": [True],
    }
    looks: list[int] = []
    gateway.trust.look = lambda: looks.append(1)
    await look()
    assert looks == [1]
    assert set(served) == {signal.SIGTERM, signal.SIGINT}
    for handler in served.values():
        with pytest.raises(SystemExit) as ended:
            handler(signal.SIGTERM, None)
        assert ended.value.code == 0, "an ordered stop is no failure"


def test_an_address_that_is_taken_is_told_with_the_way_out() -> None:
    with main.listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert first.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        with pytest.raises(SetupError, match=rf"cannot listen on 127.0.0.1:{port} .*GATEWAY__PORT"):
            main.listen("127.0.0.1", port)
    assert main.listen("::1", 0).family == socket.AF_INET6


def test_a_process_that_cannot_be_set_up_says_why_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured: list[Any] = []
    monkeypatch.setattr(main, "load_settings", lambda: settings(tmp_path))
    monkeypatch.setattr(main, "configure_logging", lambda *told: configured.append(told[1]))
    monkeypatch.setattr(main, "serve", lambda _: None)
    assert (main.main(), configured) == (0, ["gateway"])

    def refused(_: Settings) -> None:
        raise SetupError("no port is free")

    monkeypatch.setattr(main, "serve", refused)
    assert main.main() != 0
    assert capsys.readouterr().err == "error: no port is free\n"
