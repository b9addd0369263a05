"""Large bodies with an Idempotency-Key: read, hashed and given on without holding up other requests."""

import asyncio
import itertools

from starlette.types import Message, Receive, Scope, Send

from common.store.memory import MemoryStore
from control.api.exchange import start_exchange
from control.api.idempotency import Idempotency

CHUNK = b"a\n" * 32_768
CHUNKS = 400
LONGEST_GAP_SECONDS = 0.3


async def _longest_gap_seconds(stop: asyncio.Event) -> float:
    """The longest that the event loop let a task wait."""
    loop, longest = asyncio.get_running_loop(), 0.0
    while not stop.is_set():
        began = loop.time()
        await asyncio.sleep(0.001)
        longest = max(longest, loop.time() - began)
    return longest


async def test_hashing_a_large_upload_does_not_stop_the_event_loop() -> None:
    counter, got = itertools.count(1), 0

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
    stop = asyncio.Event()
    watching = asyncio.create_task(_longest_gap_seconds(stop))
    exchange = start_exchange(scope, "req-1")
    await Idempotency(MemoryStore()).serve(app, scope, receive, send, exchange, "key")
    stop.set()
    assert got == len(CHUNK) * CHUNKS
    assert sent[0]["status"] == 200
    assert await watching < LONGEST_GAP_SECONDS
