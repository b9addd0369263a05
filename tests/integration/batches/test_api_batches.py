"""``/v1/batches`` with the official client, unchanged."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from common.resources import Batch
from tests.integration.control.conftest import World, document, running_world

pytestmark = pytest.mark.integration

ENDPOINT: Any = "/v1/chat/completions"
LINE = {
    "custom_id": "a",
    "method": "POST",
    "url": ENDPOINT,
    "body": {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]},
}


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(tmp_path, request.param) as made:
        yield made


def client_of(world: World, key: str = "search-member") -> AsyncOpenAI:
    http: Any = httpx.AsyncClient(transport=httpx.ASGITransport(world.app))
    return AsyncOpenAI(
        api_key=world.secrets[key], base_url="http://control/v1", max_retries=0, http_client=http
    )


async def upload(client: AsyncOpenAI, purpose: Any = "batch", **more: Any) -> str:
    content = json.dumps(LINE).encode() + b"\n"
    return (await client.files.create(file=("zoo.jsonl", content), purpose=purpose, **more)).id


async def make(client: AsyncOpenAI, **more: Any) -> Any:
    told = {"input_file_id": await upload(client), "endpoint": ENDPOINT, "completion_window": "24h"}
    return await client.batches.create(**{**told, **more})


async def test_a_batch_is_made_listed_and_cancelled(world: World) -> None:
    client = client_of(world)
    batch = await make(client, metadata={"team": "zoo"})
    assert batch.id.startswith("batch-")
    assert (batch.object, batch.status, batch.endpoint) == ("batch", "validating", ENDPOINT)
    assert (batch.completion_window, batch.metadata) == ("24h", {"team": "zoo"})
    assert batch.expires_at == batch.created_at + 24 * 3600
    assert batch.request_counts is not None
    assert batch.request_counts.total == 0
    assert await client.batches.retrieve(batch.id) == batch
    world.clock.advance(seconds=61)
    newer = await make(client)
    assert [one.id async for one in client.batches.list(limit=1)] == [newer.id, batch.id]
    assert (await client.batches.cancel(batch.id)).status == "cancelling"
    assert (await client.batches.cancel(batch.id)).status == "cancelling"
    stored = await world.context.store.get(Batch, batch.id, "search")
    assert (stored.spec.api_key, stored.spec.cancelled) == ("search-member", True)


async def test_the_same_request_again_is_the_same_batch(world: World) -> None:
    client = client_of(world)
    name = await upload(client)
    first = await make(client, input_file_id=name)
    assert (await make(client, input_file_id=name)).id == first.id
    other = await make(client, input_file_id=name, metadata={"n": "2"})
    assert other.id != first.id
    headers = {"Idempotency-Key": "once"}
    keyed = [await make(client, input_file_id=name, extra_headers=headers) for _ in range(2)]
    assert keyed[0].id == keyed[1].id != first.id


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no such file": ({"input_file_id": "file-none"}, "input_file_id"),
    "another endpoint": ({"endpoint": "/v1/audio/speech"}, "endpoint"),
    "a window that is none": ({"completion_window": "soon"}, "completion_window"),
    "a window that is too long": ({"completion_window": "169h"}, "completion_window"),
    "an unknown field": ({"extra_body": {"priority": 1}}, "priority"),
    "an odd expiry": (
        {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
        "output_expires_after.seconds",
    ),
    "long metadata": ({"metadata": {"a": "x" * 513}}, "metadata.a"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_wrong_is_named(world: World, name: str) -> None:
    more, param = REFUSED[name]
    with pytest.raises(openai.BadRequestError) as caught:
        await make(client_of(world), **more)
    assert caught.value.param == param


async def test_the_file_has_to_be_for_batches_and_to_stay(world: World) -> None:
    client = client_of(world)
    with pytest.raises(openai.BadRequestError, match="purpose"):
        await make(client, input_file_id=await upload(client, "fine-tune"))
    soon: Any = {"anchor": "created_at", "seconds": 3600}
    with pytest.raises(openai.BadRequestError, match="expires within"):
        await make(client, input_file_id=await upload(client, expires_after=soon))
    batch = await make(client)
    with pytest.raises(openai.ConflictError, match=batch.id):
        await client.files.delete(batch.input_file_id)


async def test_batches_that_have_not_ended_are_bounded(world: World) -> None:
    limited = document("Project", "search", tenant="acme", limits={"maxBatches": 1})
    assert (await world.apply(limited)).status_code == 200
    client = client_of(world)
    first = await make(client)
    with pytest.raises(openai.PermissionDeniedError, match="maxBatches"):
        await make(client, metadata={"n": "2"})
    used = (await world.request("search-member", "GET", "/api/v1/projects/search/limits")).json()
    assert {row["name"]: row["used"] for row in used["items"]}["maxBatches"] == 1
    stored = await world.context.store.get(Batch, first.id, "search")
    stored.status.state = "completed"
    await world.context.store.set_status(stored)
    assert await make(client, metadata={"n": "2"})


async def test_batches_of_others_do_not_exist(world: World) -> None:
    mine, theirs = client_of(world), client_of(world, "lab-member")
    batch = await make(mine)
    for ask in (theirs.batches.retrieve, theirs.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            await ask(batch.id)
    assert [one async for one in theirs.batches.list()] == []
    with pytest.raises(openai.BadRequestError):
        await make(theirs, input_file_id=batch.input_file_id)
    with pytest.raises(openai.PermissionDeniedError):
        await client_of(world, "search-agent").batches.list()
    seen = await world.request("lab-member", "GET", f"/api/v1/batches/{batch.id}?project=search")
    assert seen.status_code == 404


async def test_one_that_has_not_ended_is_not_deleted(world: World) -> None:
    batch = await make(client_of(world))
    path = f"/api/v1/batches/{batch.id}?project=search"
    assert (await world.request("search-member", "DELETE", path)).status_code == 409
