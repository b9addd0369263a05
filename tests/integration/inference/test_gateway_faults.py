"""Clients that leave, engines that die, control that is down: what is billed, and what clients see."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from common.auth import engine_key
from common.settings import ControlSettings, GatewaySettings, Settings
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
    """One replica."""
    async with serving(tmp_path, table([("r0", engines[0].url)])) as front:
        yield front


@pytest.mark.parametrize("task", ["chat", "completions"])
async def test_a_client_that_leaves_a_stream_pays_for_the_tokens_made(
    front: Serving, engines: list[FakeEngine], task: str
) -> None:
    engines[0].token_seconds = 0.01
    client = front.client()
    if task == "chat":
        stream = await client.chat.completions.create(**ASK, max_tokens=1000, stream=True)
    else:
        stream = await client.completions.create(
            model="tiny", prompt=["a b", "c"], n=2, max_tokens=1000, stream=True
        )
    await anext(stream)
    await stream.close()
    [event] = await front.billed()
    assert event["outcome"] == "cancelled"
    assert event["quantities"]["completion_tokens"] == engines[0].generated < 1000
    assert event["quantities"]["prompt_tokens"] == 3


async def test_a_client_that_leaves_a_plain_request_pays_for_the_tokens_made(
    front: Serving, engines: list[FakeEngine]
) -> None:
    engines[0].token_seconds = 0.01
    with pytest.raises(openai.APITimeoutError):
        await front.client(timeout=0.3).chat.completions.create(**ASK, max_tokens=1000)
    [event] = await front.billed()
    assert event["outcome"] == "cancelled"
    assert 0 < event["quantities"]["completion_tokens"] == engines[0].generated < 1000


async def test_without_an_abort_the_engine_is_cut_off_and_the_last_count_is_billed(
    front: Serving, engines: list[FakeEngine]
) -> None:
    engines[0].token_seconds, engines[0].abort_works = 0.02, False
    stream = await front.client().chat.completions.create(**ASK, max_tokens=1000, stream=True)
    for _ in range(3):
        await anext(stream)
    await stream.close()
    [event] = await front.billed()
    assert event["outcome"] == "cancelled"
    assert 3 <= event["quantities"]["completion_tokens"] <= engines[0].generated < 100


async def test_an_engine_that_dies_in_mid_stream_ends_the_stream_cleanly(
    front: Serving, engines: list[FakeEngine]
) -> None:
    engines[0].die_after_tokens, engines[0].token_seconds = 3, 0.005
    stream = await front.client().chat.completions.create(**ASK, max_tokens=9, stream=True)
    got = [(await anext(stream)).choices[0].delta.content for _ in range(3)]
    assert got == [" w1", " w2", " w3"]
    with pytest.raises(openai.APIError, match="broke while it answered"):
        await anext(stream)
    [event] = await front.billed()
    assert event["outcome"] == "engine_failed"
    assert event["quantities"] == {"prompt_tokens": 3, "completion_tokens": 3}


async def test_an_engine_with_another_key_is_left_for_another_and_is_no_fault_of_the_client(
    engines: list[FakeEngine], front: Serving
) -> None:
    engines[0].key = "of another instance"
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as raised:
            await front.client().chat.completions.create(**ASK, stream=stream)
        assert (raised.value.status_code, raised.value.code) == (502, "engine_failed")
    front.control.table = table([("r0", engines[0].url), ("r1", engines[1].url)], version="2")
    while front.gateway.routes.index.version != "2":
        await asyncio.sleep(0.02)
    for stream in (False, True):
        assert await front.client().chat.completions.create(**ASK, stream=stream)


async def test_a_dead_engine_is_left_for_another_before_the_first_byte(
    engines: list[FakeEngine], tmp_path: Path
) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    async with serving(tmp_path, table([("a-gone", gone), ("b-alive", engines[1].url)])) as front:
        for stream in (False, True):
            assert await front.client().chat.completions.create(**ASK, stream=stream)
        engines[0].die_after_tokens = 0
        front.control.table = table([("a-dies", engines[0].url), ("b", engines[1].url)], version="2")
        while front.gateway.routes.index.version != "2":
            await asyncio.sleep(0.02)
        for stream in (False, True):
            assert await front.client().chat.completions.create(**ASK, stream=stream)
        events = await front.billed(4)
    assert {event["resource"] for event in events} == {"b-alive", "b"}


async def test_a_request_that_breaks_engines_is_not_tried_on_all_of_them(tmp_path: Path) -> None:
    engines = [FakeEngine(key=engine_key(TOKEN)) for _ in range(4)]
    for engine in engines:
        engine.die_after_tokens = 0
        await engine.start()
    replicas = [(f"r{i}", engine.url) for i, engine in enumerate(engines)]
    async with serving(tmp_path, table(replicas)) as front:
        with pytest.raises(openai.InternalServerError):
            await front.client().chat.completions.create(**ASK)
    assert sum(len(engine.bodies) for engine in engines) == 2
    for engine in engines:
        await engine.stop()


async def test_no_ready_replica_is_told_with_a_time_to_come_back(tmp_path: Path) -> None:
    async with serving(tmp_path, table([])) as front:
        with pytest.raises(openai.InternalServerError) as nobody:
            await front.client().chat.completions.create(**ASK)
    assert nobody.value.status_code == 503
    assert nobody.value.response.headers["retry-after"] == "2"
    assert "no engine of tiny is there now" in str(nobody.value)


async def test_requests_are_served_and_billed_while_control_is_down(
    engines: list[FakeEngine], tmp_path: Path
) -> None:
    routes = table([("r0", engines[0].url)])
    async with serving(tmp_path, routes, control_up=False) as front:
        answer = await front.client().chat.completions.create(**ASK, max_tokens=4)
        assert answer.usage.completion_tokens == 4
        async with httpx.AsyncClient() as client:
            listed = await client.get(f"{front.url}/v1/files", headers={"Authorization": f"Bearer {SECRET}"})
        assert (listed.status_code, listed.headers["retry-after"]) == (503, "2")
        await front.control.start()
        [event] = await front.billed()
        assert event["quantities"]["completion_tokens"] == 4
        await front.control.stop()


@pytest.mark.parametrize("whole_batch", [True, False], ids=["batch refused", "event named"])
async def test_an_event_that_control_refuses_is_kept_and_does_not_hold_up_the_others(
    front: Serving, whole_batch: bool
) -> None:
    await front.control.stop()
    for _ in range(5):
        await front.client().chat.completions.create(**ASK)
    folder = front.gateway.spool.folder
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    refused = json.loads(lines[2])["id"]
    (front.control.refused_ids if whole_batch else front.control.rejected_ids).add(refused)
    assert await _rejected_bytes(front) == 0
    await front.control.start()
    events = await front.billed(4)
    async with asyncio.timeout(5):
        while list(folder.glob("*.jsonl")):
            await asyncio.sleep(0.02)
    assert refused not in {event["id"] for event in events}
    [kept] = map(json.loads, (folder / "rejected.ndjson").read_text().splitlines())
    assert kept["event"] == json.loads(lines[2])
    assert kept["reason"]
    assert await _rejected_bytes(front) > 0


async def _rejected_bytes(front: Serving) -> float:
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{front.url}/metrics", headers=SCRAPES)).text
    [line] = [
        line for line in text.splitlines() if line.startswith("computility_gateway_spool_rejected_bytes")
    ]
    return float(line.split()[1])


async def test_a_spooled_line_that_is_no_event_is_kept_for_a_person(front: Serving) -> None:
    await front.control.stop()
    await front.client().chat.completions.create(**ASK)
    left = front.gateway.spool.folder.parent / "gateway-1"
    left.mkdir()
    (left / "000000000001.jsonl").write_text('{"id": "use-9", "kind": "from the future"}\n')
    await front.control.start()
    await front.billed(1)
    async with asyncio.timeout(5):
        while list(left.glob("*.jsonl")):
            await asyncio.sleep(0.02)
    assert "from the future" in (left / "rejected.ndjson").read_text()


async def test_a_killed_gateway_ships_its_spool_when_it_comes_back_and_sigterm_finishes_streams(
    engines: list[FakeEngine], tmp_path: Path
) -> None:
    settings = Settings(
        home=tmp_path,
        internal_token=TOKEN,
        control=ControlSettings(port=free_port()),
        gateway=GatewaySettings(port=free_port()),
    )
    routes = table([("r0", engines[0].url)])
    (settings.folder("spool") / "routes.json").write_text(routes.model_dump_json())
    control = StandInControl(settings.control.port, routes)
    async with AsyncOpenAI(base_url=settings.gateway_url, api_key=SECRET, max_retries=40) as client:
        process = gateway_process(settings)
        try:
            await client.chat.completions.create(**ASK, max_tokens=2)
            process.kill()
            process.communicate()
            await control.start()
            process = gateway_process(settings)
            engines[0].token_seconds = 0.02
            stream = await client.chat.completions.create(**ASK, max_tokens=20, stream=True)
            await anext(stream)
            process.send_signal(signal.SIGTERM)
            assert len([chunk async for chunk in stream]) == 19, "what is in flight is finished"
            assert await asyncio.to_thread(process.wait, 10) == 0
        finally:
            process.kill()
            process.communicate()
    tokens = [event["quantities"]["completion_tokens"] for event in control.events.values()]
    assert sorted(tokens) == [2, 20]
    assert not list(settings.folder("spool").glob("*/*.jsonl"))
    await control.stop()


@pytest.mark.parametrize("same_port", [True, False], ids=["same port", "another port"])
async def test_what_a_killed_gateway_had_delivered_is_billed_once_by_the_next(
    engines: list[FakeEngine], tmp_path: Path, same_port: bool
) -> None:
    ports = ControlSettings(port=free_port()), GatewaySettings(port=free_port())
    settings = Settings(home=tmp_path, internal_token=TOKEN, control=ports[0], gateway=ports[1])
    routes = table([("r0", engines[0].url)])
    (settings.folder("spool") / "routes.json").write_text(routes.model_dump_json())
    control, engines[0].token_seconds = StandInControl(settings.control.port, routes), 0.01
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    ended, cut_off = [], []

    async def listen(client: AsyncOpenAI, tokens: int) -> None:
        last = 0
        try:
            async for chunk in await client.chat.completions.create(
                **ASK, max_tokens=tokens, stream=True, stream_options=options
            ):
                last = chunk.usage.completion_tokens if chunk.usage else last
            ended.append(last)
        except (openai.APIConnectionError, httpx.HTTPError):
            cut_off.append(last)

    async with AsyncOpenAI(base_url=settings.gateway_url, api_key=SECRET, max_retries=40) as client:
        process = gateway_process(settings)
        try:
            await listen(client, 5)
            listeners = [asyncio.create_task(listen(client, tokens)) for tokens in (3, 9, *[1000] * 6)]
            while len(ended) < 3:
                await asyncio.sleep(0.02)
            process.kill()
            await asyncio.gather(*listeners)
            process.communicate()
            await control.start()
            if not same_port:
                settings = settings.model_copy(update={"gateway": GatewaySettings(port=free_port())})
            process = gateway_process(settings)
            async with asyncio.timeout(20):
                while len(control.events) < 9:
                    await asyncio.sleep(0.05)
        finally:
            process.kill()
            process.communicate()
    await control.stop()
    billed: dict[str, list[int]] = {"completed": [], "gateway_lost": []}
    for event in control.events.values():
        billed[event["outcome"]].append(event["quantities"]["completion_tokens"])
        assert (event["key"], event["resource"], event["quantities"]["prompt_tokens"]) == ("alice", "r0", 3)
    assert sorted(billed["completed"]) == sorted(ended) == [3, 5, 9]
    assert len(billed["gateway_lost"]) == len(cut_off) == 6
    assert all(had <= paid for had, paid in zip(sorted(cut_off), sorted(billed["gateway_lost"]), strict=True))
    assert sum(sum(tokens) for tokens in billed.values()) <= engines[0].generated


def test_a_port_in_use_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = gateway_process(Settings(home=tmp_path, gateway=GatewaySettings(port=port)))
        _, message = process.communicate(timeout=60)
    assert process.returncode == 7
    assert f"127.0.0.1:{port}" in message
    assert "COMPUTILITY_GATEWAY__PORT" in message
    assert "--gateway-port" in message
    assert os.fspath(tmp_path) not in message
