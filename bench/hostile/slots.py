"""A canned engine with so many slots: ``python -m bench.hostile.slots PORT SLOTS SECONDS``.

An answer takes so long once it has a slot, and slots go to whoever came first, as in a real engine. A stream
goes on after that, event by event, each as long as one with log probabilities.
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import web

STREAM_EVENTS = 2000
EVENT_SECONDS = 0.02
_TEXT = "w" * 4096
_USAGE = {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}


class Slots:
    """The engine."""

    def __init__(self, slots: int, seconds: float) -> None:
        self._slots, self._seconds = asyncio.Semaphore(slots), seconds
        self._running = self._waiting = 0

    def app(self) -> web.Application:
        """What it serves."""
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/inference/v1/abort_requests", self._well)
        app.router.add_get("/health", self._well)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _well(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            text=f"vllm:num_requests_running {self._running}\nvllm:num_requests_waiting {self._waiting}\n"
            "vllm:kv_cache_usage_perc 0.5\n"
        )

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        await self._make()
        if body.get("stream"):
            return await _stream(request)
        message = {
            "index": 0,
            "message": {"role": "assistant", "content": "a b c d"},
            "finish_reason": "stop",
        }
        return web.json_response({"id": "c", "model": body["model"], "choices": [message], "usage": _USAGE})

    async def _make(self) -> None:
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self._running -= 1
            self._slots.release()


async def _stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(STREAM_EVENTS):
        usage = {**_USAGE, "completion_tokens": number}
        choice = {"index": 0, "delta": {"content": _TEXT}, "finish_reason": None}
        event = {"id": "c", "model": "tiny", "choices": [choice], "usage": usage}
        await asyncio.sleep(EVENT_SECONDS)
        await response.write(f"data: {json.dumps(event, separators=(',', ':'))}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


async def _serve(port: int, slots: int, seconds: float) -> None:
    runner = web.AppRunner(Slots(slots, seconds).app(), access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
