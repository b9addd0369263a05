"""TLS of both servers: who is served, whom the platform's own clients trust, and what is refused in clear."""

import asyncio
import json
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import uvloop

from common.client import Client
from common.errors import InvalidInput, SetupError, Unavailable
from common.http_server.door import Door
from common.http_server.tls_gate import guarded_by_tls
from common.settings import ControlSettings, GatewaySettings, Settings, child_environment, load_settings
from common.tls import ClientTrust, ServerTls, control_client, trust_of
from control.cli.asking.session import Session
from control.supervisor.parts import answers
from control.supervisor.supervisor import Instance
from tests.fixtures.certificates import make_certificate
from tests.fixtures.gateway import SECRET, TOKEN, StandInControl, table
from tests.fixtures.ports import free_port
from tests.integration.control.conftest import running_world

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
ROOT = Path(__file__).resolve().parents[3]


def folder_of(path: Path, name: str) -> Path:
    folder = path / name
    folder.mkdir()
    return folder


@asynccontextmanager
async def process(module: str, settings: Settings) -> AsyncIterator[subprocess.Popen[str]]:
    """The server as a process of its own; ended afterwards."""
    started = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=child_environment(settings),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.terminate()
        started.communicate(timeout=60)


async def until_ready(url: str) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(answers, f"{url}/readyz"):
            await asyncio.sleep(0.1)


async def test_the_gateway_speaks_tls_to_clients_and_to_control(tmp_path: Path) -> None:
    control_tls = make_certificate(folder_of(tmp_path, "control"))
    settings = Settings(
        home=tmp_path / "home",
        internal_token=TOKEN,
        control=ControlSettings(port=free_port(), **control_tls),
        gateway=GatewaySettings(port=free_port(), **make_certificate(folder_of(tmp_path, "gateway"))),
    )
    control = StandInControl(settings.control.port, table([]), tls=ServerTls(settings.control).context)
    await control.start()
    url, key = settings.gateway.base_url, {"Authorization": f"Bearer {SECRET}"}
    async with process("inference.gateway.main", settings):
        await until_ready(url)
        async with httpx.AsyncClient(verify=trust_of(settings, url), base_url=url, headers=key) as client:
            assert (await client.get("/v1/models")).json()["data"][0]["id"] == "tiny"
            assert (await client.get("/v1/files")).json()["path"] == "/v1/files"
        async with httpx.AsyncClient(trust_env=False) as stranger:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await stranger.get(f"{url}/healthz")
            with pytest.raises(httpx.RemoteProtocolError):
                await stranger.get(f"http://127.0.0.1:{settings.gateway.port}/healthz")
    await control.stop()


async def test_the_command_line_and_the_supervisor_reach_control_over_tls(tmp_path: Path) -> None:
    control = ControlSettings(port=free_port(), **make_certificate(tmp_path, "127.0.0.1"))
    settings = Settings(home=tmp_path, internal_token=TOKEN, control=control)
    async with running_world(tmp_path, "memory") as world, serving_tls(world.app, control):
        key = world.secrets["admin"]
        assert await asyncio.to_thread(answers, f"{settings.control_url}/readyz")

        def ask() -> list[str]:
            with control_client(settings, key) as client:
                roles = [client.whoami()["role"]]
            session = Session(settings.model_copy(update={"api_key": key}))
            with session.client() as client:
                roles.append(client.whoami()["role"])
            # As `up` leaves it for a command line that is told nothing but the folder.
            kept = {
                "control_url": control.base_url,
                "api_key": key,
                "control_certificate_file": control.tls_certificate_file,
            }
            (tmp_path / "cli.json").write_text(json.dumps(kept))
            with Session.load(tmp_path).client() as client:
                return [*roles, client.whoami()["role"]]

        assert await asyncio.to_thread(ask) == ["platform-admin"] * 3
        # On another machine, which has the authority's certificate and not the server's.
        away = load_settings(home=tmp_path / "away", tls_ca_file=control.tls_certificate_file)

        def ask_from_away(settings: Settings) -> Any:
            trust = trust_of(settings, control.base_url)
            with Client(control.base_url, key, verify=trust) as client:
                return client.whoami()["role"]

        assert await asyncio.to_thread(ask_from_away, away) == "platform-admin"
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await asyncio.to_thread(ask_from_away, load_settings(home=tmp_path / "away"))


@asynccontextmanager
async def serving_tls(app: Any, address: ControlSettings) -> AsyncIterator[ServerTls]:
    tls = ServerTls(address)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=address.port,
        http=guarded_by_tls(Door(address), tls.context),
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:
            await asyncio.sleep(0.01)
    yield tls
    server.should_exit = True
    await running


