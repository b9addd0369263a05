"""The control API over its ASGI app, on a store in memory and on SQLite, with two tenants in it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from billing.store import Ledger
from common.clock import VirtualClock
from common.db import Database
from common.resources import API_VERSION, PLURALS, parse_resource
from common.settings import ControlSettings, Settings
from common.store.memory import MemoryStore
from common.store.port import Store
from common.store.sql import SqlStore
from control.api.app import build_app
from control.context import ControlContext
from finetune.adapters.blobs import LocalBlobs
from finetune.api.service import FineTuneService

TOKEN = "internal-token-of-the-tests"
METRICS_TOKEN = "metrics-token-of-the-tests"
TENANTS = {"acme": "search", "globex": "lab"}
"""Tenant -> its project."""
SPECS: dict[str, dict[str, Any]] = {
    "Tenant": {},
    "Project": {"tenant": "acme"},
    "Queue": {},
    "Workload": {"roles": [{"name": "main", "command": ["true"]}]},
    "Job": {"command": ["true"]},
    "Model": {"source": "org/tiny"},
    "Endpoint": {"model": "tiny"},
    "Adapter": {"model": "tiny", "servedName": "ft:tiny", "path": "/adapters/a"},
    "Price": {
        "effectiveFrom": "2090-01-01T00:00:00Z",
        "items": [{"meter": "prompt_tokens", "microcreditsPerMillion": 1_000_000}],
    },
    "Node": {},
    "File": {"filename": "a.jsonl", "purpose": "fine-tune", "sizeBytes": 1, "sha256": "00"},
    "FineTune": {"model": "tiny", "base": "tiny", "baseProject": "lab", "trainingFile": "file-1"},
    "Batch": {"inputFile": "file-1", "endpoint": "/v1/embeddings"},
}
PLURAL_OF = {kind.__name__: plural for plural, kind in PLURALS.items()}


def document(kind: str, name: str, project: str | None = None, **spec: Any) -> dict[str, Any]:
    """A valid document of the kind, with parts of its spec replaced."""
    metadata: dict[str, Any] = {"name": name}
    if project:
        metadata["project"] = project
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": {**SPECS[kind], **spec}}


@dataclass
class World:
    """An API with its parts, and the secrets of its keys by name."""

    context: ControlContext
    app: FastAPI
    clock: VirtualClock
    secrets: dict[str, str] = field(default_factory=dict)

    def client(self, key: str | None = None, secret: str | None = None) -> httpx.AsyncClient:
        """A client with the key of that name, with any secret, or without."""
        secret = self.secrets[key] if key else secret
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        transport = httpx.ASGITransport(self.app)
        return httpx.AsyncClient(transport=transport, base_url="http://control", headers=headers)

    async def request(self, key: str | None, method: str, path: str, **options: Any) -> httpx.Response:
        async with self.client(key) as client:
            return await client.request(method, path, **options)

    async def apply(self, *documents: dict[str, Any], key: str = "admin") -> httpx.Response:
        return await self.request(key, "POST", "/api/v1/apply", json=list(documents))

    async def make_key(self, name: str, role: str, *, by: str = "admin", **more: Any) -> str:
        body = {"name": name, "role": role, **more}
        answer = await self.request(by, "POST", "/api/v1/keys", json=body)
        assert answer.status_code == 201, answer.text
        self.secrets[name] = answer.json()["secret"]
        return self.secrets[name]

    async def store_directly(self, kind: str, name: str, project: str | None = None, **spec: Any) -> None:
        """What a controller writes."""
        await self.context.store.apply(parse_resource(document(kind, name, project, **spec)))


def build_world(store: Store, database: Database, clock: VirtualClock, home: Path) -> World:
    """An API over these parts, with nobody in it."""
    settings = Settings(
        home=home,
        internal_token=TOKEN,
        metrics_token=METRICS_TOKEN,
        control=ControlSettings(upload_limit_bytes=64 * 1024),
    )
    tuning = FineTuneService(store, LocalBlobs(home / "files"), settings, clock)
    context = ControlContext(store, Ledger(database, store, clock), settings, clock, tuning=tuning)
    return World(context, build_app(context), clock)


async def populate(world: World, tenants: Mapping[str, str] = TENANTS) -> None:
    answer = await world.request(
        None, "POST", "/internal/v1/bootstrap", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    world.secrets["admin"] = answer.json()["secret"]
    applied = await world.apply(
        *(document("Tenant", tenant) for tenant in tenants),
        *(document("Project", project, tenant=tenant) for tenant, project in tenants.items()),
        document("Queue", "default"),
    )
    assert applied.status_code == 200, applied.text
    for tenant, project in tenants.items():
        await world.make_key(f"{tenant}-admin", "tenant-admin", tenant=tenant)
        await world.make_key(f"{project}-member", "member", project=project)
        await world.make_key(f"{project}-agent", "agent", project=project)


@asynccontextmanager
async def running_world(
    folder: Path, kind: str, tenants: Mapping[str, str] = TENANTS
) -> AsyncIterator[World]:
    """Tenants acme (project search) and globex (project lab), each with a tenant-admin, a member and an
    agent, on a store of the kind ``memory`` or ``sqlite``.
    """
    clock = VirtualClock()
    database = Database(f"sqlite+aiosqlite:///{folder / 'state.db'}")
    await database.migrate()
    store: Store = MemoryStore(clock) if kind == "memory" else SqlStore(database, clock)
    made = build_world(store, database, clock, folder)
    await populate(made, tenants)
    yield made
    await database.close()


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Both tenants, on each kind of store."""
    async with running_world(tmp_path, request.param) as made:
        yield made
