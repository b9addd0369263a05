"""An engine's answers, said by heart as fast as Python can: ``python -m bench.canned_engine PORT``.

A chat in one piece, or a stream of events with running usage, in the form of vLLM's.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import httptools
import uvloop

TOKENS = 64
EVENTS = TOKENS + 3
"""Of a stream: the role, the tokens, the end and the total."""
_HEAD = b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\n"
_PROMPT = 60


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": _PROMPT, "total_tokens": _PROMPT + tokens, "completion_tokens": tokens}


def _plain() -> bytes:
    message: dict[str, object] = {
        "role": "assistant",
        "content": " w" * TOKENS,
        "refusal": None,
        "tool_calls": [],
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop", "token_ids": None}
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "tiny",
        "choices": [choice],
        "usage": {**_usage(TOKENS), "prompt_tokens_details": None},
        "prompt_token_ids": None,
        "kv_transfer_params": None,
    }
    body = _json(answer)
    return b"%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (_HEAD, len(body), body)


def _event(delta: dict[str, str] | None, tokens: int, end: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}
    content = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "tiny",
        "choices": [] if delta is None else [choice],
        "usage": _usage(tokens),
    }
    return b"data: %b\n\n" % _json(content)


def _stream() -> list[bytes]:
    events = [
        _event({"role": "assistant", "content": ""}, 0),
        *(_event({"content": f" w{n}"}, n + 1) for n in range(TOKENS)),
        _event({}, TOKENS, "stop"),
        _event(None, TOKENS),
        b"data: [DONE]\n\n",
    ]
    head = b"%bcontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n" % _HEAD
    return [head, *(b"%x\r\n%b\r\n" % (len(event), event) for event in events), b"0\r\n\r\n"]


_PLAIN, _PARTS = _plain(), _stream()
_NOTHING = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}"


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if not self._body:
            self._say(_NOTHING)
        elif b'"stream":true' in self._body:
            self._go_on(0)
        else:
            self._say(_PLAIN)

    def _say(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _go_on(self, part: int) -> None:
        """Each part in a turn of the loop of its own, as engines send them."""
        self._say(_PARTS[part])
        if part + 1 < len(_PARTS):
            self._loop.call_soon(self._go_on, part + 1)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
