"""Which specs an Endpoint had: over the API, for whom it may concern, and after control starts anew."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from common.db import Database
from common.store.sql import SqlStore
from tests.integration.control.conftest import World, document, running_world

pytestmark = pytest.mark.integration
PATH = "/api/v1/endpoints/chat/revisions?project=search"


def endpoint(**spec: Any) -> dict[str, Any]:
    return document("Endpoint", "chat", "search", **spec)


async def rows(world: World, key: str) -> list[dict[str, Any]]:
    answer: httpx.Response = await world.request(key, "GET", PATH)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def three_specs(world: World) -> None:
    await world.apply(document("Model", "tiny", "search"))
    for key, spec in (
        ("search-member", {}),
        ("admin", {"engine": {"args": ["--seed", "1"], "env": {"SEED": "hidden"}}}),
        ("acme-admin", {"engine": {"args": ["--seed", "1"], "env": {"SEED": "hidden"}}, "replicas": 2}),
    ):
        answer = await world.apply(endpoint(**spec), key=key)
        assert answer.status_code == 200, answer.text


async def test_history_names_who_and_what_and_keeps_no_variables(world: World) -> None:
    await three_specs(world)
    found = await rows(world, "search-member")
    assert [(one["generation"], one["by"]) for one in found] == [
        (3, "acme-admin"),
        (2, "the platform"),
        (1, "search-member"),
    ]
    assert found[0]["paths"] == ["spec.replicas"]
    assert "hidden" not in str(found)
    assert [one["by"] for one in await rows(world, "admin")][1] == "admin"


@pytest.mark.parametrize(("key", "code"), [("lab-member", 404), ("globex-admin", 404), ("search-agent", 403)])
async def test_strangers_and_agents_see_none(world: World, key: str, code: int) -> None:
    await three_specs(world)
    assert (await world.request(key, "GET", PATH)).status_code == code
    shared = endpoint(shared=True)
    await world.apply(shared)
    assert (await world.request(key, "GET", PATH)).status_code == code


async def test_going_back_is_judged_like_every_other_change(world: World) -> None:
    await three_specs(world)
    earlier = {one["generation"]: one["spec"] for one in await rows(world, "search-member")}
    wanted = endpoint(**earlier[1])
    refused = await world.apply(wanted, key="search-member")
    assert refused.status_code == 403, "it takes away arguments that a platform-admin set"
    assert (await world.apply(wanted)).status_code == 200
    newest = (await rows(world, "admin"))[0]
    assert (newest["generation"], newest["by"]) == (4, "admin")


async def test_it_outlives_control_and_not_the_endpoint(tmp_path: Path) -> None:
    async with running_world(tmp_path, "sqlite") as world:
        await three_specs(world)
        answer = await world.request("admin", "GET", "/api/v1/endpoints/chat?project=search")
        uid = answer.json()["metadata"]["uid"]
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'state.db'}")
        again = SqlStore(database, world.clock)
        assert [one.generation for one in await again.revisions(uid)] == [3, 2, 1]
        gone = await world.request("admin", "DELETE", "/api/v1/endpoints/chat?project=search")
        assert gone.status_code == 200
        assert await again.revisions(uid) == []
        await database.close()
