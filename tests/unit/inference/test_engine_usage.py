"""Running usage in streams of engines whose API tells it at the end only."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from common.errors import EngineFailed, InvalidInput
from inference.core.apis.events import EVENTS, EventMeter
from inference.core.engine_errors import error_in_stream
from inference.core.usage import TokenCounts
from inference.engine_usage import counted, with_running_usage


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
    seen: list[TokenCounts] = []
    async for event in with_running_usage(convert, chunks()):
        assert meter.feed(event.encode()).endswith(b"data: {}\n\n")
        seen.append(meter.counts)
    assert seen == [TokenCounts(7, 0, made) for made in (0, 1, 2, 2)]


@dataclass
class Event:
    """As the server's own."""

    type: str

    def model_dump_json(self, indent: int | None, by_alias: bool) -> str:
        assert by_alias
        return json.dumps({"type": self.type}, indent=indent)


async def test_events_of_a_response_tell_what_its_context_has_counted() -> None:
    context = SimpleNamespace(num_prompt_tokens=0, num_output_tokens=0)

    async def made() -> AsyncIterator[Event]:
        yield Event("response.created")
        for number in (1, 2):
            context.num_prompt_tokens, context.num_output_tokens = 7, number
            yield Event("response.output_text.delta")

    meter, told = EventMeter(EVENTS["responses"]), []
    async for event in counted(made(), context):
        written = f"event: {event.type}\ndata: {event.model_dump_json(indent=None, by_alias=True)}\n\n"
        told.append((meter.feed(written.encode()).count(b"event: "), meter.counts))
    assert told == [(0, TokenCounts()), (2, TokenCounts(7, 0, 1)), (1, TokenCounts(7, 0, 2))]


@pytest.mark.parametrize(
    ("error", "kind"), [(ValueError("no such type"), InvalidInput), (OSError(), EngineFailed)]
)
async def test_an_error_of_a_response_is_its_last_event(error: Exception, kind: type[Exception]) -> None:
    async def made() -> AsyncIterator[Event]:
        yield Event("response.created")
        raise error

    meter = EventMeter(EVENTS["responses"])
    async for event in counted(made(), SimpleNamespace(num_prompt_tokens=0, num_output_tokens=0)):
        written = f"event: {event.type}\ndata: {event.model_dump_json(indent=None, by_alias=True)}\n\n"
        assert meter.feed(written.encode()) == b""
    assert type(error_in_stream(meter.error, "input")) is kind


async def test_a_stream_without_usage_is_as_it_was() -> None:
    async def silent() -> AsyncIterator[str]:
        yield "data: {}\n\n"

    assert [event async for event in with_running_usage(convert, silent())] == [
        "event: content_block_delta\ndata: {}\n\n",
        "event: content_block_stop\ndata: {}\n\n",
    ]
