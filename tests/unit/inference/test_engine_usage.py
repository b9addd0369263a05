"""Running usage in streams of engines whose API tells it at the end only."""

import json
from collections.abc import AsyncIterator

from inference.core.apis.events import EVENTS, EventMeter
from inference.core.usage import TokenCounts
from inference.engine_usage import with_running_usage


def chunk(made: int) -> str:
    usage = {"prompt_tokens": 7, "total_tokens": 7 + made, "completion_tokens": made}
    text = 'it said "usage":{"prompt_tokens":1'
    told = json.dumps({"choices": [{"delta": {"content": text}}], "usage": usage}, separators=(",", ":"))
    return f"data: {told}\n\n"


async def chunks() -> AsyncIterator[str]:
    for made in range(3):
        yield chunk(made)
    yield "data: [DONE]\n\n"


async def convert(inner: AsyncIterator[str]) -> AsyncIterator[str]:
    """As vLLM's: one or more events for each chunk."""
    async for item in inner:
        if "DONE" not in item:
            yield "event: content_block_delta\ndata: {}\n\n"
    yield "event: content_block_stop\ndata: {}\n\n"


async def test_each_event_tells_what_was_used_when_it_was_made() -> None:
    meter = EventMeter(EVENTS["messages"])
    counted: list[TokenCounts] = []
    async for event in with_running_usage(convert, chunks()):
        assert meter.feed(event.encode()).endswith(b"data: {}\n\n")
        counted.append(meter.counts)
    assert counted == [TokenCounts(7, 0, made) for made in (0, 1, 2, 2)]


async def test_a_stream_without_usage_is_as_it_was() -> None:
    async def silent() -> AsyncIterator[str]:
        yield "data: {}\n\n"

    assert [event async for event in with_running_usage(convert, silent())] == [
        "event: content_block_delta\ndata: {}\n\n",
        "event: content_block_stop\ndata: {}\n\n",
    ]
