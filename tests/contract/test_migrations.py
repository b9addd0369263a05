"""What a newer version makes of a database that an older one has left."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from common.clock import VirtualClock
from common.db import Database
from common.db.migrate import MIGRATIONS
from common.errors import Conflict
from common.resources import API_VERSION, Project, Tenant
from common.store.ownership import Viewer
from common.store.schema import resources
from common.store.sql import SqlStore

OLD: list[tuple[str, str, str, dict[str, object]]] = [
    ("Tenant", "", "acme", {}),
    ("Project", "", "web", {"tenant": "acme"}),
    ("Queue", "", "default", {}),
    ("Model", "web", "own", {"source": "org/own"}),
    ("Model", "web", "everyone-s", {"source": "org/all", "shared": True}),
    ("ApiKey", "", "bot", {"role": "agent", "tenant": "acme", "project": "web"}),
    ("Price", "", "acme-s", {"effectiveFrom": "2020-01-01T00:00:00Z", "tenant": "acme", "items": []}),
]
MADE_MS = 1000


def _upgrade_to(connection: sa.Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def _leave_old_database(url: str) -> None:
    database = Database(url)
    async with database.write() as connection:
        await connection.run_sync(_upgrade_to, "0003")
        for number, (kind, project, name, spec) in enumerate(OLD, 1):
            document = _document(kind, project, name, spec)
            row = {"kind": kind, "project": project, "name": name, "version": number}
            await connection.execute(
                sa.text(
                    "INSERT INTO resources (kind, project, name, resource_version, document) "
                    "VALUES (:kind, :project, :name, :version, :document)"
                ),
                {**row, "document": document},
            )
            await connection.execute(
                sa.text(
                    "INSERT INTO resource_history (revision, type, kind, document) "
                    "VALUES (:version, 'put', :kind, :document)"
                ),
                {"version": number, "kind": kind, "document": document},
            )
        await connection.execute(sa.text(f"UPDATE store_revision SET value = {len(OLD)}"))
        for id_, time_ms in (("of-a-former-owner", MADE_MS - 1), ("of-today-s", MADE_MS)):
            await connection.execute(
                sa.text(
                    "INSERT INTO events (id, time_ms, level, reason, message, kind, name, project, data) "
                    "VALUES (:id, :time_ms, 'info', 'Made', '', 'Workload', 'w', 'web', '{}')"
                ),
                {"id": id_, "time_ms": time_ms},
            )
    await database.close()


def _document(kind: str, project: str, name: str, spec: Mapping[str, object]) -> str:
    metadata = {"name": name, "uid": f"uid-{name}", "createdMs": MADE_MS}
    if project:
        metadata["project"] = project
    return json.dumps({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})


async def test_what_was_stored_gets_its_owners(database_url: str) -> None:
    await _leave_old_database(database_url)
    database = Database(database_url)
    await database.migrate()
    store = SqlStore(database, VirtualClock())
    async with database.read() as connection:
        columns = (resources.c.name, resources.c.owner_tenant, resources.c.owner_project)
        rows = await connection.execute(sa.select(*columns))
        owners = {name: (tenant, project) for name, tenant, project in rows}
    assert owners == {
        "acme": ("uid-acme", ""),
        "web": ("uid-acme", "uid-web"),
        "default": ("*", ""),
        "own": ("uid-acme", "uid-web"),
        "everyone-s": ("*", "uid-web"),
        "bot": ("uid-acme", "uid-web"),
        "acme-s": ("uid-acme", ""),
    }
    assert (await store.get(Tenant, "acme")).metadata.uid == "uid-acme"
    assert (await store.get(Project, "web")).spec.tenant == "acme"

    member = Viewer("uid-acme", "uid-web")
    assert [event.id for event in await store.events(viewer=member)] == ["of-today-s"]
    assert len(await store.events()) == 2
    for viewer in (member, None):
        with pytest.raises(Conflict) as refused:
            await store.changes(len(OLD) - 1, viewer=viewer)
        assert refused.value.code == "gone"
        assert await store.changes(len(OLD), viewer=viewer) == []
    await database.close()


async def test_an_sqlite_file_of_before_gives_free_pages_back(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'state.db'}"
    old = sa.create_engine(f"sqlite:///{tmp_path / 'state.db'}")
    with old.begin() as connection:
        connection.execute(sa.text("CREATE TABLE left_behind (x INTEGER)"))
        assert connection.scalar(sa.text("PRAGMA auto_vacuum")) == 0
    old.dispose()
    database = Database(url)
    await database.migrate()
    async with database.read() as connection_:
        assert await connection_.scalar(sa.text("PRAGMA auto_vacuum")) == 2
    await database.close()
