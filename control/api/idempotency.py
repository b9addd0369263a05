"""Idempotency-Key: the same write sent twice is done once, and answered twice with the same answer."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
from typing import IO, Any
from weakref import WeakValueDictionary

from starlette.datastructures import Headers, QueryParams
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.store.answers import Claim, Replay, claimed
from common.store.port import Store
from common.units import MIB
from control.api.exchange import Exchange

HEADER = "idempotency-key"
_IN_MEMORY_BYTES = MIB
_CHUNK_BYTES = 256 * 1024
_BOUNDARY = re.compile(r'multipart/form-data;.*boundary="?([^";,]+)', re.IGNORECASE)


class Idempotency:
    """Serves writes that carry a key. Only what succeeded is kept: a refused write changed nothing and may be
    tried again. Two requests with one key wait for each other.

    A key counts for the API key that sent it and for the project that is meant, so an answer never tells of
    another project, or of whoever had the API key's name before.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def serve(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, exchange: Exchange, key: str
    ) -> None:
        """Answer from memory, or let ``app`` answer. What it writes keeps the answer in the same transaction;
        an answer without a write is kept here. ``IdempotencyMismatch`` for another request.
        """
        whose = _whose(scope, exchange)
        lock = self._locks.setdefault((whose, key), asyncio.Lock())
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as body:
            await _read(receive, body)
            async with lock:
                digest = await asyncio.to_thread(_digest, scope, body)
                tenant = exchange.caller.tenant_uid if exchange.caller else ""
                claim = Claim(tenant, whose, key, digest)
                replay = await self._store.find_answer(claim)
                if replay is None:
                    with claimed(claim):
                        answer = await _answer_of(app, scope, _again(body, receive))
                    await self._keep(claim, answer)
                else:
                    exchange.error_code = "replayed"
                    answer = await _answer_of(_replayed(replay), scope, receive)
        for message in answer:
            await send(message)

    async def _keep(self, claim: Claim, answer: list[Message]) -> None:
        status = answer[0]["status"]
        if not claim.kept and 200 <= status < 300:
            text = b"".join(message.get("body", b"") for message in answer[1:]).decode()
            await self._store.keep_answer(claim, Replay(status, text))


def _whose(scope: Scope, exchange: Exchange) -> str:
    """The API key, told by its uid, and the project that the request is about: any text, so by its digest."""
    caller = exchange.caller
    query = QueryParams(scope.get("query_string", b""))
    named = Headers(scope=scope).get("openai-project") or query.get("project")
    project = named or (caller.principal.project if caller else None) or ""
    digest = hashlib.sha256(project.encode(errors="surrogatepass")).hexdigest()[:32]
    return f"{caller.key_uid if caller else exchange.actor}/{digest}"


async def _read(receive: Receive, body: IO[bytes]) -> None:
    """What is more than fits in memory goes to disk, which must not hold up other requests."""
    more, size = True, 0
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= _IN_MEMORY_BYTES:
            body.write(chunk)
        else:
            await asyncio.to_thread(body.write, chunk)
        more = message.get("more_body", False)


def _digest(scope: Scope, body: IO[bytes]) -> str:
    """SHA-256 over method, path, query and body. The boundary lines of a multipart body are random, so they
    are left out."""
    query = scope.get("query_string", b"")
    digest = hashlib.sha256(f"{scope['method']} {scope['path']}?".encode() + query + b"\n")
    found = _BOUNDARY.search(Headers(scope=scope).get("content-type", ""))
    boundary = b"--" + found[1].encode() if found else None
    body.seek(0)
    for line in body:
        if boundary is None or not line.startswith(boundary):
            digest.update(line)
    return digest.hexdigest()


def _again(body: IO[bytes], receive: Receive) -> Receive:
    """A ``receive`` that gives the body that was read already."""
    body.seek(0)
    done = False

    async def receive_again() -> Message:
        nonlocal done
        if done:
            return await receive()
        chunk = await asyncio.to_thread(body.read, _CHUNK_BYTES)
        done = len(chunk) < _CHUNK_BYTES
        return {"type": "http.request", "body": chunk, "more_body": not done}

    return receive_again


def _replayed(replay: Replay) -> Response:
    headers = {"Idempotent-Replayed": "true"}
    return Response(replay.body, replay.status, headers, media_type="application/json")


async def _answer_of(app: Any, scope: Scope, receive: Receive) -> list[Message]:
    answer: list[Message] = []

    async def collect(message: Message) -> None:
        answer.append(message)

    await app(scope, receive, collect)
    return answer
