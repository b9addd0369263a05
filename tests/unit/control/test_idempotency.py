"""Large bodies with an Idempotency-Key: read, hashed and given on without holding up other requests."""

import asyncio
import itertools
from typing import IO

import pytest
from starlette.types import Message, Receive, Scope, Send

from common.store.memory import MemoryStore
from control.api import idempotency
from control.api.exchange import start_exchange
from control.api.idempotency import Idempotency

CHUNK = b"a\n" * 32_768
CHUNKS = 40
TIMEOUT_SECONDS = 30


async def test_hashing_a_large_upload_does_not_stop_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, counter, got = asyncio.get_running_loop(), itertools.count(1), 0
    digest = idempotency._digest

    def digest_while_others_are_served(scope: Scope, body: IO[bytes]) -> str:
        """Waits for the event loop to do something else: never, were it called there."""
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(TIMEOUT_SECONDS)
        return digest(scope, body)

    monkeypatch.setattr(idempotency, "_digest", digest_while_others_are_served)

    async def receive() -> Message:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": CHUNK, "more_body": next(counter) < CHUNKS}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal got
        more = True
        while more:
            message = await receive()
            got += len(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def send(message: Message) -> None:
        sent.append(message)

    sent: list[Message] = []
    scope: Scope = {"type": "http", "method": "POST", "path": "/v1/files", "headers": []}
    exchange = start_exchange(scope, "req-1")
    await Idempotency(MemoryStore()).serve(app, scope, receive, send, exchange, "key")
    assert got == len(CHUNK) * CHUNKS
    assert sent[0]["status"] == 200