async def no_content(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def test_a_renewed_certificate_is_taken_up_while_serving(tmp_path: Path) -> None:
    control = ControlSettings(port=free_port(), **make_certificate(tmp_path))
    settings = Settings(home=tmp_path, control=control)
    kept = ClientTrust(settings, settings.control_url)
    old = trust_of(settings, settings.control_url)

    async def status(verify: ssl.SSLContext | bool) -> int:
        async with httpx.AsyncClient(verify=verify, trust_env=False) as client:
            return (await client.get(settings.control_url)).status_code

    async with serving_tls(no_content, control) as tls:
        assert await status(kept.verify) == 204
        Path(control.tls_key_file).write_text("not a key")
        tls.look()
        assert await status(old) == 204, "what cannot be used does not take the place of what works"
        make_certificate(tmp_path, age=5)
        tls.look()
        with pytest.raises(httpx.ConnectError):
            await status(kept.verify)
        kept.look()
        assert await status(kept.verify) == 204
        with pytest.raises(httpx.ConnectError):
            await status(old)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_who_does_not_finish_a_handshake_is_not_waited_for(tmp_path: Path, loop: str) -> None:
    """Each counts as a connection meanwhile, and others are served."""
    address = ControlSettings(
        port=free_port(), header_seconds=1.0, max_connections=8, **make_certificate(tmp_path)
    )
    runner = uvloop.run if loop == "uvloop" else asyncio.run
    runner(_left_handshakes(tmp_path, address))


async def _left_handshakes(folder: Path, address: ControlSettings) -> None:
    settings = Settings(home=folder, control=address)
    hello = bytes.fromhex("16030100f8010000f40303")
    async with serving_tls(no_content, address):
        started = time.monotonic()
        silent = [await asyncio.open_connection("127.0.0.1", address.port) for _ in range(3)]
        for _, writer in silent[1:]:
            writer.write(hello)
        async with httpx.AsyncClient(verify=trust_of(settings, address.base_url)) as client:
            assert (await client.get(address.base_url)).status_code == 204
        more = [await asyncio.open_connection("127.0.0.1", address.port) for _ in range(12)]
        async with asyncio.timeout(10):
            ends = [await reader.read() for reader, _ in silent]
            await asyncio.gather(*(reader.read() for reader, _ in more), return_exceptions=True)
        assert ends[0] == b""
        assert 0.9 < time.monotonic() - started < 5
        for _, writer in (*silent, *more):
            writer.close()
        async with httpx.AsyncClient(verify=trust_of(settings, address.base_url)) as client:
            for size in (0, 1, 300_000):
                assert (await client.post(address.base_url, content=bytes(size))).status_code == 204


@pytest.mark.parametrize(
    ("module", "section"), [("control.main", "control"), ("inference.gateway.main", "gateway")]
)
def test_a_server_does_not_listen_beyond_the_machine_in_clear(
    tmp_path: Path, module: str, section: str
) -> None:
    settings = load_settings(home=tmp_path, **{section: {"host": "0.0.0.0", "port": free_port()}})
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=child_environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 7, done.stderr
    for word in (f"{section}.host", "TLS_CERTIFICATE_FILE", "TLS_KEY_FILE", "ALLOW_CLEAR_TEXT=true"):
        assert word in done.stderr


async def test_a_server_listens_in_clear_where_it_is_told_to(tmp_path: Path) -> None:
    address = GatewaySettings(host="0.0.0.0", port=free_port(), allow_clear_text=True)
    settings = Settings(
        home=tmp_path, internal_token=TOKEN, control=ControlSettings(port=free_port()), gateway=address
    )
    (settings.folder("spool") / "routes.json").write_text(table([]).model_dump_json())
    async with process("inference.gateway.main", settings):
        await until_ready(address.base_url)


@pytest.mark.parametrize("section", ["control", "gateway"])
def test_up_refuses_what_a_server_would_refuse(tmp_path: Path, section: str) -> None:
    settings = load_settings(home=tmp_path, **{section: {"host": "::", "port": free_port()}})
    instance = Instance(settings)
    with pytest.raises(SetupError, match=f"COMPUTILITY_{section.upper()}__ALLOW_CLEAR_TEXT"):
        instance.check_ports()
    instance.stop()


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    good = make_certificate(tmp_path)
    (tmp_path / "bad.pem").write_text("nothing")
    for bad in (str(tmp_path / "bad.pem"), str(tmp_path / "missing.pem")):
        with pytest.raises(SetupError, match=bad):
            ServerTls(ControlSettings(**{**good, "tls_certificate_file": bad}))
        with pytest.raises(SetupError, match=bad):
            trust_of(Settings(home=tmp_path, tls_ca_file=bad), "https://elsewhere")
    with pytest.raises(InvalidInput, match="go together"):
        load_settings(home=tmp_path, gateway={"tls_key_file": good["tls_key_file"]})


def test_the_token_for_metrics_is_made_once_and_kept_private(tmp_path: Path) -> None:
    instance = Instance(load_settings(home=tmp_path))
    token = instance.settings.metrics_token
    file = tmp_path / "run" / "metrics_token"
    assert (file.read_text(), file.stat().st_mode & 0o777) == (token, 0o600)
    assert token not in ("", instance.settings.internal_token)
    instance.stop()
    again = Instance(load_settings(home=tmp_path))
    assert again.settings.metrics_token == token
    again.stop()
    mine = Instance(load_settings(home=tmp_path, metrics_token="of-my-own"))
    assert mine.settings.metrics_token == "of-my-own"
    mine.stop()
