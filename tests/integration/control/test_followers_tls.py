"""A follower passes requests on to a leader whose certificate holds a name, while its URL has an address."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from common.leadership.elector import Elector
from common.settings import Settings
from control.api.passing_on import PassingOn
from tests.fixtures.certificates import make_certificate
from tests.fixtures.ports import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
NAME = "x-computility-control"


class Follower:
    """What is known of the leader."""

    leads = False
    moved = asyncio.Event()

    def __init__(self, leader_url: str) -> None:
        self.leader_url = leader_url


@asynccontextmanager
async def leader(files: dict[str, str]) -> AsyncIterator[str]:
    """The URL of a server that greets."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("hello")(scope, receive, send)

    port = free_port()
    config = uvicorn.Config(
        app,
        port=port,
        lifespan="off",
        log_config=None,
        ssl_certfile=files["tls_certificate_file"],
        ssl_keyfile=files["tls_key_file"],
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.02)
    try:
        yield f"https://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving


async def asked(url: str, ca_file: str, peer_name: str) -> int:
    """The status with which the follower answers."""
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/x", "raw_path": b"/x"}
    scope |= {"query_string": b"", "headers": []}
    answers: list[Message] = []
    coming: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if not coming:
            await asyncio.Event().wait()
        return coming.pop()

    async def send(message: Message) -> None:
        answers.append(message)

    settings = Settings(tls_ca_file=ca_file)
    settings.control.peer_name = peer_name
    await PassingOn(cast(Any, None), cast(Elector, Follower(url)), settings)(scope, receive, send)
    return int(answers[0]["status"])


async def test_the_leader_is_known_by_its_name(tmp_path: Path) -> None:
    files = make_certificate(tmp_path, NAME)
    async with leader(files) as url:
        assert await asked(url, files["tls_certificate_file"], NAME) == 200
        assert await asked(url, files["tls_certificate_file"], "") == 503, "no certificate holds an address"
        assert await asked(url, files["tls_certificate_file"], "another") == 503
