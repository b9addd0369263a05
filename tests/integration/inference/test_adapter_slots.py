"""A real engine with two slots answers for many adapters, each rightly, as control gave them to it."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from common.clock import SYSTEM_CLOCK
from common.resources import Adapter, Endpoint, Metadata, Model, Project, Workload
from common.resources.people import ProjectSpec
from common.resources.serving import AdapterSpec, EndpointSpec, ModelSpec
from common.resources.workload import Grant, RankPlacement
from common.settings import Settings
from common.store.memory import MemoryStore
from inference.adapters.engine import VllmEngines
from inference.controller import EndpointController
from inference.routes import build_routing_table
from tests.fixtures.adapters import RANK, make_adapter
from tests.fixtures.engine import RealEngine
from tests.fixtures.gateway import TOKEN, Serving, serving, table
from tests.fixtures.tiny_model import shared_tiny_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

PROJECT = "acme-bots"
MANY, WEIGHTS, SLOTS = 20, 5, 2


async def started(store: MemoryStore, engine: RealEngine) -> None:
    """What the scheduler would say of it."""
    workload = await store.get(Workload, "tiny-0", PROJECT)
    parts = urlsplit(engine.url)
    workload.status.phase, workload.status.attempt = "Ready", 1
    workload.status.ranks = [
        RankPlacement(
            role=workload.spec.roles[0].name,
            replica=0,
            rank=0,
            node="n",
            grants=[Grant(device="d", index=0, vendor="cpu", model="x86-64")],
            state="Ready",
            address=str(parts.hostname),
            ports={"http": int(parts.port or 0)},
        )
    ]
    await store.set_status(workload)


@pytest.fixture
async def front(real_engine: RealEngine, tmp_path: Path) -> AsyncIterator[Serving]:
    """Control has given the engine all adapters, and the gateway its routes."""
    store, engines = MemoryStore(SYSTEM_CLOCK), VllmEngines(TOKEN)
    controller = EndpointController(store, engines, Settings(home=tmp_path), SYSTEM_CLOCK)

    def about(name: str) -> Metadata:
        return Metadata(name=name, project=PROJECT)

    source = ModelSpec(source=str(shared_tiny_model()))
    await store.apply(Project(metadata=Metadata(name=PROJECT), spec=ProjectSpec(tenant="acme")))
    await store.apply(Model(metadata=about("tiny"), spec=source))
    spec = EndpointSpec.model_validate({"model": "tiny", "engine": {"maxAdapters": SLOTS}})
    await store.apply(Endpoint(metadata=about("tiny"), spec=spec))
    for number in range(MANY):
        make_adapter(tmp_path / f"{number}", number % WEIGHTS)
        path = str(tmp_path / f"{number}")
        of = AdapterSpec(model="tiny", served_name=f"ft:{number}", path=path, rank=RANK)
        await store.apply(Adapter(metadata=about(f"a{number}"), spec=of))
    await controller.step()
    await started(store, real_engine)
    async with asyncio.timeout(120):
        while not all(one.status.is_true("Served") for one in await store.list(Adapter)):
            await controller.step()
    made = await build_routing_table(store)
    async with serving(tmp_path, made.model_copy(update={"keys": table([]).keys})) as front:
        yield front
    for adapter in await store.list(Adapter):
        await store.delete(Adapter, adapter.name, PROJECT)
    await controller.step()
    assert [model.name for model in await engines.loaded_models(real_engine.url)] == ["tiny"]
    await engines.close()


async def test_each_of_many_adapters_says_what_it_says_on_two_slots(front: Serving) -> None:
    client = front.client()

    async def said(model: str) -> str:
        messages: Any = [{"role": "user", "content": "Tell me a story"}]
        answer = await client.chat.completions.create(
            model=model, messages=messages, max_tokens=8, temperature=0
        )
        return str(answer.choices[0].message.content)

    right = [await said(f"ft:{number}") for number in range(WEIGHTS)]
    assert len({await said("tiny"), *right}) == WEIGHTS + 1
    asked = random.Random(0).choices(range(MANY), k=60)
    for at in range(0, len(asked), 6):
        some = asked[at : at + 6]
        together = await asyncio.gather(*(said(f"ft:{number}") for number in some))
        assert together == [right[number % WEIGHTS] for number in some]
    for event in await front.billed(WEIGHTS + 1 + 60):
        assert event["outcome"] == "completed"
