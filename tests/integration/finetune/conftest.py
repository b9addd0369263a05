"""The fine-tuning API on a loopback port, as an official client meets it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from openai import AsyncOpenAI

from common.auth import Principal
from common.clock import SYSTEM_CLOCK
from common.errors import ComputilityError, Unauthenticated, mapping_of, openai_body
from common.resources import Endpoint, Metadata, Model, Project, Queue
from common.resources.people import ProjectSpec
from common.resources.serving import EndpointSpec, ModelSpec
from common.settings import ControlSettings, Settings
from common.store.memory import MemoryStore
from finetune.adapters.blobs import LocalBlobs
from finetune.api.routes import build_router
from finetune.api.service import FineTuneService
from finetune.jobs.controller import FineTuneController
from tests.fixtures.ports import free_port
from tests.fixtures.tuning import Bill

UPLOAD_LIMIT_BYTES = 2_000_000
PRINCIPALS = {
    "ada": Principal("ada", "member", "acme", "lab"),
    "bob": Principal("bob", "member", "other", "shop"),
    "bot": Principal("bot", "agent", "acme", "lab"),
    "root": Principal("root", "platform-admin"),
    "narrow": Principal("narrow", "member", "acme", "lab", ("something-else",)),
}


class Service:
    """A running API with its parts. ``client(name)`` speaks with the key of that principal."""

    def __init__(self, home: Path) -> None:
        self.store = MemoryStore()
        limits = ControlSettings(upload_limit_bytes=UPLOAD_LIMIT_BYTES)
        settings = Settings(home=home, control=limits)
        blobs = LocalBlobs(settings.folder("files"))
        self.service = FineTuneService(self.store, blobs, settings, SYSTEM_CLOCK)
        self.controller = FineTuneController(self.store, Bill(), blobs, settings, SYSTEM_CLOCK)
        self.port = free_port()
        self.home = home

    def client(self, name: str = "ada", **options: object) -> AsyncOpenAI:
        base_url = f"http://127.0.0.1:{self.port}/v1"
        return AsyncOpenAI(api_key=name, base_url=base_url, max_retries=0, **options)  # type: ignore[arg-type]

    def app(self) -> FastAPI:
        app = FastAPI()
        app.include_router(build_router(self.service, authenticate))
        app.add_exception_handler(ComputilityError, _answer)
        return app

    async def fill(self) -> None:
        await self.store.apply(Queue(metadata=Metadata(name="default")))
        for project, tenant in (("lab", "acme"), ("shop", "other")):
            await self.store.apply(Project(metadata=Metadata(name=project), spec=ProjectSpec(tenant=tenant)))
        await self.store.apply(
            Model(metadata=Metadata(name="tiny", project="lab"), spec=ModelSpec(source="/models/tiny"))
        )
        await self.store.apply(
            Endpoint(
                metadata=Metadata(name="chat", project="lab"),
                spec=EndpointSpec(model="tiny", served_name="small"),
            )
        )


async def authenticate(request: Request) -> Principal:
    name = request.headers.get("authorization", "").removeprefix("Bearer ")
    if name not in PRINCIPALS:
        raise Unauthenticated("the API key is unknown")
    return PRINCIPALS[name]


async def _answer(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ComputilityError)
    return JSONResponse(openai_body(error), mapping_of(error).http_status)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(tmp_path)
    await made.fill()
    server = uvicorn.Server(uvicorn.Config(made.app(), port=made.port, log_level="warning"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield made
    server.should_exit = True
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def client(service: Service) -> AsyncIterator[AsyncOpenAI]:
    async with service.client() as made:
        yield made
