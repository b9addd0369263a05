"""kill -9 of control while it writes for a client: what one request asks for is there whole or not at all,
and asked again it is neither done twice nor refused."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from common.clock import VirtualClock
from common.db import Database
from common.resources import Model
from common.store.sql import SqlStore
from tests.integration.control.conftest import World, build_world, document, populate

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[1].parent
MODELS = 300
DYING = """
import asyncio, json, os, signal, sys
from pathlib import Path
from common.clock import VirtualClock
from common.db import Database
from common.store.sql import SqlStore
from common.store.sql.history import SqlHistory
from control.api.idempotency import Idempotency
from tests.integration.control.conftest import build_world

url, home, secret, method, path, headers, body, moment = sys.argv[1:]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if moment == "answered":
    Idempotency._keep = die
else:
    note_all = SqlHistory.note_all
    async def noted(*arguments):
        if moment == "written":
            die()
        await note_all(*arguments)
        die()
    SqlHistory.note_all = noted

async def main():
    world = build_world(SqlStore(Database(url), VirtualClock()), Database(url), VirtualClock(), Path(home))
    async with world.client(secret=secret) as client:
        await client.request(method, path, headers=json.loads(headers), content=body)

asyncio.run(main())
"""

Die = Callable[..., None]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite+aiosqlite:///{tmp_path / 'state.db'}"


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    clock, database = VirtualClock(), Database(database_url)
    await database.migrate()
    made = build_world(SqlStore(database, clock), database, clock, tmp_path)
    await populate(made)
    yield made
    await database.close()


@pytest.fixture
def die(world: World, database_url: str, tmp_path: Path) -> Die:
    """Send a request to a control process that is killed at that moment: once the resources are written, once
    their history is, or once its answer is ready."""

    def send(moment: str, method: str, path: str, body: Any = None, **headers: str) -> None:
        content = "" if body is None else json.dumps(body)
        asked = [world.secrets["search-member"], method, path, json.dumps(headers), content, moment]
        command = [sys.executable, "-c", DYING, database_url, str(tmp_path), *asked]
        ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, timeout=60)
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()

    return send


@pytest.mark.parametrize("moment", ["written", "noted"])
async def test_an_apply_is_all_or_none(world: World, die: Die, moment: str) -> None:
    models = [document("Model", f"m{n}", "search") for n in range(MODELS)]
    before = await world.context.store.revision()
    await asyncio.to_thread(die, moment, "POST", "/api/v1/apply", models)
    assert await world.context.store.list(Model) == []
    assert await world.context.store.revision() == before
    assert (await world.apply(*models, key="search-member")).status_code == 200
    assert len(await world.context.store.list(Model)) == MODELS


async def test_what_was_done_and_not_answered_is_answered_when_asked_again(world: World, die: Die) -> None:
    model = document("Model", "m", "search")
    for number, (method, path, body) in enumerate(
        (("POST", "/api/v1/apply", model), ("DELETE", "/api/v1/models/m", None))
    ):
        headers = {"Idempotency-Key": f"k{number}"}
        await asyncio.to_thread(die, "answered", method, path, body, **headers)
        revision = await world.context.store.revision()
        content = "" if body is None else json.dumps(body)
        again = await world.request("search-member", method, path, content=content, headers=headers)
        assert (again.status_code, again.headers.get("Idempotent-Replayed")) == (200, "true"), again.text
        assert "m" in again.text
        assert await world.context.store.revision() == revision
    assert await world.context.store.list(Model) == []
