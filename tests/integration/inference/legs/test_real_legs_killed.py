"""With real engines that hand over KV caches: whatever is killed between them, no client sees an error where
another engine lives, no block stays in use, and the bill is what was given."""

import asyncio
import importlib.util
import signal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from common.settings import ControlSettings, GatewaySettings, Settings
from inference.core.body import engine_body
from inference.core.two_legs import told_cache
from inference.gateway.engines import legs
from tests.fixtures.gateway import SECRET, TOKEN, Serving, StandInControl, gateway_process
from tests.fixtures.legs import LIMIT, STORY, Engines, chat, routes, text_of
from tests.fixtures.ports import free_port

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("nixl") is None, reason="NIXL is not installed"),
]

LONG: Any = {"max_tokens": 300, "extra_body": {"min_tokens": 300}}
"""An answer that is still under way when its engine is killed."""
SEEN = 8


async def test_control_may_be_gone_while_legs_are_under_way(engines: Engines, front: Serving) -> None:
    alone = await chat(front, "uncontrolled ", "mixed")
    stream = await chat(front, "uncontrolled ", stream=True)
    await anext(stream)
    await front.control.stop()
    assert await text_of(stream, True) == alone.choices[0].message.content
    assert (
        await chat(front, "uncontrolled, too ", extra_body={"min_tokens": LIMIT})
    ).usage.completion_tokens == LIMIT
    await front.control.start()
    first, *others = await front.billed(3)
    assert [event["outcome"] for event in others] == ["completed", "completed"]
    assert others[0]["quantities"]["completion_tokens"] == first["quantities"]["completion_tokens"]
    await engines.keep_nothing("p0", "d0")


@pytest.mark.parametrize("where", ["reading", "between", "answering"])
async def test_a_gateway_that_is_killed_leaves_no_blocks_and_the_next_one_bills_what_was_given(
    engines: Engines, tmp_path: Path, where: str
) -> None:
    """An engine that is stopped holds the leg up in which the gateway dies."""
    ports = ControlSettings(port=free_port()), GatewaySettings(port=free_port(), connect_timeout_seconds=30)
    settings = Settings(home=tmp_path, internal_token=TOKEN, control=ports[0], gateway=ports[1])
    table_ = routes(engines, "p0", "d0")
    (settings.folder("spool") / "routes.json").write_text(table_.model_dump_json())
    control, seen = StandInControl(settings.control.port, table_), 0
    held = {"reading": "p0", "between": "d0"}.get(where)
    read = engines.of("p0").counter("prompt_tokens")
    process = gateway_process(settings)
    try:
        async with AsyncOpenAI(base_url=settings.gateway_url, api_key=SECRET, max_retries=40) as client:
            await client.models.list()
            if held is not None:
                engines.processes[held].signal(signal.SIGSTOP)
            asking = asyncio.create_task(ask_until_cut_off(client, where, process))
            if held is not None:
                async with asyncio.timeout(20):
                    while where == "between" and engines.of("p0").counter("prompt_tokens") == read:
                        await asyncio.sleep(0.1)
                await asyncio.sleep(1)
                process.kill()
            seen = await asking
    finally:
        process.kill()
        process.communicate()
        if held is not None:
            engines.processes[held].signal(signal.SIGCONT)
    await engines.keep_nothing("p0", "d0", seconds=60)  # what nobody fetches is kept for its lease
    await control.start()
    process = gateway_process(settings)
    try:
        async with asyncio.timeout(20):
            while where == "answering" and not control.events:
                await asyncio.sleep(0.1)
        await asyncio.sleep(1)
    finally:
        process.kill()
        process.communicate()
    await control.stop()
    given = [event["quantities"]["completion_tokens"] for event in control.events.values()]
    assert len(given) == (where == "answering"), "where no token was given, nothing is owed"
    assert all(0 < seen <= tokens <= 500 for tokens in given)


async def ask_until_cut_off(client: AsyncOpenAI, text: str, process: Any) -> int:
    """Tokens that were seen of a stream whose gateway dies, here after some."""
    seen = 0
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    messages: Any = [{"role": "user", "content": f"{text} {STORY}"}]
    extra = {"min_tokens": 500}
    try:
        stream = await client.with_options(max_retries=0).chat.completions.create(
            model="tiny",
            messages=messages,
            max_tokens=500,
            temperature=0,
            stream=True,
            stream_options=options,
            extra_body=extra,
        )
        async for chunk in stream:
            seen = chunk.usage.completion_tokens if chunk.usage else seen
            if seen >= 8:
                process.kill()
    except (openai.APIConnectionError, httpx.HTTPError):
        return seen
    raise AssertionError("the stream was not cut off")


