"""Running usage in the streams of an engine whose API tells it at the end only.

Who leaves, or whose engine breaks, is billed for what was made by then; for that the gateway has to know it
all the while. OpenAI's chats and completions tell it in each chunk, if asked; here each event of Anthropic's
messages and of OpenAI's responses is given a comment in its last line, ``: computility-usage 12 5``: tokens
of the prompt and of the answer. The gateway cuts it off; whoever else reads such a stream skips it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from inference.core.apis.events import RUNNING_USAGE

_END = "\n\n"
_KEY = '"usage":{'
_RUNNING = re.compile(r'"usage":\{"prompt_tokens":(\d+),"total_tokens":\d+,"completion_tokens":(\d+)')
_SERVERS = ("vllm.entrypoints.anthropic.serving", "vllm.entrypoints.openai.responses.serving")
_REFUSED, _FAILED = 400, 500
_CLIENTS = frozenset({"VLLMClientError", "ValueError", "TypeError", "OverflowError"})
"""What vLLM answers with 400 elsewhere."""
_MESSAGE_CHARACTERS = 8192
_done: list[bool] = []


def tell_running_usage() -> None:
    """Have vLLM's server do so, where this is its process: then it is loaded. Calling it again changes
    nothing."""
    loaded: list[Any] = [sys.modules.get(name) for name in _SERVERS]
    if _done or not all(loaded):
        return
    _done.append(True)
    by_messages: Any = loaded[0].AnthropicServingMessages
    by_responses: Any = loaded[1].OpenAIServingResponses
    convert, respond = by_messages.message_stream_converter, by_responses.responses_stream_generator

    def messages(server: Any, chunks: AsyncGenerator[str, None]) -> AsyncIterator[str]:
        return with_running_usage(lambda inner: convert(server, inner), chunks)

    def responses(
        server: Any, request: Any, params: Any, results: Any, context: Any, *rest: Any, **named: Any
    ) -> AsyncIterator[Counted]:
        events = respond(server, request, params, results, context, *rest, **named)
        return counted(events, context)

    by_messages.message_stream_converter, by_responses.responses_stream_generator = messages, responses


class Counted:
    """An event of a response, and what was used when it was made. The server writes its name and its JSON,
    and ends it; what it is made to write behind the JSON is the comment."""

    def __init__(self, event: Any, prompt: int, completion: int) -> None:
        self.type: str = event.type
        self._event = event
        self._told = f"\n{RUNNING_USAGE} {prompt} {completion}"

    def model_dump_json(self, **options: Any) -> str:
        """Named as the server's own events have it."""
        return f"{self._event.model_dump_json(**options)}{self._told}"


class Failed:
    """The event of an error. What a library refuses as wrong is the request's, all else the engine's."""

    type = "error"

    def __init__(self, error: Exception) -> None:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        code = _FAILED if _CLIENTS.isdisjoint(kinds) else _REFUSED
        self._told = {"error": {"code": code, "message": str(error)[:_MESSAGE_CHARACTERS]}}

    def model_dump_json(self, **_: Any) -> str:
        """Named as the server's own events have it."""
        return json.dumps(self._told)


async def counted(events: AsyncIterator[Any], context: Any) -> AsyncIterator[Counted]:
    """The events of a response, whose ``context`` counts the tokens: none before the prompt was read. An
    error is the last one: the server would break the connection, as if it had died of it."""
    try:
        async for event in events:
            yield Counted(event, context.num_prompt_tokens, context.num_output_tokens)
    except Exception as error:  # noqa: BLE001 - whatever the request has brought about
        yield Counted(Failed(error), context.num_prompt_tokens, context.num_output_tokens)


async def with_running_usage(convert: Any, chunks: AsyncIterator[str]) -> AsyncIterator[str]:
    """What ``convert`` makes of the chunks of a chat with one choice, each event with what was used by
    then."""
    told = ""

    async def seen() -> AsyncIterator[str]:
        nonlocal told
        async for chunk in chunks:
            found = _RUNNING.match(chunk, at) if (at := chunk.rfind(_KEY)) >= 0 else None
            if found is not None:
                told = f"\n{RUNNING_USAGE} {found[1]} {found[2]}"
            yield chunk

    async for event in convert(seen()):
        yield event.removesuffix(_END) + told + _END
