"""Requests for adapters, few of which are asked for often."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from openai import AsyncOpenAI, OpenAIError

TOKENS = 8
PROMPT = "Tell me a story about the river"


@dataclass(frozen=True)
class Told:
    """One answer; times are seconds since the epoch. ``error`` where there was none."""

    model: str
    sent: float
    first: float = 0.0
    text: str = ""
    error: str = ""

    @property
    def first_token_ms(self) -> float:
        return 1000 * (self.first - self.sent)


def drawn(names: Sequence[str], requests: int, zipf: float, seed: int) -> list[str]:
    """The n-th most popular name is drawn as often as ``1 / n ** zipf`` says; which that is, is drawn too."""
    rng = random.Random(seed)
    order = rng.sample(names, len(names))
    shares = list(accumulate(1 / rank**zipf for rank in range(1, len(order) + 1)))
    return rng.choices(order, cum_weights=shares, k=requests)


async def ask(client: AsyncOpenAI, model: str) -> Told:
    """Its greedy answer."""
    sent, first, text = time.time(), 0.0, ""
    messages: Any = [{"role": "user", "content": PROMPT}]
    try:
        stream = await client.chat.completions.create(
            model=model, messages=messages, max_tokens=TOKENS, temperature=0, stream=True
        )
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                first = first or time.time()
                text += chunk.choices[0].delta.content
    except OpenAIError as error:
        return Told(model, sent, error=f"{type(error).__name__}: {error}"[:200])
    return Told(model, sent, first or time.time(), text)


async def play(
    client: AsyncOpenAI, models: Sequence[str], clients: int, step: Callable[[], None]
) -> list[Told]:
    """All of them, by so many clients, each of which asks when it was answered."""
    left, told = iter(models), list[Told]()

    async def one() -> None:
        for model in left:
            told.append(await ask(client, model))
            step()

    await asyncio.gather(*(one() for _ in range(clients)))
    return told
