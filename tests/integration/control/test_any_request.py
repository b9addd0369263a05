"""Requests made up from the API's own description, by keys of all roles: whatever is asked, the answer is a
right one or a clear error, and never tells what another tenant has.
"""

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.integration.control.conftest import World, document, running_world

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROLES = (None, "admin", "acme-admin", "search-member", "search-agent")
"""A stranger, the platform's admin, and keys of the tenant acme."""
EXAMPLES = 6
"""Of each operation, for each role: what odd requests there are is found over many runs."""
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
"""The description names each status, type and form of answer that comes."""
ENDLESS = ("/api/v1/watch", "/internal/v1/drain")
MARKER = "globex"


class Server(threading.Thread):
    """The API on a loopback port, in a thread with a loop of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._end: Future[None] = Future()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.world: Future[World] = Future()

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        async with running_world(self._folder, "sqlite") as world:
            await _add_private_things(world)
            server = uvicorn.Server(uvicorn.Config(world.app, log_config=None, lifespan="off"))
            serving = asyncio.create_task(server.serve(sockets=[self._socket]))
            self.world.set_result(world)
            await asyncio.wrap_future(self._end)
            server.should_exit = True
            await serving

    def end(self) -> None:
        self._end.set_result(None)
        self.join(20)


async def _add_private_things(world: World) -> None:
    """Things of the other tenant that nobody of acme may hear of."""
    await world.apply(
        document("Model", f"{MARKER}-model", "lab", source=f"{MARKER}/weights"),
        document("Endpoint", f"{MARKER}-endpoint", "lab", model=f"{MARKER}-model"),
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    thread = Server(tmp_path_factory.mktemp("api"))
    thread.start()
    thread.world.result(60)
    yield thread
    thread.end()


@pytest.mark.parametrize("role", ROLES, ids=str)
def test_whatever_is_asked_is_answered_and_tells_nothing_of_others(server: Server, role: str | None) -> None:
    world = server.world.result()
    headers = {"Authorization": f"Bearer {world.secrets[role]}"} if role else {}
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    tried = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        if operation.path not in ENDLESS:
            tried += 1
            _ask(operation, headers, foreign=role not in (None, "admin"))
    assert tried > 50


def _ask(operation: Any, headers: dict[str, str], *, foreign: bool) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        answer = case.call(headers=headers, timeout=20)
        asked = f"{operation.method} {answer.request.url}"
        assert answer.status_code < 500 or answer.status_code == 503, f"{asked}: {answer.text[:500]}"
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code >= 400:
            assert answer.json()["error"]["message"], asked
        if foreign:
            assert MARKER not in answer.text, f"{asked} tells of another tenant: {answer.text[:500]}"

    ask()
