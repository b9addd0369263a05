"""What is delivered is billed, whatever the names, the engine and the client do."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from common.auth import engine_key
from common.settings import ControlSettings, GatewaySettings, Settings, child_environment
from common.wire import RoutingTable
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import (
    SCRAPES,
    SECRET,
    TOKEN,
    Serving,
    StandInControl,
    gateway_process,
    serving,
    table,
)
from tests.fixtures.ports import free_port

pytestmark = pytest.mark.integration

ASK: Any = {"model": "tiny", "messages": [{"role": "user", "content": "three words here"}]}
WIDEST = "\U00020000"
"""Four bytes in UTF-8, as no character takes more."""


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(key=engine_key(TOKEN))
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def front(engine: FakeEngine, tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path, table([("r0", engine.url)])) as front:
        yield front


def with_key(routes: RoutingTable, **changes: Any) -> RoutingTable:
    """The routes, alice's key changed."""
    first, *others = routes.keys
    return routes.model_copy(update={"keys": (first.model_copy(update=changes), *others)})


async def take_up(front: Serving, routes: RoutingTable) -> None:
    front.control.table = routes
    async with asyncio.timeout(5):
        while front.gateway.routes.index.version != routes.version:
            await asyncio.sleep(0.02)


async def metric(front: Serving, name: str) -> float:
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{front.url}/metrics", headers=SCRAPES)).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_key_or_model_of_an_odd_name_gets_nothing_for_nothing(
    front: Serving, engine: FakeEngine, stream: bool
) -> None:
    for version, routes in {
        "odd key": with_key(table([("r0", engine.url)], version="odd key"), name="free\n"),
        "odd model": table([("r0", engine.url)], version="odd model", model="ti\tny"),
    }.items():
        await take_up(front, routes)
        model = routes.routes[0].model
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await front.client().chat.completions.create(**{**ASK, "model": model}, stream=stream)
        assert refused.value.code == "usage_not_billable", version
    assert engine.bodies == [], "no engine was asked"


async def test_a_killed_gateway_bills_models_of_the_longest_names(engine: FakeEngine, tmp_path: Path) -> None:
    name = WIDEST * 190
    settings = Settings(
        home=tmp_path,
        internal_token=TOKEN,
        control=ControlSettings(port=free_port()),
        gateway=GatewaySettings(port=free_port()),
    )
    routes = table(
        [("w" * 253, engine.url)], model=name, backend_model="tiny", base_model=WIDEST * 128, project="p" * 63
    )
    routes = with_key(routes, name="k" * 63, project="p" * 63, tenant="t" * 63)
    (settings.folder("spool") / "routes.json").write_text(routes.model_dump_json())
    control, engine.token_seconds = StandInControl(settings.control.port, routes), 0.01
    async with AsyncOpenAI(base_url=settings.gateway_url, api_key=SECRET, max_retries=40) as client:
        process = gateway_process(settings)
        try:
            stream = await client.chat.completions.create(
                **{**ASK, "model": name}, max_tokens=1000, stream=True
            )
            for _ in range(5):
                await anext(stream)
            process.kill()
            process.communicate()
            await control.start()
            process = gateway_process(settings)
            async with asyncio.timeout(20):
                while not control.events:
                    await asyncio.sleep(0.05)
        finally:
            process.kill()
            process.communicate()
    await control.stop()
    [event] = control.events.values()
    assert (event["model"], event["key"], event["outcome"]) == (name, "k" * 63, "gateway_lost")
    assert 5 <= event["quantities"]["completion_tokens"] <= engine.generated


async def test_counts_that_no_ledger_takes_are_kept_and_posted_once_mended(
    front: Serving, engine: FakeEngine
) -> None:
    usage = '"usage":{"prompt_tokens":3,"completion_tokens":2000000000000}'
    chunk = f'data: {{"choices":[{{"index":0,"delta":{{"content":"hi"}}}}],{usage}}}\n\n'
    engine.script = [chunk.encode(), b"data: [DONE]\n\n"]
    stream = await front.client().chat.completions.create(**ASK, stream=True)
    assert [part.choices[0].delta.content async for part in stream] == ["hi"], "the client sees no error"
    kept = front.gateway.spool.folder / "rejected.ndjson"
    line = json.loads(kept.read_text())
    assert "completion_tokens" in line["reason"]
    assert await metric(front, "computility_gateway_spool_rejected_bytes") > 0
    assert await metric(front, "computility_gateway_usage_set_aside_total") >= 1
    line["event"]["quantities"]["completion_tokens"] = 2
    kept.write_text(json.dumps(line) + "\n")
    [event] = await front.billed()
    assert event["quantities"] == {"prompt_tokens": 3, "completion_tokens": 2}
    async with asyncio.timeout(5):
        while kept.exists():
            await asyncio.sleep(0.02)


