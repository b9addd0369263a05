"""Running usage in the streams of an engine whose API tells it at the end only.

Who leaves, or whose engine breaks, is billed for what was made by then; for that the gateway has to know it
all the while. OpenAI's chats and completions tell it in each chunk, if asked; here each event of Anthropic's
messages is given a comment in its last line: ``: computility-usage 12 5``, tokens of the prompt and of the
answer. The gateway cuts it off; whoever else reads such a stream skips it, as a comment.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from inference.core.apis.events import RUNNING_USAGE

_END = "\n\n"
_KEY = '"usage":{'
_RUNNING = re.compile(r'"usage":\{"prompt_tokens":(\d+),"total_tokens":\d+,"completion_tokens":(\d+)')
_done: set[type] = set()


def tell_running_usage() -> None:
    """Have vLLM's server, in the process that this is called in, do so. Without one nothing happens; calling
    it again changes nothing."""
    try:
        from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
    except ImportError:
        return
    if AnthropicServingMessages in _done:
        return
    _done.add(AnthropicServingMessages)
    convert = AnthropicServingMessages.message_stream_converter

    def counted(server: Any, chunks: AsyncGenerator[str, None]) -> AsyncIterator[str]:
        return with_running_usage(lambda inner: convert(server, inner), chunks)

    AnthropicServingMessages.message_stream_converter = counted  # type: ignore[assignment, method-assign]


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
