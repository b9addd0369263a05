"""A backup of database and home, put back after both were lost."""

import os
import subprocess
from pathlib import Path

import pytest

from common.clock import SYSTEM_CLOCK
from common.db import Database
from common.resources import Metadata, Queue, Tenant
from common.resources.people import TenantSpec
from common.resources.pool import QueueSpec
from common.store.sql import SqlStore

SCRIPT = Path(__file__).resolve().parents[3] / "deploy" / "backup.sh"
pytestmark = [pytest.mark.integration, pytest.mark.postgres]


def run(url: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "COMPUTILITY_STORE__URL": url, "COMPUTILITY_HOME": str(home)}
    return subprocess.run([str(SCRIPT), *words], env=env, capture_output=True, text=True, timeout=60)


async def names(url: str) -> list[str]:
    database = Database(url)
    await database.migrate()
    found = [each.metadata.name for each in await SqlStore(database, SYSTEM_CLOCK).list(Tenant)]
    await database.close()
    return found


async def test_what_was_saved_is_there_again(postgres_url: str, tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "backup"
    (home / "files" / "acme").mkdir(parents=True)
    (home / "files" / "acme" / "data.jsonl").write_text("{}\n")
    (home / "logs").mkdir()
    (home / "logs" / "large.log").write_text("x" * 1000)
    database = Database(postgres_url)
    await database.migrate()
    store = SqlStore(database, SYSTEM_CLOCK)
    await store.apply(Tenant(metadata=Metadata(name="acme"), spec=TenantSpec(display_name="Ä")))
    await store.apply(Queue(metadata=Metadata(name="default"), spec=QueueSpec()))
    await database.close()
    saved = run(postgres_url, home, "save", str(folder))
    assert saved.returncode == 0, saved.stderr
    assert "is there already" in run(postgres_url, home, "save", str(folder)).stderr

    database = Database(postgres_url)
    store = SqlStore(database, SYSTEM_CLOCK)
    await store.delete(Tenant, "acme")
    await store.apply(Tenant(metadata=Metadata(name="later"), spec=TenantSpec()))
    await database.close()
    (home / "files" / "acme" / "data.jsonl").unlink()
    (home / "files" / "later.jsonl").write_text("{}\n")

    restored = run(postgres_url, home, "restore", str(folder))
    assert restored.returncode == 0, restored.stderr
    assert await names(postgres_url) == ["acme"]
    assert (home / "files" / "acme" / "data.jsonl").read_text() == "{}\n"
    assert not (home / "files" / "later.jsonl").exists()
    assert (home / "logs" / "large.log").exists(), "what is not saved is left alone"


async def test_a_damaged_backup_changes_nothing(postgres_url: str, tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "backup"
    home.mkdir()
    await names(postgres_url)
    assert run(postgres_url, home, "save", str(folder)).returncode == 0, "a home with nothing in it"
    with (folder / "database.dump").open("ab") as file:
        file.write(b"more")
    (home / "files").mkdir()
    done = run(postgres_url, home, "restore", str(folder))
    assert (done.returncode, (home / "files").exists()) == (1, True)
    assert "is damaged; nothing was changed" in done.stderr