@pytest.mark.parametrize("front", [("p0", "d0", "d1")], indirect=True)
async def test_a_decode_engine_that_is_killed_before_its_first_byte_is_replaced(
    engines: Engines, front: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = await chat(front, "killed ", "mixed")
    hand_over, killed = legs.Legs._hand_over, []

    def and_stop(self: legs.Legs, cache: Any, replica: Any, sides: Any) -> Any:
        place = hand_over(self, cache, replica, sides)
        if place is not None:
            killed.append(replica.id)
            engines.processes[replica.id].signal(signal.SIGSTOP)
            asyncio.get_running_loop().call_later(0.3, engines.processes[replica.id].kill)
        return place

    monkeypatch.setattr(legs.Legs, "_hand_over", and_stop)
    parted = await chat(front, "killed ")
    assert parted.choices[0].message == alone.choices[0].message
    [other, event] = await front.billed(2)
    assert event["quantities"] == other["quantities"]
    assert {event["resource"], *killed} == {"d0", "d1"}
    await engines.keep_nothing("p0", event["resource"])


@pytest.mark.parametrize("front", [("p0", "d0", "d1")], indirect=True)
async def test_a_stream_whose_decode_engine_is_killed_goes_on_as_if_it_had_not_been(
    engines: Engines, front: Serving
) -> None:
    options: Any = {**LONG, "stream": True, "stream_options": {"include_usage": True}}
    unbroken = [chunk async for chunk in await chat(front, "killed midway ", "mixed", **options)]
    broken, killed = [], ""
    async for chunk in await chat(front, "killed midway ", **options):
        broken.append(chunk)
        if len(broken) == SEEN:
            killed = await engines.at_work("d0", "d1", tokens=1)
            engines.processes[killed].kill()
    assert len({chunk.id for chunk in broken}) == 1
    assert told(broken) == told(unbroken)
    [alone, event] = await front.billed(2)
    assert (event["resource"], event["outcome"]) == (killed, "completed")
    assert event["quantities"] == alone["quantities"]
    await asyncio.sleep(1)
    assert len(front.control.events) == 2, "once"
    await engines.keep_nothing("p0", *({"d0", "d1"} - {killed}))


def told(chunks: list[Any]) -> tuple[str, str, list[int]]:
    """The text, why it ended, and its ``counts``."""
    choices = [choice for chunk in chunks for choice in chunk.choices]
    [reason] = [choice.finish_reason for choice in choices if choice.finish_reason]
    [usage] = [chunk.usage for chunk in chunks if chunk.usage]
    text = "".join(choice.delta.content or "" for choice in choices)
    return text, reason, counts(usage)


def counts(usage: Any) -> list[int]:
    """Tokens of the prompt, cached ones among them, of the answer, and of both."""
    details = usage.prompt_tokens_details
    return [usage.prompt_tokens, details.cached_tokens, usage.completion_tokens, usage.total_tokens]


@pytest.mark.parametrize("front", [("p0", "d1")], indirect=True)
async def test_a_transfer_that_fails_is_made_up_for(front: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(answer: bytes | None) -> dict[str, Any] | None:
        place = told_cache(answer)
        assert place is not None
        return {**place, "remote_engine_id": "00000000", "remote_port": 1}

    monkeypatch.setattr(legs, "told_cache", elsewhere)
    parted, alone = await chat(front, "nowhere "), await chat(front, "nowhere ", "mixed")
    assert parted.choices[0].message == alone.choices[0].message
    events = await front.billed(2)
    assert [event["outcome"] for event in events] == ["completed", "completed"]
    assert events[0]["quantities"]["completion_tokens"] == events[1]["quantities"]["completion_tokens"]


@pytest.mark.parametrize("front", [("p0", "d1")], indirect=True)
async def test_a_prefill_engine_may_die_after_it_has_answered_or_before(
    engines: Engines, front: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time the engine dies with the cache that it keeps; the second time it is dead."""

    def killing(request: Any, model: str, salt: str, place: Any = None, *rest: Any) -> bytes:
        if place is not None:
            engines.processes["p0"].kill()
        return engine_body(request, model, salt, place, *rest)

    monkeypatch.setattr(legs, "engine_body", killing)
    for stream in (False, True):
        parted = await text_of(await chat(front, f"dying {stream} ", stream=stream), stream)
        alone = await text_of(await chat(front, f"dying {stream} ", "mixed", stream=stream), stream)
        assert parted == alone
    events = await front.billed(4)
    for first, second in (events[:2], events[2:]):
        assert first["quantities"] == second["quantities"]
    await engines.keep_nothing("d1")
