"""Turns at engines that have enough to do: requests wait here, and tenants in fair order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from common.clock import Clock, rfc3339
from common.errors import LimitTold, NotAwake, RateLimited
from common.http_server.request import ClientGone
from common.settings import GatewaySettings
from common.wire import Route
from inference.core.fair_turns import FairTurns, Waiter
from inference.gateway import metrics
from inference.gateway.books.bill import Job
from inference.gateway.control_link.demand import DemandTeller
from inference.gateway.engines.reports import Reports

LOOK_SECONDS = 0.25
"""Between two questions to the engines of an Endpoint for which somebody waits."""
LOOKED_AT = 8
"""Engines of an Endpoint that are asked at a time."""
CALM_SECONDS = 2.0
"""The same where nobody does, but several tenants ask."""
ASSUMED_ANSWER_TOKENS = 256
BUSY = "engines_busy"
_ENDING_SECONDS = 1


@dataclass(eq=False, slots=True)
class Turn:
    """What a request has of an Endpoint, or waits for. ``done`` is given True once it is its turn."""

    room: _Room
    waiter: Waiter
    began_seconds: float
    prompt_tokens_about: int
    done: asyncio.Future[bool] | None = None
    is_over: bool = False
    """Its turn came when it had just left."""


class _Room:
    """One Endpoint: its turns, who waits, and where its engines are."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = urls
        self.turns = FairTurns(len(urls))
        self.waiting: dict[Waiter, Turn] = {}
        self.looks: asyncio.Task[None] | None = None
        self.is_used = True
        self._first = 0

    def some_urls(self) -> Sequence[str]:
        """A few of the engines, others each time: what they tell stands for all."""
        if len(self.urls) <= LOOKED_AT:
            return self.urls
        self._first = (self._first + LOOKED_AT) % len(self.urls)
        return (*self.urls, *self.urls)[self._first : self._first + LOOKED_AT]


