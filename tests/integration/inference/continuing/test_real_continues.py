"""With a real engine: wherever a stream breaks, the answer is that of an unbroken run, token by token.

Replicas are wires to one engine, which are cut in the middle of streams.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.fixtures.engine import RealEngine
from tests.fixtures.gateway import Serving, serving, table

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Tell me a story"}]}
TEXT: dict[str, Any] = {"prompt": "Tell me a story about"}
ONE_TOKEN = re.compile(rb'"token_ids":\[\d+\]')
IDS: dict[str, Any] = {"prompt": [339, 907]}


class Cuts(list[int]):
    """After so many events a stream breaks, once each. ``after_one_token``: not before an event that tells
    one token; a busy engine tells several at once, and then what is drawn by chance cannot be drawn on."""

    after_one_token = False

    def place(self, last: bytes, events: list[bytes], began: int) -> int | None:
        """How many of these a client still gets, who has ``began`` of them, up to ``last``; None = all."""
        if not self:
            return None
        for number in range(max(0, self[0] - began), len(events)):
            if not self.after_one_token or ONE_TOKEN.search([last, *events][number]):
                return number
        return None


class Wire:
    """Passes all on to the engine, but for ``cuts``, which others may share."""

    def __init__(self, engine: RealEngine, cuts: Cuts) -> None:
        parts = urlsplit(engine.url)
        self._to = parts.hostname, parts.port
        self._cuts = cuts
        self._open: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0.05)

    async def _connected(self, near: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        far, away = await asyncio.open_connection(*self._to)
        self._open += (out, away)
        up = asyncio.create_task(self._copy(near, away))
        seen, last = 0, b""
        with suppress(ConnectionError):
            while data := await far.read(65536):
                began = 0 if data.startswith(b"HTTP/") else seen  # the connection is used again
                seen = began + data.count(b"data: ")
                head, *events = data.split(b"data: ")
                place = self._cuts.place(last, events, began)
                last = events[-1] if events else last
                if place is not None:
                    self._cuts.pop(0)
                    out.write(b"data: ".join([head, *events[:place]]))
                    await out.drain()
                    await asyncio.sleep(0.05)
                    break
                out.write(data)
                await out.drain()
        up.cancel()
        for writer in (out, away):
            writer.transport.abort()

    @staticmethod
    async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()


@pytest.fixture
def cuts() -> Cuts:
    return Cuts()


@pytest.fixture
async def front(real_engine: RealEngine, cuts: Cuts, tmp_path: Path) -> AsyncIterator[Serving]:
    """Three replicas that are one."""
    wires = [Wire(real_engine, cuts) for _ in range(3)]
    replicas = [(f"r{number}", await wire.start()) for number, wire in enumerate(wires)]
    async with serving(tmp_path, table(replicas)) as front:
        yield front
    for wire in wires:
        await wire.stop()


async def told(front: Serving, options: dict[str, Any]) -> tuple[str, str, Any, int]:
    """(text, why it ended, usage, events)"""
    client = front.client()
    create = client.chat.completions.create if "messages" in options else client.completions.create
    names = ("messages", "prompt", "max_tokens", "stop", "temperature", "seed", "logit_bias")
    own = {name: options[name] for name in names if name in options}
    extra = {name: value for name, value in options.items() if name not in names}
    stream = await create(
        model="tiny", stream=True, stream_options={"include_usage": True}, extra_body=extra, **own
    )
    text, reasons, usage, ids = "", [], None, []
    async for chunk in stream:
        ids.append(chunk.id)
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += (choice.text if hasattr(choice, "text") else choice.delta.content) or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
    [reason] = reasons
    assert len(set(ids)) == 1
    return text, reason, usage, len(ids)


@pytest.mark.parametrize(
    "options",
    [
        {**CHAT, "max_tokens": 30},
        {**CHAT},
        {**TEXT, "max_tokens": 30, "min_tokens": 16},
        {**IDS, "max_tokens": 12},
        {**TEXT},
        {**CHAT, "max_tokens": 30, "stop": ["night, and", "qqqq"]},
        {**CHAT, "max_tokens": 30, "stop": ["d a"], "include_stop_str_in_output": True},
        {**CHAT, "max_tokens": 40, "stop": ["e", "his"], "min_tokens": 12},
        {**CHAT, "max_tokens": 24, "logit_bias": {str(i): 6 for i in range(100, 204)}},
        {**CHAT, "max_tokens": 24, "repetition_penalty": 1.5},
        {**CHAT, "max_tokens": 40, "stream_interval": 3},
        {**TEXT, "max_tokens": 30, "stream_interval": 4, "logit_bias": {str(i): 6 for i in range(100, 204)}},
    ],
    ids=lambda options: "-".join(name for name in options if name not in ("messages", "max_tokens")),
)
async def test_a_greedy_answer_is_that_of_an_unbroken_run(
    cuts: Cuts, front: Serving, options: dict[str, Any]
) -> None:
    options = {**options, "temperature": 0}
    text, reason, usage, events = await told(front, options)
    made = usage.completion_tokens
    places = (1, 2, events // 2, events - 1)
    for place in places:
        cuts[:] = [place]  # the last may not be reached: a busy engine makes fewer events
        again, why, counted, _ = await told(front, options)
        assert (again, why) == (text, reason), place
        assert (counted.prompt_tokens, counted.completion_tokens) == (usage.prompt_tokens, made), place
    billed = await front.billed(1 + len(places))
    for event in billed:
        assert event["outcome"] == "completed"
        assert event["quantities"]["prompt_tokens"] == usage.prompt_tokens
        assert event["quantities"]["completion_tokens"] == made


@pytest.mark.parametrize("options", [{}, {"seed": 7}], ids=["drawn", "seeded"])
async def test_an_answer_drawn_by_chance_is_drawn_on(
    cuts: Cuts, front: Serving, options: dict[str, Any]
) -> None:
    cuts[:], cuts.after_one_token = [3], True
    options = {**CHAT, "max_tokens": 20, "min_tokens": 20, "temperature": 1.0, **options}
    text, reason, usage, _ = await told(front, options)
    assert not cuts
    assert text
    assert (reason, usage.completion_tokens) == ("length", 20)
    [event] = await front.billed()
    assert event["quantities"]["completion_tokens"] == 20