async def test_what_control_refuses_is_tried_again_at_the_next_start(
    engine: FakeEngine, tmp_path: Path
) -> None:
    async with serving(tmp_path, table([("r0", engine.url)])) as front:
        await front.control.stop()
        await front.client().chat.completions.create(**ASK)
        [path] = front.gateway.spool.folder.glob("*.jsonl")
        front.control.rejected_ids.add(json.loads(path.read_text())["id"])
        await front.control.start()
        kept = front.gateway.spool.folder / "rejected.ndjson"
        async with asyncio.timeout(5):
            while not kept.exists():
                await asyncio.sleep(0.02)
    settings = front.settings
    control = StandInControl(settings.control.port, front.control.table)
    await control.start()
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-m", "inference.gateway.main"],
        env=child_environment(settings, COMPUTILITY_INTERNAL_TOKEN=TOKEN),
        text=True,
    )
    try:
        async with asyncio.timeout(20):
            while kept.exists():
                await asyncio.sleep(0.05)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)
        await control.stop()
    assert len(control.events) == 1


async def test_a_plain_request_that_the_engine_does_not_stop_is_billed_to_its_end(
    front: Serving, engine: FakeEngine
) -> None:
    engine.token_seconds, engine.abort_works = 0.02, False
    with pytest.raises(openai.APITimeoutError):
        await front.client(timeout=0.2).chat.completions.create(**ASK, max_tokens=40)
    [event] = await front.billed()
    assert event["outcome"] == "cancelled"
    assert event["quantities"]["completion_tokens"] == engine.generated == 40


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_a_key_that_ends_ends_its_requests_and_pays_for_what_was_made(
    front: Serving, engine: FakeEngine, stream: bool, end: str
) -> None:
    engine.token_seconds = 0.02
    client, loop = front.client(), asyncio.get_running_loop()
    asking = asyncio.create_task(client.chat.completions.create(**ASK, max_tokens=1000, stream=stream))
    if stream:
        answer = await asking
        await anext(answer)
    else:
        async with asyncio.timeout(10):
            while not engine.working:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
    routes = table([("r0", engine.url)], version="2")
    if end == "revoked":
        routes = routes.model_copy(update={"keys": routes.keys[1:]})
    else:
        routes = with_key(routes, expires_ms=1)
    front.control.table = routes
    began = loop.time()
    if stream:
        with pytest.raises(openai.APIError, match=end):
            async for _ in answer:
                pass
    else:
        with pytest.raises(openai.AuthenticationError, match=end):
            await asking
    assert loop.time() - began < 2
    [event] = await front.billed()
    assert event["outcome"] == "cancelled"
    assert 0 < event["quantities"]["completion_tokens"] == engine.generated < 1000


async def test_an_engine_that_tells_no_usage_serves_nothing(front: Serving, engine: FakeEngine) -> None:
    bare = b'data: {"choices":[{"index":0,"delta":{"content":"free"}}]}\n\n'
    engine.script = [bare, bare, b"data: [DONE]\n\n"]
    before = await metric(front, "computility_gateway_usage_not_told_total")
    with pytest.raises(openai.InternalServerError, match="tells no token counts") as refused:
        await front.client().chat.completions.create(**ASK, stream=True)
    assert refused.value.status_code == 502
    assert await metric(front, "computility_gateway_usage_not_told_total") == before + 1
    engine.script = None
    with pytest.raises(openai.InternalServerError, match="no replica of tiny is ready"):
        await front.client().chat.completions.create(**ASK)
    assert front.control.events == {}


async def test_usage_that_comes_with_the_last_choice_is_counted(front: Serving, engine: FakeEngine) -> None:
    bare = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    usage = b'"usage":{"prompt_tokens":3,"completion_tokens":2}'
    last = b'data: {"choices":[{"index":0,"delta":{"content":"b"}}],' + usage + b"}\n\n"
    engine.script = [bare, last, b"data: [DONE]\n\n"]
    stream = await front.client().chat.completions.create(**ASK, stream=True)
    assert [chunk.choices[0].delta.content async for chunk in stream] == ["a", "b"]
    [event] = await front.billed()
    assert event["quantities"] == {"prompt_tokens": 3, "completion_tokens": 2}
