"""``client.models.delete``: a fine-tuned model goes, for those who may; a base model does not."""

import contextlib
from collections.abc import AsyncIterator

import httpx2
import openai
import pytest
from openai import AsyncOpenAI

from common.resources import Adapter, FineTune
from tests.integration.control.conftest import World

pytestmark = pytest.mark.integration
TUNED = "ft:chat:acme:zoo:12345678"


@contextlib.asynccontextmanager
async def _client(world: World, key: str) -> AsyncIterator[AsyncOpenAI]:
    """The official client, straight into control."""
    transport = httpx2.AsyncClient(transport=httpx2.ASGITransport(world.app))
    async with AsyncOpenAI(
        api_key=world.secrets[key], base_url="http://control/v1", max_retries=0, http_client=transport
    ) as client:
        yield client


@pytest.fixture
async def tuned(world: World) -> World:
    """Project search serves ``chat`` and has a fine-tuned model on it."""
    await world.store_directly("Model", "tiny", "search", source="org/tiny")
    await world.store_directly("Endpoint", "chat", "search", model="tiny", servedName="chat")
    lineage = {"job": "ftjob-1"}
    await world.store_directly(
        "Adapter", "ft-1", "search", model="tiny", servedName=TUNED, path="/a/ft-1", lineage=lineage
    )
    return world


async def _adapters(world: World) -> list[str]:
    return [adapter.name for adapter in await world.context.store.list(Adapter)]


@pytest.mark.parametrize("key", ["search-member", "acme-admin", "admin"])
async def test_a_fine_tuned_model_is_deleted_once(tuned: World, key: str) -> None:
    async with _client(tuned, key) as client:
        deleted = await client.models.delete(TUNED)
        assert (deleted.id, deleted.object, deleted.deleted) == (TUNED, "model", True)
        assert await _adapters(tuned) == []
        with pytest.raises(openai.NotFoundError) as again:
            await client.models.delete(TUNED)
    assert again.value.code == "model_not_found"


async def test_others_neither_delete_nor_learn_that_it_exists(tuned: World) -> None:
    async with _client(tuned, "lab-member") as client:
        for name in (TUNED, "chat", "nothing"):
            with pytest.raises(openai.NotFoundError) as hidden:
                await client.models.delete(name)
            assert hidden.value.code == "model_not_found"
    async with _client(tuned, "search-agent") as client:
        with pytest.raises(openai.PermissionDeniedError):
            await client.models.delete(TUNED)
    await tuned.make_key("narrow", "member", project="search", models=["chat"])
    async with _client(tuned, "narrow") as client:
        with pytest.raises(openai.NotFoundError):
            await client.models.delete(TUNED)
    assert await _adapters(tuned) == ["ft-1"]


@pytest.mark.parametrize("name", ["chat", "tiny"])
async def test_a_base_model_is_refused_with_what_to_do(tuned: World, name: str) -> None:
    async with _client(tuned, "search-member") as client:
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await client.models.delete(name)
    assert (refused.value.code, refused.value.param) == ("model_not_deletable", "model")
    assert "base model" in refused.value.message


async def test_a_model_that_its_job_still_publishes_stays(tuned: World) -> None:
    await tuned.store_directly("FineTune", "ftjob-1", "search", trainingFile="file-1", model="chat")
    async with _client(tuned, "search-member") as client:
        with pytest.raises(openai.ConflictError, match="ftjob-1"):
            await client.models.delete(TUNED)
        job = await tuned.context.store.get(FineTune, "ftjob-1", "search")
        job.status.state = "succeeded"
        await tuned.context.store.set_status(job)
        await client.models.delete(TUNED)
    assert await _adapters(tuned) == []
