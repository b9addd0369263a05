"""Clients that ask for everything that is billed, and write down exactly what they received."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI

from bench.billing_chaos.records import Received

QUESTIONS = ("What is a utility?", "What is a pier?", "Who pays for a token?", "Name a harbour, please.")
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
TIMEOUT_SECONDS = 120.0
PAUSE_SECONDS = 1.0
"""After a request that was refused, or found no gateway."""

_Told = Callable[[], None]


class Asker:
    """One client: asks again and again until ``ends`` is set. ``received`` is shared by all clients."""

    def __init__(
        self, url: str, key: str, models: tuple[str, str], number: int, dice: random.Random, told: _Told
    ) -> None:
        """``models``: the one that chats, and the one that embeds, empty = none."""
        self._client = AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=TIMEOUT_SECONDS)
        self._chats, self._embeds = models
        self._number, self._dice, self._told = number, dice, told
        self._asked = 0
        self.received: list[Received] = []

    async def run(self, ends: asyncio.Event) -> None:
        """Until ``ends``; what is under way comes to its end."""
        kinds = [self._plain, self._choices, self._tool, self._prompts, self._leaves_answer]
        kinds += [self._stream, self._running, self._stream_choices, self._leaves_stream, self._stream] * 2
        while not ends.is_set():
            also = [self._embeddings] * (2 if self._embeds else 0)
            await self._ask(self._dice.choice([*kinds, *also]))
        await self._client.close()

    def stop_embedding(self) -> None:
        """The model that embeds is going."""
        self._embeds = ""

    async def _ask(self, kind: Callable[[Received], Awaitable[None]]) -> None:
        self._asked += 1
        one = Received(f"chaos-{self._number}-{self._asked}", kind.__name__.strip("_"), most=0)
        self.received.append(one)
        try:
            await kind(one)
        except APIStatusError as error:
            one.state, one.what = "refused", f"{error.status_code} {error.code}"
            await asyncio.sleep(PAUSE_SECONDS)
        except APIConnectionError as error:
            one.what = type(error.__cause__ or error).__name__
            await asyncio.sleep(PAUSE_SECONDS)
        except APIError as error:
            one.what = f"told: {error.code}"
        except httpx.HTTPError as error:
            one.what = type(error).__name__
        self._told()

    # In one piece

    async def _plain(self, one: Received) -> None:
        _all_of(one, await self._client.chat.completions.create(**self._chat(one)))

    async def _choices(self, one: Received) -> None:
        _all_of(one, await self._client.chat.completions.create(**self._chat(one, n=3)))

    async def _tool(self, one: Received) -> None:
        asked = self._chat(one, tools=[TOOL], tool_choice="required")
        asked["extra_body"] = {}
        _all_of(one, await self._client.chat.completions.create(**asked))

    async def _prompts(self, one: Received) -> None:
        asked = self._options(one, answers=4)
        prompts = self._dice.sample(QUESTIONS, 2)
        _all_of(one, await self._client.completions.create(**asked, model=self._chats, prompt=prompts, n=2))

    async def _embeddings(self, one: Received) -> None:
        texts = self._dice.sample(QUESTIONS, self._dice.randint(1, 3))
        headers = {"X-Request-Id": one.request_id}
        made = await self._client.embeddings.create(model=self._embeds, input=texts, extra_headers=headers)
        one.state, one.prompt, one.what = "answered", made.usage.prompt_tokens, "answered"

    async def _leaves_answer(self, one: Received) -> None:
        try:
            async with asyncio.timeout(self._dice.uniform(0.02, 0.6)):
                await self._plain(one)
        except TimeoutError:
            one.what = "left"

    # Streams

    async def _stream(self, one: Received) -> None:
        await self._read(one, self._chat(one, stream=True, stream_options={"include_usage": True}))

    async def _running(self, one: Received) -> None:
        options = {"include_usage": True, "continuous_usage_stats": True}
        await self._read(one, self._chat(one, stream=True, stream_options=options))

    async def _stream_choices(self, one: Received) -> None:
        await self._read(one, self._chat(one, n=2, stream=True, stream_options={"include_usage": True}))

    async def _leaves_stream(self, one: Received) -> None:
        options = {"include_usage": True, "continuous_usage_stats": True}
        asked = self._chat(one, stream=True, stream_options=options)
        await self._read(one, asked, leaves_after=self._dice.randint(1, 30))

    async def _read(self, one: Received, asked: dict[str, Any], leaves_after: int = 0) -> None:
        """Note each chunk as it comes, so that what came before a break is known."""
        stream = await self._client.chat.completions.create(**asked)
        chunks, answers = 0, asked.get("n", 1)
        try:
            async for chunk in stream:
                chunks += 1
                _saw(one, chunk, answers)
                if leaves_after and chunks >= leaves_after:
                    one.what = "left"
                    return
        finally:
            await stream.close()
        one.what = "ended"
        if one.prompt is not None:
            one.state = "answered"

    def _chat(self, one: Received, n: int = 1, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": self._dice.choice(QUESTIONS)}]
        asked = {**self._options(one, answers=n), "model": self._chats, "messages": messages, **more}
        return {**asked, "n": n} if n > 1 else asked

    def _options(self, one: Received, answers: int) -> dict[str, Any]:
        tokens = self._dice.choice((1, 8, 24, 60))
        one.most = tokens * answers
        return {
            "max_tokens": tokens,
            "extra_headers": {"X-Request-Id": one.request_id},
            "extra_body": {"ignore_eos": self._dice.random() < 0.7},
        }


def _all_of(one: Received, answer: Any) -> None:
    one.note_usage(answer.usage)
    one.state, one.what = "answered", "answered"


def _saw(one: Received, chunk: Any, answers: int) -> None:
    """Usage where it is told, of all choices together; else each chunk with text has a token at least."""
    if chunk.usage is not None and (not chunk.choices or answers == 1):
        one.note_usage(chunk.usage)
        return
    one.completion += sum(bool(choice.delta and choice.delta.content) for choice in chunk.choices)
