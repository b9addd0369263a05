"""What one neighbour can do to the others at the gateway, each a small function in one table:
``python -m bench.hostile.pressing NAME URL KEY SECONDS``, which says what came back as JSON."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from common.niceness import NICEST, give_way

GREEDY_CLIENTS = 128
SLOW_READERS = 32
IDLE_CONNECTIONS = 1000
KNOCKING = 16
RECEIVED_BYTES = 4096
"""That the system keeps for a reader who does not read."""
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "What is a pier?"}], "max_tokens": 16}

Answers = Counter[str]


async def be_greedy(url: str, key: str, ends: float) -> Answers:
    """Many chats at once, each sent again as soon as it is answered."""
    return await _ask(url, GREEDY_CLIENTS, ends, lambda _: key)


async def knock(url: str, key: str, ends: float) -> Answers:
    """Keys that are none, as fast as they are refused."""
    return await _ask(url, KNOCKING, ends, lambda number: f"{key}-{number}")


async def _ask(url: str, clients: int, ends: float, key_of: Callable[[int], str]) -> Answers:
    answers: Answers = Counter()

    async def client(session: aiohttp.ClientSession) -> None:
        while time.monotonic() < ends:
            headers = {"Authorization": f"Bearer {key_of(answers.total())}"}
            with suppress(aiohttp.ClientError):
                async with session.post(f"{url}/v1/chat/completions", json=CHAT, headers=headers) as answer:
                    await answer.read()
                    answers[str(answer.status)] += 1
                    if answer.status == 429:
                        await asyncio.sleep(0.1)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return answers


async def read_slowly(url: str, key: str, ends: float) -> Answers:
    """Streams of which nothing is read."""
    body = json.dumps({**CHAT, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    return await _hold(url, SLOW_READERS, ends, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


async def be_idle(url: str, key: str, ends: float) -> Answers:
    """Connections that say nothing."""
    return await _hold(url, IDLE_CONNECTIONS, ends, b"")


async def _hold(url: str, count: int, ends: float, said: bytes) -> Answers:
    place, answers, writers = urlsplit(url), Counter[str](), []
    for _ in range(count):
        with suppress(OSError):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_BYTES)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, (place.hostname, place.port))
            reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
            writers.append((reader, writer))
            writer.write(said)
            answers["held"] += 1
    await asyncio.sleep(max(0.0, ends - time.monotonic()))
    for _, writer in writers:
        writer.transport.abort()
    return answers


PRESSURE: Mapping[str, Callable[[str, str, float], Awaitable[Answers]]] = {
    "greedy_tenant": be_greedy,
    "slow_readers": read_slowly,
    "idle_connections": be_idle,
    "bad_keys": knock,
}


def main(arguments: list[str]) -> Any:
    """Press, then tell. Neighbours sit on machines of their own; here they take only what others leave."""
    name, url, key, seconds = arguments
    give_way(NICEST)
    json.dump(asyncio.run(_pressed(name, url, key, float(seconds))), sys.stdout)


async def _pressed(name: str, url: str, key: str, seconds: float) -> Answers:
    return await PRESSURE[name](url, key, time.monotonic() + seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
