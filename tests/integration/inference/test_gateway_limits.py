"""One tenant's requests, however large, many or odd, leave the gateway and the engines to the others."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from common.auth import engine_key
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import OTHER_SECRET, SECRET, TOKEN, Serving, as_events, serving, table
from tests.integration.inference.test_gateway_unbilled import metric

pytestmark = pytest.mark.integration

ASK: Any = {"model": "tiny", "messages": [{"role": "user", "content": "three words here"}]}
MIB = 1024**2


@pytest.fixture
async def engines() -> AsyncIterator[list[FakeEngine]]:
    engines = [FakeEngine(key=engine_key(TOKEN)) for _ in range(2)]
    for engine in engines:
        await engine.start()
    yield engines
    for engine in engines:
        await engine.stop()


@pytest.fixture
async def front(engines: list[FakeEngine], tmp_path: Path) -> AsyncIterator[Serving]:
    """Two replicas; the first gets the first request. Everybody may use the model."""
    replicas = [("r0", engines[0].url), ("r1", engines[1].url)]
    async with serving(tmp_path, table(replicas, shared=True)) as front:
        yield front


async def post(front: Serving, body: bytes, secret: str = SECRET) -> httpx.Response:
    headers = {"Authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(headers=headers, timeout=120) as client:
        return await client.post(f"{front.url}/v1/chat/completions", content=body)


async def test_large_bodies_of_one_key_do_not_hold_up_another(front: Serving) -> None:
    head = b'{"model": "tiny", "messages": ['
    flood = head + b"{}," * ((16 * MIB - len(head)) // 3 - 3) + b"{}]}"
    client = front.client(OTHER_SECRET)
    await client.chat.completions.create(**ASK, max_tokens=1)
    floods, flooded = [asyncio.create_task(post(front, flood)) for _ in range(8)], time.monotonic()
    waits = []
    while not all(task.done() for task in floods):
        began = time.monotonic()
        await client.chat.completions.create(**ASK, max_tokens=1)
        waits.append(time.monotonic() - began)
        await asyncio.sleep(0.01)
    statuses = [task.result().status_code for task in floods]
    assert set(statuses) <= {413, 429}, statuses
    all_seconds = time.monotonic() - flooded
    slowest = f"the slowest of {len(waits)} requests took {max(waits):.2f} of {all_seconds:.2f} s"
    assert max(waits) < max(1, all_seconds / 2), slowest


async def test_a_large_body_for_a_model_that_is_not_there_is_not_even_parsed(front: Serving) -> None:
    body = b'{"messages": [' + b"{}," * MIB + b'{}], "model": "nope"}'
    answer = await post(front, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    answer = await post(front, b'{"messages": [' + b"{}," * MIB + b"{}]}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


async def test_a_large_sound_body_is_served_like_a_small_one(front: Serving) -> None:
    text = 'a "model": "nope" \u00e9 ' * 200_000
    messages: Any = [{"role": "user", "content": text}]
    for _ in range(2):
        answer = await front.client().chat.completions.create(model="tiny", messages=messages, max_tokens=3)
        assert answer.usage.completion_tokens == 3
    for problem, param in (({"stop": ["a"] * 5}, "stop"), ({"max_tokens": 9999}, "max_tokens")):
        with pytest.raises(openai.BadRequestError) as refused:
            await front.client().chat.completions.create(model="tiny", messages=messages, extra_body=problem)
        assert refused.value.param == param


async def test_a_process_that_parses_is_replaced_when_it_dies(front: Serving) -> None:
    messages: Any = [{"role": "user", "content": "word " * 20_000}]
    create = front.client().chat.completions.create
    for _ in range(2):
        assert await create(model="tiny", messages=messages, max_tokens=1)
    children = psutil.Process().children(recursive=True)
    workers = [child for child in children if "inference.gateway.parse_worker" in child.cmdline()]
    assert len(workers) == 1, "one that waits is used again"
    workers[0].kill()
    await asyncio.to_thread(workers[0].wait)
    answers = [create(model="tiny", messages=messages, max_tokens=1) for _ in range(4)]
    for answer in await asyncio.gather(*answers, return_exceptions=True):
        assert not isinstance(answer, Exception) or isinstance(answer, openai.InternalServerError)
    assert await create(model="tiny", messages=messages, max_tokens=1)


async def test_too_many_answers_in_one_request_and_at_once_are_refused(
    engines: list[FakeEngine], tmp_path: Path
) -> None:
    engines[0].token_seconds = 0.02
    routes = table([("r0", engines[0].url)], shared=True)
    async with serving(tmp_path, routes, max_requests_per_key=3, max_sequences_per_key=128) as front:
        with pytest.raises(openai.BadRequestError) as many:
            await front.client().completions.create(model="tiny", prompt=["a"] * 1024, n=16)
        assert many.value.param == "prompt"
        client = front.client()
        streams = [await client.chat.completions.create(**ASK, max_tokens=200, stream=True)]
        with pytest.raises(openai.RateLimitError) as sequences:
            await client.completions.create(model="tiny", prompt=["a"] * 64, n=2)
        assert int(sequences.value.response.headers["retry-after"]) > 0
        for _ in range(2):
            streams.append(await client.chat.completions.create(**ASK, max_tokens=200, stream=True))
        with pytest.raises(openai.RateLimitError, match="3 requests open"):
            await client.chat.completions.create(**ASK)
        assert await front.client(OTHER_SECRET).chat.completions.create(**ASK, max_tokens=1)
        for stream in streams:
            await stream.close()
        await front.billed(4)
        assert await client.chat.completions.create(**ASK, max_tokens=1), "what has ended does not count"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_an_engine_fails_on_and_outlives_is_the_requests_fault_and_told_once(
    front: Serving, engines: list[FakeEngine], stream: bool
) -> None:
    for engine in engines:
        engine.fail_with = (500, {"error": {"message": "RecursionError", "code": 500}})
    with pytest.raises(openai.BadRequestError) as refused:
        await front.client(max_retries=3).chat.completions.create(**ASK, stream=stream)
    assert refused.value.code == "engine_refused"
    assert sum(len(engine.bodies) for engine in engines) == 1, "no other replica and no repeat"
    for engine in engines:
        engine.healthy = False
    with pytest.raises(openai.InternalServerError) as failed:
        await front.client().chat.completions.create(**ASK, stream=stream)
    assert failed.value.status_code == 502
    assert sum(len(engine.bodies) for engine in engines) == 3, "another replica may do better"
    assert front.control.events == {}


async def test_what_an_engine_fails_on_in_mid_stream_is_told_as_the_requests_fault(
    front: Serving, engines: list[FakeEngine]
) -> None:
    role = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}],'
    role += b'"usage":{"prompt_tokens":8,"completion_tokens":0}}\n\n'
    broken = b'data: {"error":{"message":"internal","code":500}}\n\n'
    engines[0].script = engines[1].script = [role, broken, b"data: [DONE]\n\n"]
    stream = await front.client().chat.completions.create(**ASK, stream=True)
    with pytest.raises(openai.APIError) as refused:
        async for _ in stream:
            pass
    assert refused.value.code == "engine_refused"
    assert await metric(front, "computility_gateway_engine_refused_total") >= 1
    assert front.control.events == {}, "a prompt from which no token was made is not billed"


async def test_a_comment_is_passed_on_and_an_engine_that_dies_after_it_is_left_for_another(
    front: Serving, engines: list[FakeEngine]
) -> None:
    first, second = sorted(engines, key=lambda engine: engine.url)
    first.script = [b": keep-alive\n\n", b": keep-alive\n\n", None]
    headers = {"Authorization": f"Bearer {SECRET}"}
    async with httpx.AsyncClient(headers=headers) as client:
        answer = await client.post(
            f"{front.url}/v1/chat/completions", json={**ASK, "max_tokens": 2, "stream": True}
        )
    assert answer.status_code == 200
    assert answer.content.startswith(b": keep-alive\n\n")
    events = [part for part in answer.content.split(b"\n\n") if part and not part.startswith(b":")]
    *chunks, done = as_events(b"\n\n".join(events))
    assert done == "[DONE]"
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == [" w1", " w2"]
    [event] = await front.billed()
    assert event["resource"] == f"r{engines.index(second)}"


async def test_when_no_engine_answers_after_a_comment_the_stream_says_so_and_ends(
    front: Serving, engines: list[FakeEngine]
) -> None:
    engines[0].script = engines[1].script = [b": keep-alive\n\n", None]
    stream = await front.client().chat.completions.create(**ASK, stream=True)
    with pytest.raises(openai.APIError, match="broke before it answered"):
        await anext(stream)
    assert front.control.events == {}
