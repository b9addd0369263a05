"""One request under guardrails: its body before engines see it, its answer before its client does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from common.errors import GuardrailBlocked, GuardTold
from inference.core.body import InferenceRequest
from inference.gateway.admission import Ticket
from inference.gateway.exchange import Exchange
from inference.gateway.guardrails.board import HitBoard
from inference.gateway.guardrails.index import Binding
from inference.guardrails import folding
from inference.guardrails.answers import GUARDED, guarded_answer
from inference.guardrails.requests import guarded_request
from inference.guardrails.streams import stream_under
from inference.guardrails.walking import Blocked, Hit

HEADER = b"x-computility-guardrails"
_ASIDE_BYTES = 64 * 1024
"""Larger texts are looked at in a thread, so that others are served meanwhile."""
_MOST_TOLD = 8


async def guarded(
    request: InferenceRequest, binding: Binding | None, exchange: Exchange, ticket: Ticket, board: HitBoard
) -> tuple[InferenceRequest, Exchange]:
    """The request as engines are sent it, and the exchange that its answer goes through. Raises
    ``GuardrailBlocked``."""
    if binding is None:
        return request, exchange
    if not folding.is_ready():
        await asyncio.to_thread(folding.make_ready)
    if binding.input is not None:
        hits: list[Hit] = []
        try:
            if len(request.rest) > _ASIDE_BYTES:
                request = await asyncio.to_thread(guarded_request, request, binding.input, hits.append)
            else:
                request = guarded_request(request, binding.input, hits.append)
        except Blocked as error:
            raise _refusal(error.hit, "input") from None
        finally:
            board.told("input", exchange.request_id, hits)
        if hits:
            exchange.head[HEADER] = _header(hits)
    if binding.output is None or request.api not in GUARDED:
        return request, exchange
    return request, GuardedExchange(exchange, request, binding, ticket, board)


class GuardedExchange(Exchange):
    """An exchange whose answer goes through guards. All else is the inner one's."""

    _OWN = frozenset({"_inner", "_request", "_binding", "_ticket", "_board", "_stream"})

    def __init__(
        self, inner: Exchange, request: InferenceRequest, binding: Binding, ticket: Ticket, board: HitBoard
    ) -> None:
        self._inner, self._request, self._binding = inner, request, binding
        self._ticket, self._board = ticket, board
        assert binding.output is not None
        usage = request.usage_shown != "none"
        self._stream = stream_under(request.api, binding.output, self._told, usage)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_inner"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._OWN:
            self.__dict__[name] = value
        else:
            setattr(self._inner, name, value)

    async def disconnected(self) -> None:
        await self._inner.disconnected()

    def when_gone(self, told: Callable[[], None]) -> Callable[[], object]:
        return self._inner.when_gone(told)

    async def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        await self._inner.start(status, headers)

    async def write(self, data: bytes, more: bool = True) -> None:
        """A part of a stream: whole events."""
        if not more:
            await self._inner.write(self._stream.end(data, self._ticket.counts), more=False)
            return
        passed = self._stream.feed(data)
        if passed:
            await self._inner.write(passed)
        forbidden = self._stream.blocked
        if forbidden is not None and self._ticket.end is not None:
            self._ticket.end(_refusal(forbidden, "output"))

    async def respond(
        self, status: int, body: bytes, content_type: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """An answer in one piece. Raises ``GuardrailBlocked``."""
        if status == 200:
            body = await self._guarded(body)
        await self._inner.respond(status, body, content_type, headers)

    async def _guarded(self, body: bytes) -> bytes:
        rules, hits = self._binding.output, list[Hit]()
        assert rules is not None
        try:
            if len(body) > _ASIDE_BYTES:
                return await asyncio.to_thread(guarded_answer, self._request.api, body, rules, hits.append)
            return guarded_answer(self._request.api, body, rules, hits.append)
        except Blocked as error:
            raise _refusal(error.hit, "output") from None
        finally:
            self._board.told("output", self._inner.request_id, hits)
            if hits:
                self._inner.head[HEADER] = _header(hits)

    def _told(self, hit: Hit) -> None:
        self._board.told("output", self._inner.request_id, (hit,))


def _refusal(hit: Hit, direction: str) -> GuardrailBlocked:
    """Names guard and place, never the text."""
    what = "the request" if direction == "input" else "the answer"
    return GuardrailBlocked(
        f"{what} was stopped by the guard {hit.rule.guard} of the guardrail {hit.rule.guardrail}",
        param=hit.path if direction == "input" else None,
        guardrail=GuardTold(hit.rule.guardrail, hit.rule.guard, direction, hit.path),
    )


def _header(hits: Iterable[Hit]) -> bytes:
    """Like ``personal=mask;n=2``, a few of them."""
    sums: dict[tuple[str, str], int] = {}
    for hit in hits:
        key = (hit.rule.guard, hit.rule.action)
        sums[key] = sums.get(key, 0) + hit.count
    told = [f"{guard}={action};n={count}" for (guard, action), count in list(sums.items())[:_MOST_TOLD]]
    return ", ".join(told).encode("latin-1", "replace")
