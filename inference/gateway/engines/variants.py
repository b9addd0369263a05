"""Requests of Endpoints that have a canary: which side has one, and what became of it there.

Whatever the canary does before the first byte, the stable side is asked then: it makes no client's error. The
stable side's requests are never the canary's: it gets as much as its weight says, and no more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from common.errors import NO_ROOM, ComputilityError, EngineFailed, Unavailable
from common.wire import Route, RouteCanary, RouteReplica
from inference.core.canary.split import Side, side_of
from inference.gateway import metrics
from inference.gateway.books.bill import Job
from inference.gateway.control_link.tallies import Tallies
from inference.gateway.engines.legs import Answering, Begin, Legs
from inference.gateway.engines.upstream import ClientWatch, NoEngine, OnComments, drop_comments
from inference.gateway.exchange import Exchange

VARIANT_HEADER = b"x-computility-variant"
_ERROR_EVENT = (b'data: {"error":', b"event: error\n")
Outcome = Literal["answered", "failed", "refused", "left", "absent"]


@dataclass(frozen=True)
class Split:
    """The engines of a route, parted once for each state of it."""

    route: Route
    canary: RouteCanary
    of_side: dict[Side, Route]

    @staticmethod
    def of(route: Route, canary: RouteCanary) -> Split:
        """Those of a route that has one."""
        tried = [replica for replica in route.replicas if replica.role == "canary"]
        own = [replica for replica in route.replicas if replica.role != "canary"]
        return Split(route, canary, {"stable": _part(route, own), "canary": _part(route, tried)})


@dataclass(frozen=True)
class Attempt:
    """A request at a side, since when."""

    job: Job
    split: Split
    side: Side
    since_seconds: float

    def ms_until(self, seconds: float) -> float:
        """How long it was under way then."""
        return max(0.0, 1000 * (seconds - self.since_seconds))


class Variants:
    """As ``Legs``, for each side by itself. ``secret``: the same in all gateways, so that they agree on who
    is on which side."""

    def __init__(self, legs: Legs, tallies: Tallies, secret: str) -> None:
        self._legs, self._tallies = legs, tallies
        self._secret = secret.encode()
        self._splits: dict[int, Split] = {}

    def routes_changed(self, routes: tuple[Route, ...]) -> None:
        """Forget the routes of the former table, and trials that have ended."""
        self._splits = {}
        self._tallies.keep_only(route.canary for route in routes if route.canary is not None)

    async def call(
        self, job: Job, watch: ClientWatch, begin: Begin, on_comments: OnComments = drop_comments
    ) -> Answering:
        """As ``Legs.call``; says in the answer's head which side has answered, where there are two."""
        if job.route.canary is None:
            return await self._legs.call(job, watch, begin, on_comments)
        split = self._split_of(job.route, job.route.canary)
        refused: Attempt | None = None
        # A request that waits for an engine of the stable side comes again, and was at the canary's before.
        if not _variant(job.exchange) and self._side_of(job, split, watch) == "canary":
            answering, refused = await self._at_canary(job, split, watch, begin)
            if answering is not None:
                return answering
        _say(job.exchange, "stable")
        attempt = Attempt(job, split, "stable", _now_seconds())
        try:
            answering = await self._called(attempt, watch, begin, on_comments)
        except ComputilityError:
            if refused is not None:
                self._note(refused, "refused")
            raise
        if refused is not None:  # the stable side takes what the canary does not
            self._count(refused, "failed")
        return answering

    async def _at_canary(
        self, job: Job, split: Split, watch: ClientWatch, begin: Begin
    ) -> tuple[Answering | None, Attempt | None]:
        """The canary's answer, if there is one; the attempt where it finds the request wrong. Comments are
        not passed on: the head that would go before them says who answers."""
        attempt = Attempt(job, split, "canary", _now_seconds())
        if not split.of_side["canary"].replicas:
            self._note(attempt, "absent")
            return None, None
        try:
            answering = await self._called(attempt, watch, begin, drop_comments)
        except ComputilityError as error:
            if watch.gone or getattr(error, "code", "") == NO_ROOM:
                raise
            return None, None if isinstance(error, EngineFailed | Unavailable) else attempt
        if _is_no_answer(answering, job):
            answering.call.close()
            job.ticket.drop_answer()
            return None, None
        _say(job.exchange, "canary")
        return answering, None

    async def _called(
        self, attempt: Attempt, watch: ClientWatch, begin: Begin, on_comments: OnComments
    ) -> Answering:
        """The answer of one side, counted: a stream's when it has ended."""
        job, route = attempt.job, attempt.split.of_side[attempt.side]
        try:
            answering = await self._legs.call(replace(job, route=route), watch, begin, on_comments)
        except ComputilityError as error:
            if watch.gone:
                self._count(attempt, "left", attempt.ms_until(watch.gone_seconds))
            elif isinstance(error, EngineFailed | Unavailable) and error.code != NO_ROOM:
                if not (attempt.side == "stable" and isinstance(error, NoEngine) and job.route.elastic):
                    self._count(attempt, "failed")
            elif attempt.side == "stable":
                self._note(attempt, "refused")
            raise
        except BaseException:  # the engine did not stop in time for a client that has left
            if watch.gone:
                self._count(attempt, "left", attempt.ms_until(watch.gone_seconds))
            raise
        if watch.gone:
            self._count(attempt, "left", attempt.ms_until(watch.gone_seconds))
        elif _is_no_answer(answering, job):
            self._count(attempt, "failed")
        elif not job.request.stream:
            self._count(attempt, "answered")
        else:
            job.exchange.on_end = partial(self._ended, attempt, attempt.ms_until(_now_seconds()))
        return answering

    def _ended(self, attempt: Attempt, ttft_ms: float, broke: bool) -> None:
        """A stream has ended, or its client has left."""
        self._count(attempt, "failed" if broke else "answered", ttft_ms)

    def _side_of(self, job: Job, split: Split, watch: ClientWatch) -> Side:
        canary = split.canary
        if canary.sticky_by == "none":
            unit = f"request {watch.id}"
        elif canary.sticky_by == "session" and job.request.session:
            unit = f"session {job.tenant} {job.request.session}"
        else:
            unit = f"key {job.ticket.key.digest}"
        return side_of(self._secret, canary.salt, unit, canary.weight_percent)

    def _count(self, attempt: Attempt, outcome: Outcome, ttft_ms: float | None = None) -> None:
        """Count what a side is judged by. Who leaves before a first token has waited for it so long."""
        is_timed = attempt.job.request.stream
        self._tallies.count(
            attempt.split.canary,
            attempt.side,
            failed=outcome == "failed",
            ttft_ms=ttft_ms if is_timed else None,
        )
        self._note(attempt, outcome)

    def _note(self, attempt: Attempt, outcome: Outcome) -> None:
        model = metrics.MODELS.of(attempt.job.route.model)
        metrics.CANARY_REQUESTS.labels(model, attempt.side, outcome).inc()

    def _split_of(self, route: Route, canary: RouteCanary) -> Split:
        known = self._splits.get(id(route))
        if known is None or known.route is not route:
            known = self._splits[id(route)] = Split.of(route, canary)
        return known


def _is_no_answer(answering: Answering, job: Job) -> bool:
    """Whether what came with status 200 is none: a stream that begins with an error, or an answer in one
    piece that tells no usage, and so would not be given out."""
    if job.request.stream:
        return answering.call.content.startswith(_ERROR_EVENT)
    return answering.call.answer.usage is None


def _now_seconds() -> float:
    return asyncio.get_running_loop().time()


def _variant(exchange: Exchange) -> bytes:
    """Which side the client is to be told; empty before one was asked."""
    return exchange.head.get(VARIANT_HEADER, b"")


def _say(exchange: Exchange, side: Side) -> None:
    exchange.head[VARIANT_HEADER] = side.encode()


def _part(route: Route, replicas: list[RouteReplica]) -> Route:
    return route.model_copy(update={"replicas": tuple(replicas)})
