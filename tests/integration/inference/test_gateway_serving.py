"""The gateway before an engine's wire format: what the official client gets, and what is billed."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from common.auth import engine_key
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import OTHER_SECRET, SCRAPES, SECRET, TOKEN, Serving, as_events, serving, table

pytestmark = pytest.mark.integration

ASK: Any = {"model": "tiny", "messages": [{"role": "user", "content": "three words here"}]}


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(key=engine_key(TOKEN))
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def front(engine: FakeEngine, tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(
        tmp_path, table([("r0", engine.url)], tasks=("chat", "completions", "embeddings"))
    ) as front:
        yield front


async def raw_stream(front: Serving, **extra: Any) -> bytes:
    headers = {"Authorization": f"Bearer {SECRET}"}
    async with httpx.AsyncClient() as client:
        response = await client.post(
            f"{front.url}/v1/chat/completions",
            json={**ASK, "max_tokens": 3, "stream": True, **extra},
            headers=headers,
        )
    assert response.status_code == 200, response.text
    return response.content


async def test_a_plain_answer_is_billed_to_the_key_with_the_tokens_of_the_engine(front: Serving) -> None:
    answer = await front.client().chat.completions.create(**ASK, max_tokens=5)
    assert answer.choices[0].message.content == " word" * 5
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5
    [event] = await front.billed()
    assert event["quantities"] == {"prompt_tokens": 3, "cached_tokens": 1, "completion_tokens": 5}
    assert (event["tenant"], event["project"], event["key"]) == ("acme", "acme-bots", "alice")
    assert (event["model"], event["resource"], event["outcome"]) == ("tiny", "r0", "completed")
    assert event["device_class"] == "cpu/any"
    assert event["model_identity"] == "acme-bots/tiny"


async def test_a_stream_shows_no_usage_to_a_client_that_did_not_ask(front: Serving) -> None:
    *chunks, done = as_events(await raw_stream(front))
    assert done == "[DONE]"
    assert [c["choices"][0]["delta"]["content"] for c in chunks] == [" w1", " w2", " w3"]
    assert all("usage" not in chunk for chunk in chunks)
    [event] = await front.billed()
    assert event["quantities"] == {"prompt_tokens": 3, "cached_tokens": 1, "completion_tokens": 3}


async def test_include_usage_gives_null_usage_and_one_last_chunk(front: Serving) -> None:
    *chunks, last, done = as_events(await raw_stream(front, stream_options={"include_usage": True}))
    assert done == "[DONE]"
    assert [chunk["usage"] for chunk in chunks] == [None, None, None]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 3


async def test_running_usage_passes_for_a_client_that_asked_for_it(front: Serving) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    *chunks, _last, _done = as_events(await raw_stream(front, stream_options=options))
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [1, 2, 3]


async def test_the_usage_is_durable_before_the_stream_ends(front: Serving) -> None:
    await front.control.stop()  # so that nothing is shipped and removed meanwhile
    await raw_stream(front)
    lines = [line for p in front.gateway.spool.folder.glob("*.jsonl") for line in p.read_text().splitlines()]
    assert len(lines) == 1
    await front.control.start()
    assert len(await front.billed()) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("extra", [{"n": 2}, {}])
async def test_choices_are_billed_together(front: Serving, stream: bool, extra: dict[str, int]) -> None:
    answer = await front.client().chat.completions.create(**ASK, max_tokens=4, stream=stream, **extra)
    if stream:
        assert [chunk async for chunk in answer]
    [event] = await front.billed()
    assert event["quantities"]["completion_tokens"] == 4 * extra.get("n", 1)
    assert event["quantities"]["prompt_tokens"] == 3


async def test_embeddings_are_billed_by_their_prompt(front: Serving) -> None:
    answer = await front.client().embeddings.create(model="tiny", input=["a b", "c"], encoding_format="float")
    assert len(answer.data) == 2
    [event] = await front.billed()
    assert event["quantities"] == {"prompt_tokens": 3}


async def test_embeddings_in_a_form_that_tells_no_usage_are_refused(front: Serving) -> None:
    with pytest.raises(openai.BadRequestError, match="float or base64") as refused:
        await front.client().embeddings.create(model="tiny", input="a", encoding_format="bytes")
    assert refused.value.param == "encoding_format"


async def test_an_answer_that_cannot_be_billed_is_not_given_out(front: Serving, engine: FakeEngine) -> None:
    engine.fail_with = (200, {"choices": [{"index": 0, "message": {"content": "free"}}]})
    with pytest.raises(openai.InternalServerError) as refused:
        await front.client().chat.completions.create(**ASK)
    assert refused.value.status_code == 502
    assert "free" not in str(refused.value)


async def test_a_url_that_is_not_ascii_is_refused(front: Serving) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", front.settings.gateway.port)
    writer.write(b"GET /v1/files?after=\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()


async def test_engine_only_fields_are_dropped_and_the_cache_is_salted(
    front: Serving, engine: FakeEngine
) -> None:
    extra = {
        "kv_transfer_params": {"do_remote_prefill": True},
        "priority": -5,
        "cache_salt": "acme",
        "request_id": "x",
        "vllm_xargs": {"kv_transfer_params": "x", "mine": 1},
        "min_p": 0.1,
    }
    headers = {"X-Request-Id": "trace-1", "X-data-parallel-rank": "1"}
    reply = await front.client().chat.completions.with_raw_response.create(
        **ASK, extra_body={**extra, "cache_salt": "other"}, extra_headers=headers
    )
    assert reply.headers["x-request-id"] == "trace-1"
    [body] = engine.bodies
    assert body["cache_salt"] == "acme"
    assert body["vllm_xargs"] == {"mine": 1}
    assert body["min_p"] == 0.1
    assert not {"kv_transfer_params", "priority", "request_id"} & set(body)
    assert engine.headers[0]["x-request-id"] != "trace-1", "two requests of one client id must be told apart"
    assert "x-data-parallel-rank" not in engine.headers[0]


async def test_models_are_listed_for_those_who_may_use_them(front: Serving) -> None:
    assert [model.id async for model in front.client().models.list()] == ["tiny"]
    assert (await front.client().models.retrieve("tiny")).owned_by == "acme"
    assert [model.id async for model in front.client(OTHER_SECRET).models.list()] == []


async def test_errors_are_those_of_the_official_client(front: Serving, engine: FakeEngine) -> None:
    create = front.client().chat.completions.create
    with pytest.raises(openai.AuthenticationError):
        await front.client("ck-nobody").chat.completions.create(**ASK)
    with pytest.raises(openai.NotFoundError) as unknown:
        await create(**{**ASK, "model": "nope"})
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as hidden:
        await front.client(OTHER_SECRET).chat.completions.create(**ASK)
    assert hidden.value.code == "model_not_found"
    assert str(hidden.value).replace("tiny", "nope") == str(unknown.value), "hidden is told like unknown"
    with pytest.raises(openai.BadRequestError) as wrong:
        await create(model="tiny", messages="hello")
    assert wrong.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as too_long:
        await create(**ASK, max_tokens=5000)
    assert (too_long.value.code, too_long.value.param) == ("context_length_exceeded", "max_tokens")
    engine.fail_with = (
        400,
        {
            "error": {
                "message": "This model's maximum context length is 9",
                "param": "input_tokens",
                "code": 400,
            }
        },
    )
    with pytest.raises(openai.BadRequestError) as prompt:
        await create(**ASK)
    assert (prompt.value.code, prompt.value.param) == ("context_length_exceeded", "messages")
    engine.fail_with, engine.healthy = (500, {"error": {"message": "CUDA error", "code": 500}}), False
    with pytest.raises(openai.InternalServerError):
        await create(**ASK)
    with pytest.raises(openai.NotFoundError):
        await front.client().get("/nowhere", cast_to=object)
    assert front.control.events == {}, "an error without tokens is not billed"


@pytest.mark.parametrize(
    ("body", "param", "text"),
    [
        (b'{"model": "tiny", "messages": [}', "line 1, column 32", "is not JSON"),
        (b"[1]", None, "must be a JSON object"),
        (b'{"model": "tiny", "messages": [1]}', "messages[0]", "must be an object"),
        (b'{"model": 1, "messages": []}', "model", "must be a non-empty string"),
        (b'{"model": "tiny", "messages": [{}], "max_tokens": true}', "max_tokens", "whole number"),
        (b"\xff", None, "UTF-8"),
    ],
)
async def test_bad_bodies_are_named(front: Serving, body: bytes, param: str | None, text: str) -> None:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {SECRET}"}) as client:
        response = await client.post(f"{front.url}/v1/chat/completions", content=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert text in error["message"]
    assert response.headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(engine: FakeEngine, tmp_path: Path, chunked: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 1000

    async with serving(tmp_path, table([("r0", engine.url)]), body_limit_bytes=100_000) as front:
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {SECRET}"}) as client:
            content: Any = parts() if chunked else b"x" * 200_000
            response = await client.post(f"{front.url}/v1/chat/completions", content=content)
            assert response.status_code == 413
            assert response.json()["error"]["code"] == "request_too_large"
        assert (await front.client().chat.completions.create(**ASK)).choices, "the next request is served"


async def test_files_and_fine_tuning_are_passed_to_control(front: Serving) -> None:
    key = f"Bearer {SECRET}"
    headers = {"Authorization": key, "X-Request-Id": "mine", "Accept-Encoding": "identity"}
    async with httpx.AsyncClient(headers=headers) as client:
        listed = await client.get(f"{front.url}/v1/files/file-1%2Fa/content?after=b%20c&limit=2")
        assert listed.json() == {"path": "/v1/files/file-1%2Fa/content?after=b%20c&limit=2", "method": "GET"}
        assert listed.headers["x-from"] == "control"
        assert listed.headers["x-request-id"] == "mine"
        await client.post(f"{front.url}/v1/files", files={"file": ("a.jsonl", b"z" * 300_000)})
        conflict = await client.delete(f"{front.url}/v1/fine_tuning/jobs/conflict")
        outside = await client.get(f"{front.url}/v1/filesystem")
    assert b"z" * 300_000 in front.control.uploads[0]
    assert front.control.seen_headers[0]["Authorization"] == key
    assert (conflict.status_code, conflict.headers["x-should-retry"]) == (409, "false")
    assert outside.status_code == 404


async def test_the_deletion_of_a_model_is_passed_to_control(front: Serving) -> None:
    answer = await front.client().models.with_raw_response.delete("ft:tiny:acme:zoo:12345678")
    assert json.loads(answer.content) == {"path": "/v1/models/ft:tiny:acme:zoo:12345678", "method": "DELETE"}
    assert front.control.seen_headers[-1]["Authorization"] == f"Bearer {SECRET}"
    assert (await front.client().models.list()).data[0].id == "tiny", "reading is the gateway's own"
    async with httpx.AsyncClient() as client:
        assert (await client.delete(f"{front.url}/v1/models")).status_code == 405


async def test_health_and_metrics(front: Serving) -> None:
    await front.client().chat.completions.create(**ASK)
    async with httpx.AsyncClient(base_url=front.url) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        metrics = (await client.get("/metrics", headers=SCRAPES)).text
    assert (
        'computility_gateway_requests_total{model="tiny",path="/v1/chat/completions",status="200"}' in metrics
    )
    assert 'computility_gateway_tokens_total{kind="completion_tokens",model="tiny"}' in metrics
    assert "computility_gateway_spool_oldest_seconds" in metrics


async def test_the_name_of_the_engine_is_hidden_where_it_differs(engine: FakeEngine, tmp_path: Path) -> None:
    async with serving(tmp_path, table([("r0", engine.url)], backend_model="internal/name")) as front:
        answer = await front.client().chat.completions.create(**ASK)
        chunks = as_events(await raw_stream(front))
    assert engine.bodies[0]["model"] == "internal/name"
    assert answer.model == "tiny"
    assert {chunk["model"] for chunk in chunks[:-1]} == {"tiny"}


async def test_a_new_routing_table_is_taken_up_while_serving(front: Serving, engine: FakeEngine) -> None:
    front.control.table = table([("r0", engine.url)], version="2", model="ft:tiny:acme:x/1")
    async with asyncio.timeout(5):
        while front.gateway.routes.index.version != "2":
            await asyncio.sleep(0.02)
    assert (await front.client().models.retrieve("ft:tiny:acme:x/1")).id == "ft:tiny:acme:x/1"
    with pytest.raises(openai.NotFoundError):
        await front.client().chat.completions.create(**ASK)
