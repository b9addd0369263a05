"""A gateway finds out from the times of engines which prompts another one is to read."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from common.wire import RoutingTable
from inference.core.legs import threshold
from inference.gateway.learning import teller
from inference.gateway.metrics import LEGS, MIN_PROMPT_TOKENS
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import Serving, serving, table

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

PRIOR = 512
LONG, SHORT = "word " * 560, "word " * 240
"""About 700 and 300 tokens, as bytes are counted."""


@pytest.fixture(autouse=True)
def looks_and_tries_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threshold, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(threshold, "TRIED_NEAR", 3)
    monkeypatch.setattr(teller, "TELL_SECONDS", 0.1)


def routes(reader: FakeEngine, writer: FakeEngine, learns: bool) -> RoutingTable:
    made = table([("p0", reader.url, "prefill"), ("d0", writer.url, "decode")])
    [route] = made.routes
    told = {"min_prompt_tokens": PRIOR, "learns_min_prompt": learns}
    first, second = route.replicas
    route = route.model_copy(update={"replicas": (first.model_copy(update=told), second)})
    return made.model_copy(update={"routes": (route,)})


async def ask(front: Serving, text: str, count: int, **options: Any) -> None:
    client = front.client()
    options = {"stream": True, "max_tokens": 1, **options}
    message: Any = [{"role": "user", "content": text}]
    for _ in range(count):
        answer = await client.chat.completions.create(model="tiny", messages=message, **options)
        if options["stream"]:
            [_ async for _ in answer]


def told() -> float:
    return MIN_PROMPT_TOKENS.labels("tiny")._value.get()


def counted(how: str) -> float:
    return LEGS.labels("tiny", how)._value.get()


@pytest.mark.parametrize(("slow", "higher"), [("reader", True), ("writer", False)])
async def test_it_goes_to_where_the_first_token_comes_sooner(tmp_path: Path, slow: str, higher: bool) -> None:
    reader, writer = FakeEngine(cached=0), FakeEngine(cached=0)
    await reader.start()
    await writer.start()
    try:
        async with serving(tmp_path, routes(reader, writer, learns=True)) as front:
            reader.token_seconds = 0.08 if slow == "reader" else 0.0
            text = LONG if slow == "reader" else SHORT
            tried = counted("tried")
            if slow == "writer":  # who reads as well as writes is slow, and quick at what it fetches
                writer.peers = [reader]
                writer.seconds_unfetched = 0.08
            await ask(front, text, 70)
            assert (told() > PRIOR) == higher
            assert counted("tried") > tried
            asked = len(reader.bodies)
            await ask(front, text, 9)
            assert (len(reader.bodies) - asked > 4) == (not higher)
            await asyncio.sleep(0.5)
            [heard] = front.control.thresholds[-1]["thresholds"]
            assert (heard["endpoint"], heard["min_prompt_tokens"]) == ("acme-bots/chat", told())
            assert {leg["name"] for leg in heard["legs"]} == {"here", "leg", "fetch"}
    finally:
        await reader.stop()
        await writer.stop()


async def test_a_number_that_the_endpoint_says_stays(tmp_path: Path) -> None:
    reader, writer = FakeEngine(token_seconds=0.03, cached=0), FakeEngine(cached=0)
    await reader.start()
    await writer.start()
    try:
        async with serving(tmp_path, routes(reader, writer, learns=False)) as front:
            await ask(front, LONG, 40)
            await ask(front, SHORT, 10)
            assert len(reader.bodies) == 40
    finally:
        await reader.stop()
        await writer.stop()


async def test_answers_in_one_piece_say_nothing_of_first_tokens(tmp_path: Path) -> None:
    reader, writer = FakeEngine(token_seconds=0.01, cached=0), FakeEngine(cached=0)
    await reader.start()
    await writer.start()
    try:
        async with serving(tmp_path, routes(reader, writer, learns=True)) as front:
            await ask(front, LONG, 40, stream=False)
            assert told() == PRIOR
    finally:
        await reader.stop()
        await writer.stop()