class Turns:
    """All requests of this gateway that have a turn, or wait for one."""

    def __init__(
        self, settings: GatewaySettings, reports: Reports, demand: DemandTeller, clock: Clock
    ) -> None:
        self._settings, self._reports, self._demand, self._clock = settings, reports, demand, clock
        self._rooms: dict[str, _Room] = {}
        self._by_route: dict[int, tuple[Route, _Room]] = {}
        self._ends = False

    def routes_changed(self) -> None:
        """There is another table."""
        self._by_route = {}
        for name, room in list(self._rooms.items()):
            if room.turns.is_idle and not room.is_used:
                self._drop(name)
            room.is_used = False

    def end(self) -> None:
        """Nobody waits here any more: the gateway is about to end."""
        self._ends = True
        error = NotAwake("this gateway ends; send it again", code=BUSY, retry_after_seconds=_ENDING_SECONDS)
        for room in self._rooms.values():
            for turn in list(room.waiting.values()):
                _fail(turn, error)

    async def close(self) -> None:
        """Ask engines nothing more."""
        tasks = [room.looks for room in self._rooms.values() if room.looks is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def begin(self, job: Job) -> Turn | None:
        """A turn at the engines, which is to be ended; None where nobody has to wait for one.

        Raises ``RateLimited`` where too many of the tenant wait, ``NotAwake`` after too long a wait,
        ``ClientGone`` where the client has left, and what ends requests of keys that are in force no longer.
        """
        room = self._room_of(job.route)
        if room is None:
            return None
        request = job.request
        limits = request.token_limits
        most = max([limit for _, limit in limits]) if limits else ASSUMED_ANSWER_TOKENS
        cost = request.prompt_tokens_about + most * request.sequences
        now = self._clock.monotonic_seconds()
        waiter = Waiter(job.tenant, request.sequences, max(1, cost), is_background=job.line is not None)
        turn = Turn(room, waiter, now, request.prompt_tokens_about)
        if room.turns.waiting and job.line is None:
            self._check(job, room)
        if not room.turns.ask(turn.waiter, now):
            await self._wait(job, turn)
            turn.began_seconds = self._clock.monotonic_seconds()
        self._look_later(room)
        return turn

    def finish(self, turn: Turn, tokens: int) -> None:
        """The request has ended, and so many tokens of it are billed: others may begin. Where none are, an
        engine may have read its prompt: else who leaves before each answer would always go next."""
        self._end(turn, tokens or turn.prompt_tokens_about)

    def _end(self, turn: Turn, tokens: int) -> None:
        room = turn.room
        room.turns.end(turn.waiter, self._clock.monotonic_seconds() - turn.began_seconds, tokens)
        self._call_next(room)

    def _room_of(self, route: Route) -> _Room | None:
        """None where the route has no engines, or there are to be no queues."""
        if not self._settings.queued_requests_per_tenant:
            return None
        known = self._by_route.get(id(route))
        if known is not None and known[0] is route:
            return known[1]
        engines = [replica for replica in route.replicas if replica.role != "prefill"]
        if not engines:
            return None
        name = " ".join(sorted({replica.endpoint or route.base_model for replica in engines}))
        urls = [replica.url for replica in engines]
        room = self._rooms.setdefault(name, _Room(urls))
        room.urls, room.is_used = urls, True
        room.turns.resize(len(urls))
        self._by_route[id(route)] = route, room
        return room

    def _check(self, job: Job, room: _Room) -> None:
        most, waiting = self._settings.queued_requests_per_tenant, room.turns.waiting_of(job.tenant)
        if waiting < most:
            return
        metrics.QUEUED_HOW.labels("refused").inc()
        seconds = room.turns.wait_seconds(job.tenant)
        until = rfc3339(self._clock.now_ms() + 1000 * seconds)
        raise RateLimited(
            f"the engines of {job.route.model} are busy, {waiting} requests of the tenant {job.tenant} wait "
            f"for them, and no more may; try again in {seconds} s, and fewer at once",
            code=BUSY,
            retry_after_seconds=seconds,
            limit=LimitTold("tenant", job.tenant, "queuedRequests", most, until),
        )

    async def _wait(self, job: Job, turn: Turn) -> None:
        """Until it is the request's turn."""
        room, waiter = turn.room, turn.waiter
        turn.done = asyncio.get_running_loop().create_future()
        room.waiting[waiter] = turn
        self._look_later(room)
        metrics.QUEUED.inc()
        leave_be = job.exchange.when_gone(lambda: _fail(turn, ClientGone()))
        job.ticket.end = lambda error: _fail(turn, error)
        how = "left"
        try:
            if self._ends:
                raise NotAwake("this gateway ends", code=BUSY, retry_after_seconds=_ENDING_SECONDS)
            with self._demand.holding(job.route) if job.line is None else nullcontext():
                async with asyncio.timeout(self._settings.queue_timeout_seconds):
                    await turn.done
            how = "served"
        except TimeoutError:
            how = "timeout"
            seconds = room.turns.wait_seconds(waiter.tenant)
            raise NotAwake(
                f"the engines of {job.route.model} are busy: no turn came within "
                f"{self._settings.queue_timeout_seconds:g} s; try again in {seconds} s",
                code=BUSY,
                retry_after_seconds=seconds,
            ) from None
        finally:
            leave_be()
            job.ticket.end = None
            metrics.QUEUED.dec()
            metrics.QUEUED_HOW.labels(how).inc()
            if room.waiting.pop(waiter, None) is not None:
                room.turns.leave(waiter)
            elif how != "served" and not turn.is_over:
                self._end(turn, 0)

    def _call_next(self, room: _Room) -> None:
        while (waiter := room.turns.next()) is not None:
            turn = room.waiting.pop(waiter)
            if turn.done is not None and not turn.done.done():
                turn.done.set_result(True)
            else:
                turn.is_over = True
                room.turns.end(waiter, 0.0, 0)

    def _look_later(self, room: _Room) -> None:
        if room.looks is None and room.turns.needs_look:
            room.looks = asyncio.create_task(self._look(room))

    async def _look(self, room: _Room) -> None:
        """Learn how many the engines work on, for as long as somebody may have to wait."""
        try:
            while room.turns.needs_look:
                await asyncio.sleep(LOOK_SECONDS if room.turns.waiting else CALM_SECONDS)
                reports = await asyncio.gather(*map(self._reports.load_of, room.some_urls()))
                told = [report for report in reports if report is not None]
                if told:
                    all_of = len(room.urls) / len(told)
                    requests, waiting = (
                        sum(n) for n in zip(*((r.requests, r.waiting) for r in told), strict=True)
                    )
                    room.turns.told(round(requests * all_of), round(waiting * all_of))
                else:
                    room.turns.untold()
                self._call_next(room)
        finally:
            room.looks = None

    def _drop(self, name: str) -> None:
        room = self._rooms.pop(name)
        if room.looks is not None:
            room.looks.cancel()


def _fail(turn: Turn, error: BaseException) -> None:
    if turn.done is not None and not turn.done.done():
        turn.done.set_exception(error)
