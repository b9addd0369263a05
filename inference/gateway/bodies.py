"""Bodies of requests: small ones are parsed at once, large ones in processes of their own.

A large body is read and parsed while its key has the turn, so that one key holds neither the gateway's
memory nor more than one of the processes. What names no model that the key may use is not parsed at all.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict
from typing import Any

from common.auth import Principal
from common.errors import ComputilityError, ContextExceeded, InvalidInput, TooLarge, Unavailable
from common.settings import GatewaySettings
from common.telemetry import get_logger
from inference.core.apis.parsing import parse_body
from inference.core.body import Api, BodyLimits, InferenceRequest, models_named
from inference.core.continuable import Continuable
from inference.gateway.admission import Ticket
from inference.gateway.control_link.routes import RouteFollower
from inference.gateway.control_link.table import RouteIndex
from inference.gateway.exchange import Exchange
from inference.gateway.parse_worker import LENGTHS

WORKERS = 2
PARSE_SECONDS = 30.0
REUSE_BYTES = 1024**2
"""A process that has parsed more than this ends: its memory would not come back otherwise."""
_KINDS: dict[str, type[ComputilityError]] = {
    kind.__name__: kind for kind in (InvalidInput, ContextExceeded, TooLarge)
}
_NOT_READ = "the body could not be read right now; try again"
_log = get_logger("gateway.bodies")


class Bodies:
    """Reads and parses the bodies of the inference paths."""

    def __init__(self, settings: GatewaySettings, media_hosts: Sequence[str] = ()) -> None:
        self._settings = settings
        self._limits = BodyLimits(
            sequences=settings.max_sequences_per_request,
            inputs=settings.max_inputs_per_request,
            values=settings.max_values_per_request,
            media_hosts=tuple(host.lower() for host in media_hosts),
        )
        self._parser = Parser(self._limits)

    async def close(self) -> None:
        await self._parser.close()

    async def read(
        self, exchange: Exchange, api: Api, ticket: Ticket, routes: RouteFollower
    ) -> InferenceRequest:
        """The checked request. Raises the client's error, ``TooManyRequests`` among them."""
        large = self._settings.large_body_bytes
        at_hand = exchange.body_at_hand() if _is_small(exchange, large) else None
        if at_hand is not None:
            ticket.take_bytes(len(at_hand))
            return parse_body(api, at_hand, self._limits)
        async with AsyncExitStack() as stack:
            size = 0

            async def keep(chunk_bytes: int) -> None:
                nonlocal size
                if size <= large < size + chunk_bytes:
                    await stack.enter_async_context(ticket.turn())
                size += chunk_bytes
                ticket.take_bytes(chunk_bytes)

            raw = await exchange.read_body(self._settings.body_limit_bytes, keep)
            if size <= large:
                return parse_body(api, raw, self._limits)
            await _check_model(raw, ticket.key.principal, routes)
            return await self._parser.parse(api, raw)


def _is_small(exchange: Exchange, large_bytes: int) -> bool:
    """Whether a body says that it is no large one."""
    length = exchange.headers.get(b"content-length", b"")
    return length.isdigit() and int(length) <= large_bytes


async def _check_model(raw: bytes, principal: Principal, routes: RouteFollower) -> None:
    """Raise the client's error when nothing in the body can be a model that the key may use."""
    names = models_named(raw)
    if names is None:
        return
    if not names:
        raise InvalidInput("missing required parameter: model", "missing_required_parameter", "model")
    if not _names_one(routes.index, principal, names):
        index = await routes.renewed()
        if not _names_one(index, principal, names):
            index.find(principal, names[0])


def _names_one(index: RouteIndex, principal: Principal, names: Sequence[str]) -> bool:
    for name in names:
        with suppress(ComputilityError):
            index.find(principal, name)
            return True
    return False


class Parser:
    """Some processes that parse, started when they are first needed and replaced when they fail."""

    def __init__(self, limits: BodyLimits, workers: int = WORKERS) -> None:
        self._limits = asdict(limits)
        self._free = asyncio.Semaphore(workers)
        self._idle: list[asyncio.subprocess.Process] = []

    async def parse(self, api: Api, raw: bytes) -> InferenceRequest:
        """As ``parse_body``. Raises ``Unavailable`` when the process ends in the middle of it."""
        async with self._free:
            worker = await self._worker()
            try:
                async with asyncio.timeout(PARSE_SECONDS):
                    answer, rest = await _ask(worker, {"api": api, "limits": self._limits}, raw)
            except TimeoutError as error:
                await _end(worker)
                raise TooLarge(f"the body takes more than {PARSE_SECONDS:.0f} s to be read") from error
            except (OSError, EOFError) as error:
                await _end(worker)
                _log.error("a process that parses bodies has ended", code=worker.returncode, error=str(error))
                raise Unavailable(_NOT_READ) from error
            except BaseException:
                await _end(worker)
                raise
            if len(raw) <= REUSE_BYTES:
                self._idle.append(worker)
            else:
                await _end(worker)
        if "error" in answer:
            raise _KINDS.get(answer["kind"], InvalidInput)(**answer["error"])
        request = answer["request"]
        token_limits = tuple((name, asked) for name, asked in request.pop("token_limits"))
        goes_on = request.pop("continuable")
        goes_on = Continuable(**goes_on) if goes_on is not None else None
        return InferenceRequest(**request, token_limits=token_limits, rest=rest, continuable=goes_on)

    async def _worker(self) -> asyncio.subprocess.Process:
        """A process that waits. Raises ``Unavailable`` when none can be started."""
        while self._idle:
            worker = self._idle.pop()
            if worker.returncode is None:
                return worker
        try:
            return await _start()
        except OSError as error:
            _log.error("no process to parse bodies can be started", error=str(error))
            raise Unavailable(_NOT_READ) from error

    async def close(self) -> None:
        for worker in self._idle:
            await _end(worker)
        self._idle = []


async def _start() -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "inference.gateway.parse_worker")
    return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, start_new_session=True)


async def _ask(
    worker: asyncio.subprocess.Process, question: dict[str, Any], raw: bytes
) -> tuple[dict[str, Any], bytes]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    head = json.dumps(question).encode()
    worker.stdin.write(LENGTHS.pack(len(head), len(raw)) + head)
    worker.stdin.write(raw)
    await worker.stdin.drain()
    head_size, rest_size = LENGTHS.unpack(await worker.stdout.readexactly(LENGTHS.size))
    answer: dict[str, Any] = json.loads(await worker.stdout.readexactly(head_size))
    return answer, await worker.stdout.readexactly(rest_size)


async def _end(worker: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        worker.kill()
    await worker.wait()
