"""A gateway that is killed while another engine goes on: the next one bills the whole answer, once."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from common.settings import ControlSettings, GatewaySettings, Settings
from tests.fixtures.breaking import CHAT, PROMPT_TOKENS
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import SECRET, TOKEN, StandInControl, gateway_process, table
from tests.fixtures.ports import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


async def test_what_was_given_by_both_engines_is_one_event_of_the_next_gateway(tmp_path: Path) -> None:
    engines = [FakeEngine(tells_role=True, token_seconds=0.02) for _ in range(2)]
    for engine in engines:
        await engine.start()
    engines.sort(key=lambda engine: engine.url)
    engines[0].die_after_tokens = 3
    ports = ControlSettings(port=free_port()), GatewaySettings(port=free_port())
    settings = Settings(home=tmp_path, internal_token=TOKEN, control=ports[0], gateway=ports[1])
    routes = table([(f"m{number}", engine.url) for number, engine in enumerate(engines)])
    (settings.folder("spool") / "routes.json").write_text(routes.model_dump_json())
    control = StandInControl(settings.control.port, routes)
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    process, seen, cut_off = gateway_process(settings), 0, False
    try:
        async with AsyncOpenAI(base_url=settings.gateway_url, api_key=SECRET, max_retries=40) as client:
            stream = await client.chat.completions.create(
                model="tiny", stream=True, stream_options=options, max_tokens=500, temperature=0, **CHAT
            )
            try:
                async for chunk in stream:
                    seen = chunk.usage.completion_tokens if chunk.usage else seen
                    if seen == 8:
                        process.kill()
            except (openai.APIConnectionError, httpx.HTTPError):
                cut_off = True
        process.communicate()
        await control.start()
        process = gateway_process(settings)
        async with asyncio.timeout(30):
            while not control.events:
                await asyncio.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
        for engine in engines:
            await engine.stop()
    await control.stop()
    assert cut_off
    [event] = control.events.values()
    assert (event["outcome"], event["resource"]) == ("gateway_lost", "m0")
    assert event["quantities"]["prompt_tokens"] == PROMPT_TOKENS
    assert 8 <= seen <= event["quantities"]["completion_tokens"] <= 3 + engines[1].generated
    assert [len(engine.bodies) for engine in engines] == [1, 1]
