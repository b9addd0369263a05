"""Requests that name a Route: one candidate after the other, until one answers or none is left.

Each candidate is asked with a bill of its own. What failed before its first byte costs nothing, unless it
told what it had used; when the first byte is on its way, nobody else is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from common.clock import Clock
from common.data_class import DataClass, highest
from common.doors import RouteDoor
from common.errors import (
    NO_ROOM,
    BudgetSpent,
    ComputilityError,
    ContextExceeded,
    EngineFailed,
    Forbidden,
    InvalidInput,
    NotAwake,
    TooManyRequests,
    Unavailable,
)
from common.telemetry import get_logger
from common.wire import Route
from inference.core.body import check_context
from inference.core.one_door.asked import Asked, asked_of, class_in, class_said
from inference.core.one_door.checks import check_of
from inference.core.one_door.choose import ON_DATA, Candidate, Decision, Refused, decide
from inference.core.one_door.telling import Way
from inference.core.usage import TokenCounts
from inference.gateway.books.bill import Job
from inference.gateway.control_link.demand import DemandTeller
from inference.gateway.control_link.routes import RouteFollower
from inference.gateway.control_link.table import places_of
from inference.gateway.engines.upstream import NoEngine
from inference.gateway.engines.variants import VARIANT_HEADER
from inference.gateway.limits.limiter import Limited, Limiter, Taken
from inference.gateway.one_door.candidates import alone, decide_for
from inference.gateway.one_door.passage import AnswerFailed, Passage
from inference.gateway.turns import BUSY

ROUTE_HEADER = b"x-computility-route"
CLASS_HEADER = b"x-computility-data-class"
NOT_ALLOWED = "data_class_not_allowed"
NO_CANDIDATE = "no_candidate"
_CLIENTS_OWN = frozenset({"api", "tools", "vision", "context", "length", "tags", "classes"})
"""Reasons that another request would not meet."""
_log = get_logger("gateway.one_door")

Serve = Callable[[Job], Awaitable[None]]
"""Asks the model of a job and gives its answer out. Raises what the client is to be told, where nothing was
given out yet."""


class Doors:
    """``hold`` holds of hard budgets what a job may cost at its model, ``serve`` asks that. ``secret`` is the
    same in all gateways, so that they agree on who stays with which candidate."""

    def __init__(
        self,
        routes: RouteFollower,
        limiter: Limiter,
        demand: DemandTeller,
        clock: Clock,
        secret: str,
        hold: Serve,
        serve: Serve,
    ) -> None:
        self._routes, self._limiter, self._demand = routes, limiter, demand
        self._clock = clock
        self._secret = secret.encode()
        self._hold, self._serve = hold, serve

    async def serve(self, job: Job) -> None:
        """Answer the request. Raises ``Forbidden`` where its data may not go where it would."""
        data_class, regions = self._bounds(job)
        asked = asked_of(job.request, data_class, regions)
        door = job.route.door
        if door is None:
            decision = decide(asked, [alone(job.route)], {job.route.model: 0.5}, 0)
            if decision.refused:
                raise _nobody(job.request.model, asked, decision.refused)
            passage = Passage(job.route.model, Way(""), data_class, regions)
            await self._attempt(job, job.route, passage, None)
            return
        index, unit = self._routes.index, _unit(job, door)
        decision = decide_for(index, door, asked, job.tenant, self._clock.now_ms(), self._secret, unit)
        if not decision.asked:
            raise _nobody(job.request.model, asked, decision.refused)
        await self._go_through(job, door, decision, asked)

    async def _go_through(self, job: Job, door: RouteDoor, decision: Decision, asked: Asked) -> None:
        way = Way(job.route.model, decision.refused)
        kept, model = None, ""
        error: ComputilityError | None = None
        asleep: Candidate | None = None
        for at, candidate in enumerate(decision.asked):
            is_last = at == len(decision.asked) - 1
            passage = self._passage(job, door, way, asked, is_last and asleep is None)
            if not is_last and job.line is None:  # a line of a batch has one bill
                passage.check = check_of(door.checks, job.request)
            try:
                error = await self._tried(job, door, candidate, passage, is_last)
            except InvalidInput:  # this one finds the request wrong: who has answered did not
                if kept is None or job.exchange.started:
                    raise
                break
            if error is None:
                return
            if isinstance(error, AnswerFailed):
                kept, model = error, candidate.model
            elif way.tried[-1][1] not in door.falls_back_on:
                break
            elif way.tried[-1][1] == "no_engine" and asleep is None:
                asleep = candidate
        if kept is not None:  # nobody did better: the client gets what was made, and is billed
            job.exchange.head[ROUTE_HEADER] = way.header(model)
            await job.exchange.respond(200, kept.content, b"application/json")
            return
        assert error is not None
        if asleep is not None and way.tried[-1][1] in door.falls_back_on and self._wakes(door, asleep):
            again = await self._tried(job, door, asleep, self._passage(job, door, way, asked, True), True)
            if again is None:
                return
        raise _with_refusals(error, decision.refused)

    def _passage(self, job: Job, door: RouteDoor, way: Way, asked: Asked, waits: bool) -> Passage:
        waits = waits or "no_engine" not in door.falls_back_on
        return Passage(job.route.model, way, asked.data_class, asked.regions, waits)

    async def _tried(
        self, job: Job, door: RouteDoor, candidate: Candidate, passage: Passage, is_last: bool
    ) -> ComputilityError | None:
        """None when the candidate has answered, or begun to; else why it has not. Raises what no other
        candidate can mend."""
        route = self._route_of(door, candidate.model)
        if route is None:
            error: ComputilityError = Unavailable(f"{candidate.model} is not served any more; send it again")
        else:
            try:
                await self._attempt(job, route, passage, None if is_last else door.deadline_ms)
                return None
            except ComputilityError as failure:
                error = failure
        fault = fault_of(error)
        if fault is None or job.exchange.started:
            raise error
        if fault == "no_engine" and route is not None:
            self._demand.ask(route)
        passage.way.tried.append((candidate.model, fault))
        _log.info("a candidate did not answer", route=door.name, model=candidate.model, why=fault)
        return error

    async def _attempt(self, job: Job, route: Route, passage: Passage, deadline_ms: int | None) -> None:
        """Ask one model, with what it is limited by, and settle that. Raises as ``Serve`` does."""
        found = replace(job, route=route, request=replace(job.request, model=route.model), passage=passage)
        exchange, ticket = job.exchange, job.ticket
        exchange.on_end = None
        exchange.head.pop(VARIANT_HEADER, None)
        exchange.head[ROUTE_HEADER] = passage.way.header(route.model)
        exchange.model = route.model
        before, ticket.counts = ticket.counts, TokenCounts()
        taken: list[Taken] = []
        try:
            check_context(found.request, route.context_tokens)
            ticket.places = places_of((job.tenant, job.project), route)
            if route.limits is not None:
                whose = [Limited("model", route.limited_as, route.model, route.limits)]
                taken = self._limiter.admit(whose, found.request, exchange.head)
            await self._hold(found)
            await self._within(found, passage, deadline_ms)
        finally:
            spent = ticket.counts
            ticket.counts = _sum(before, spent)
            try:
                if taken:
                    self._limiter.release(taken, spent.prompt + spent.completion)
            finally:
                ticket.give_back(spent)

    async def _within(self, job: Job, passage: Passage, deadline_ms: int | None) -> None:
        try:
            async with asyncio.timeout(None if deadline_ms is None else deadline_ms / 1000) as limit:
                passage.limit = limit
                await self._serve(job)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlinePassed(f"{job.route.model} did not begin to answer in {deadline_ms} ms") from error
        finally:
            passage.limit = None

    def _bounds(self, job: Job) -> tuple[DataClass, frozenset[str] | None]:
        """What binds its data: the highest class that anybody told, and the regions that all allow. Raises
        ``InvalidInput`` where the request names a class that is none."""
        key, project = job.ticket.key.data, self._routes.index.data.get(job.project)
        bound = [one for one in (key, project) if one is not None]
        header, told = CLASS_HEADER.decode(), (v for name, v in job.exchange.pairs if name == CLASS_HEADER)
        said = [class_said(one, header) for value in told for one in value.decode("latin-1").split(",")]
        said.append(class_in(job.request))
        regions = [frozenset(one.regions) for one in bound if one.regions is not None]
        allowed = frozenset.intersection(*regions) if regions else None
        return highest(*(one.data_class for one in bound), *said), allowed

    def _route_of(self, door: RouteDoor, model: str) -> Route | None:
        project = next(one.project for one in door.candidates if one.model == model)
        return self._routes.index.candidate(project, model)

    def _wakes(self, door: RouteDoor, candidate: Candidate) -> bool:
        route = self._route_of(door, candidate.model)
        return route is not None and bool(route.elastic)


class DeadlinePassed(EngineFailed):
    """A candidate took too long to begin its answer."""


def fault_of(error: ComputilityError) -> str | None:
    """Why a candidate did not answer, in a word that a Route's ``fallbackOn`` may have; None for what no
    other candidate would mend."""
    if isinstance(error, AnswerFailed):
        return error.why
    if error.code == NO_ROOM:
        return None
    if isinstance(error, BudgetSpent):
        return "budget"
    if isinstance(error, TooManyRequests) or (isinstance(error, NotAwake) and error.code == BUSY):
        return "overload"
    if isinstance(error, NoEngine | NotAwake):
        return "no_engine"
    if isinstance(error, DeadlinePassed):
        return "deadline"
    if isinstance(error, ContextExceeded):
        return "context"
    return "error" if isinstance(error, Unavailable) else None


def _unit(job: Job, door: RouteDoor) -> str:
    """What stays with one candidate."""
    if door.sticky_by == "session" and job.request.session:
        return f"session {job.tenant} {job.request.session}"
    if door.sticky_by == "none":
        return f"request {job.exchange.request_id} {job.started_ms} {id(job)}"
    return f"key {job.ticket.key.digest}"


def _nobody(model: str, asked: Asked, refused: Sequence[Refused]) -> ComputilityError:
    """Why no candidate may be asked: what protects data comes first."""
    told = "; ".join(f"{one.model}: {one.words}" for one in refused)
    if any(one.reason in ON_DATA for one in refused):
        return Forbidden(
            f"this request holds {asked.data_class} data, and no model of {model} may get it ({told})",
            code=NOT_ALLOWED,
        )
    message = f"no model of {model} takes this request ({told})"
    if all(one.reason in _CLIENTS_OWN for one in refused):
        return InvalidInput(message, code=NO_CANDIDATE)
    return Unavailable(message, code=NO_CANDIDATE)


def _with_refusals(error: ComputilityError, refused: Sequence[Refused]) -> ComputilityError:
    """The error, which says too who was not asked for the sake of the data."""
    kept = [f"{one.model}: {one.words}" for one in refused if one.reason in ON_DATA]
    if kept:
        error.message = f"{error.message}; nobody else may get these data ({'; '.join(kept)})"
    return error


def _sum(one: TokenCounts, other: TokenCounts) -> TokenCounts:
    return TokenCounts(
        one.prompt + other.prompt, one.cached + other.cached, one.completion + other.completion
    )
