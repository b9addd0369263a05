"""What an apply says it does to engines that run; so do its dry run and a change of the Model."""

from typing import Any

import pytest

from common.resources import Endpoint, Model
from common.resources.workload import Grant, RankPlacement
from inference.wanted_engine import WantedEngines
from tests.integration.control.conftest import World, document

pytestmark = pytest.mark.integration
CHANGE = {"engine": {"maxContextTokens": 512}}
SAID = (
    "its engine is replaced, because it has other arguments than are wanted: one new beside the old one, "
    "which goes when the new one answers"
)


async def serve(world: World, project: str, **spec: Any) -> None:
    """An Endpoint with an engine that runs what its spec says."""
    await world.apply(document("Endpoint", "chat", project, **spec))
    store = world.context.store
    endpoint = await store.get(Endpoint, "chat", project)
    own = await store.find(Model, "tiny", project)
    model = own or next(one for one in await store.list(Model) if one.spec.shared)
    settings = world.context.settings
    made = WantedEngines(settings.engine, settings.tracing.engines_url).of(endpoint, model)[""]
    engine = (await store.apply(made.named("chat-0"))).resource
    engine.status.phase = "Ready"
    grant = Grant(device="d", index=0, vendor="cpu", model="x86-64")
    place: dict[str, Any] = {
        "role": "engine",
        "replica": 0,
        "rank": 0,
        "node": "n",
        "grants": [grant],
        "state": "Ready",
    }
    engine.status.ranks = [RankPlacement(**place, address="10.0.0.1", ports={"http": 9000})]
    await store.set_status(engine)


async def effects(world: World, key: str, *documents: Any, dry_run: bool = False) -> list[str]:
    path = f"/api/v1/apply?dryRun={str(dry_run).lower()}"
    answer = await world.request(key, "POST", path, json=list(documents))
    assert answer.status_code == 200, answer.text
    return [one.get("effect", "") for one in answer.json()["results"]]


async def test_an_apply_and_its_dry_run_say_what_is_replaced(world: World) -> None:
    await world.apply(document("Model", "tiny", "search"))
    await serve(world, "search")
    same, wanted = document("Endpoint", "chat", "search"), document("Endpoint", "chat", "search", **CHANGE)
    new = document("Endpoint", "new", "search", **CHANGE)
    assert await effects(world, "search-member", same, new) == ["", ""]
    assert await effects(world, "search-member", wanted, dry_run=True) == [SAID]
    assert await effects(world, "search-member", wanted) == [SAID]
    assert await effects(world, "search-member", wanted) == [""]
    assert await effects(world, "search-member", same) == [""], "the engine that runs is what it says again"


async def test_a_repeated_request_is_told_the_same(world: World) -> None:
    await world.apply(document("Model", "tiny", "search"))
    await serve(world, "search")
    wanted, headers = document("Endpoint", "chat", "search", **CHANGE), {"Idempotency-Key": "k"}
    for _ in range(2):
        answer = await world.request(
            "search-member", "PUT", "/api/v1/endpoints/chat", json=wanted, headers=headers
        )
        assert answer.json()["effect"] == SAID


async def test_a_model_names_the_endpoints_that_it_may_and_counts_the_others(world: World) -> None:
    await world.apply(document("Model", "tiny", "search", shared=True))
    await serve(world, "search")
    await serve(world, "lab")
    moved = document("Model", "tiny", "search", shared=True, source="org/other")
    [text] = await effects(world, "admin", moved, dry_run=True)
    assert text.count("endpoint/chat: its engine is replaced") == 2
    await world.apply(document("Model", "tiny", "lab"))
    [text] = await effects(world, "admin", moved, dry_run=True)
    assert text == f"endpoint/chat: {SAID}", "the other project has a Model of that name of its own"
