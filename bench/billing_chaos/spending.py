"""Clients that spend a hard budget at once, and go on asking once it is spent; and what it came to."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI

from bench.billing_chaos.records import Billed, Received
from billing.core.leases import PART_OF_LIMIT
from common.client import Client
from common.resources.meta import API_VERSION

BUDGET = KEY = "chaos-spender"
LIMIT_TOKENS = 6_000
"""A request holds some 1,100 of them (its prompt, the chat template and its answer) and uses 30 or so."""
TOKENS = 24
TIMEOUT_SECONDS = 120.0
PAUSE_SECONDS = 0.5


def make_budget(client: Client, project: str) -> str:
    """The budget, and the secret of the key that it is of."""
    tenant = client.get("projects", project)["spec"]["tenant"]
    secret = str(client.create_key(KEY, "member", project=project)["secret"])
    scope = {"tenant": tenant, "project": project, "key": KEY}
    spec = {"scope": scope, "period": "total", "limit": {"tokens": LIMIT_TOKENS}, "enforcement": "hard"}
    client.apply_all(
        [{"apiVersion": API_VERSION, "kind": "Budget", "metadata": {"name": BUDGET}, "spec": spec}]
    )
    return secret


class Spender:
    """Asks again and again with the budget's key. ``received`` is like that of all other clients."""

    def __init__(self, url: str, key: str, model: str, number: int, told: Callable[[], None]) -> None:
        self._client = AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=TIMEOUT_SECONDS)
        self._model, self._number, self._told = model, number, told
        self.received: list[Received] = []

    async def run(self, ends: asyncio.Event) -> None:
        """Until ``ends``; what is under way comes to its end."""
        dice = random.Random(self._number)
        while not ends.is_set():
            one = Received(f"spend-{self._number}-{len(self.received)}", "budget", most=TOKENS)
            self.received.append(one)
            if not await self._ask(one):
                await asyncio.sleep(dice.uniform(1, 2) * PAUSE_SECONDS)
            self._told()
        await self._client.close()

    async def _ask(self, one: Received) -> bool:
        message: Any = {"role": "user", "content": "Spend."}
        try:
            answer = await self._client.chat.completions.create(
                model=self._model,
                messages=[message],
                max_tokens=TOKENS,
                extra_headers={"X-Request-Id": one.request_id},
            )
        except APIStatusError as error:
            one.state, one.what = "refused", f"{error.status_code} {error.code}"
        except APIConnectionError as error:
            one.what = type(error.__cause__ or error).__name__
        except APIError as error:
            one.what = f"told: {error.code}"
        else:
            one.note_usage(answer.usage)
            one.state, one.what = "answered", "answered"
        return one.state == "answered"


@dataclass(frozen=True)
class Spent:
    """What a budget came to, in tokens. ``counted`` is its sum in the ledger, ``billed`` that of its
    events."""

    limit: int
    counted: int
    billed: int
    refused: int

    @property
    def overshoot_leases(self) -> int:
        """By how many leases, rounded up, more was spent than the limit."""
        lease = max(1, self.limit // PART_OF_LIMIT)
        return math.ceil(max(0, self.counted - self.limit, self.billed - self.limit) / lease)

    @property
    def faults(self) -> list[str]:
        """Where the ledger's sum is not that of the events."""
        if self.counted == self.billed:
            return []
        return [f"the budget counts {self.counted} tokens, its events have {self.billed}"]


def spent(events: Iterable[Billed], counted: int, received: Iterable[Received]) -> Spent:
    """Of the events of all clients those of the budget's key."""
    billed = sum(one.prompt + one.completion for one in events if one.key == KEY)
    refused = sum(one.kind == "budget" and one.what.startswith("429") for one in received)
    return Spent(LIMIT_TOKENS, counted, billed, refused)
