"""``/v1/files`` with the official client, unchanged."""

import openai
import pytest
from openai import AsyncOpenAI

from tests.integration.finetune.conftest import UPLOAD_LIMIT_BYTES, Service

pytestmark = pytest.mark.integration

CONTENT = b'{"messages": []}\n' * 3


async def _upload(client: AsyncOpenAI, content: bytes = CONTENT, name: str = "zoo.jsonl") -> str:
    return (await client.files.create(file=(name, content), purpose="fine-tune")).id


async def test_a_file_goes_up_comes_back_and_goes(client: AsyncOpenAI, service: Service) -> None:
    made = await client.files.create(file=("zoo.jsonl", CONTENT), purpose="fine-tune")
    assert made.id.startswith("file-")
    assert (made.object, made.bytes, made.filename, made.purpose) == ("file", 51, "zoo.jsonl", "fine-tune")
    assert made.status == "processed"
    assert await client.files.retrieve(made.id) == made
    assert (await client.files.wait_for_processing(made.id)).id == made.id
    content = await client.files.content(made.id)
    assert content.content == CONTENT
    gone = await client.files.delete(made.id)
    assert (gone.id, gone.deleted) == (made.id, True)
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(made.id)
    assert not [path for path in (service.home / "files").rglob("*") if path.is_file()]


async def test_content_is_kept_until_its_last_file_goes(client: AsyncOpenAI) -> None:
    first, second = await _upload(client), await _upload(client)
    await client.files.delete(first)
    assert (await client.files.content(second)).content == CONTENT


async def test_lists_are_paged_filtered_and_ordered(client: AsyncOpenAI) -> None:
    made = [await _upload(client, name=f"{i}.jsonl") for i in range(5)]
    await client.files.create(file=("x.txt", b"x"), purpose="user_data")
    found = [file.id async for file in client.files.list(purpose="fine-tune", limit=2)]
    assert found == made[::-1]
    assert [f.id async for f in client.files.list(purpose="fine-tune", limit=2, order="asc")] == made
    page = await client.files.list(limit=4)
    assert (len(page.data), page.has_more) == (4, True)


async def test_expiry_is_shown_and_checked(client: AsyncOpenAI) -> None:
    expires = {"anchor": "created_at", "seconds": 3600}
    made = await client.files.create(file=("a", b"a"), purpose="batch", expires_after=expires)  # type: ignore[arg-type]
    assert made.expires_at == made.created_at + 3600
    expires["seconds"] = 5
    with pytest.raises(openai.BadRequestError, match="expires_after") as caught:
        await client.files.create(file=("a", b"a"), purpose="batch", expires_after=expires)  # type: ignore[arg-type]
    assert caught.value.param == "expires_after[seconds]"


@pytest.mark.parametrize("act", ["retrieve", "content", "delete"])
async def test_another_projects_file_does_not_exist(client: AsyncOpenAI, service: Service, act: str) -> None:
    name = await _upload(client)
    async with service.client("bob") as stranger:
        with pytest.raises(openai.NotFoundError):
            await getattr(stranger.files, act)(name)
        assert [file async for file in stranger.files.list()] == []
    assert (await client.files.retrieve(name)).id == name


async def test_bad_uploads_are_refused_by_name(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="purpose: 'fun' is unknown") as caught:
        await client.files.create(file=("a", b"a"), purpose="fun")  # type: ignore[arg-type]
    assert caught.value.param == "purpose"
    with pytest.raises(openai.BadRequestError, match="file: is empty"):
        await client.files.create(file=("a", b""), purpose="batch")
    with pytest.raises(openai.BadRequestError, match="limit"):
        await client.files.list(limit=0)


async def test_a_file_over_the_limit_leaves_nothing(client: AsyncOpenAI, service: Service) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await _upload(client, b"x" * (UPLOAD_LIMIT_BYTES + 1))
    assert caught.value.status_code == 413
    assert not [path for path in (service.home / "files").rglob("*") if path.is_file()]


async def test_keys_decide_who_may(service: Service) -> None:
    async with service.client("nobody") as unknown:
        with pytest.raises(openai.AuthenticationError):
            await unknown.files.list()
    async with service.client("bot") as agent:
        assert [file async for file in agent.files.list()] == []
        with pytest.raises(openai.PermissionDeniedError):
            await _upload(agent)


async def test_an_admin_names_the_project(service: Service, client: AsyncOpenAI) -> None:
    name = await _upload(client)
    async with service.client("root", project="lab") as admin:
        assert [file.id async for file in admin.files.list()] == [name]
    async with service.client("root") as admin:
        with pytest.raises(openai.BadRequestError, match="OpenAI-Project"):
            await admin.files.list()
    async with service.client("bob", project="lab") as stranger:
        with pytest.raises(openai.NotFoundError):
            await stranger.files.list()
