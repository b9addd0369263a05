"""Requests that wait for an engine, where an Endpoint gets one when somebody asks: so many, so long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from common.clock import Clock
from common.errors import NotAwake, TooManyRequests
from common.settings import GatewaySettings
from common.telemetry import get_logger
from common.wire import Route
from inference.gateway import metrics
from inference.gateway.books.bill import Job
from inference.gateway.control_link.demand import DemandTeller, Held
from inference.gateway.control_link.routes import RouteFollower
from inference.gateway.control_link.table import payer_of
from inference.gateway.engines.upstream import ClientWatch

RETRY_SECONDS = 1.0
"""Engines that are there but took nothing are asked again after so long."""
RETRY_AFTER_SECONDS = 30
"""What a client is told that could not wait, or has waited in vain."""
ENDING_SECONDS = 1
"""The same where the gateway ends: another one takes it at once."""
WAKING = "engine_waking"
_NOT_COMING = (
    "cannot be started as it is, or wakes for nobody any more; its owner sees why with `computility get`"
)
_log = get_logger("gateway.waking")


@dataclass
class _Crowd:
    """Those who wait for one Endpoint, or of one tenant."""

    requests: int = 0
    body_bytes: int = 0


@dataclass(frozen=True)
class Place:
    """In which a request may wait until a time of the monotonic clock."""

    until_seconds: float
    held: Held


class WaitingRoom:
    """All requests of this gateway that wait for an engine."""

    def __init__(
        self, settings: GatewaySettings, routes: RouteFollower, demand: DemandTeller, clock: Clock
    ) -> None:
        self._settings, self._routes, self._demand, self._clock = settings, routes, demand, clock
        self._endpoints: dict[str, _Crowd] = {}
        self._tenants: dict[str, _Crowd] = {}
        self._changed = asyncio.Event()
        self._ends = False

    def end(self) -> None:
        """Nobody waits here any more: the gateway is about to end, and others are there or will be."""
        self._ends = True
        self.routes_changed()

    def routes_changed(self) -> None:
        """There is another table: perhaps with an engine."""
        self._changed.set()
        self._changed = asyncio.Event()

    @contextmanager
    def place(self, job: Job) -> Iterator[Place]:
        """A place in the room.

        Raises ``TooManyRequests`` where the tenant has too many that wait, ``NotAwake`` where too many wait
        for the Endpoint.
        """
        endpoint, size = job.route.elastic[0], job.ticket.body_bytes
        crowds = (_of(self._endpoints, endpoint), _of(self._tenants, job.tenant))
        try:
            try:
                self._check(job.route, *crowds, size)
            except (TooManyRequests, NotAwake):
                metrics.WOKEN.labels("refused").inc()
                self._demand.ask(job.route)
                raise
            for crowd in crowds:
                crowd.requests += 1
                crowd.body_bytes += size
            metrics.WAKING.inc()
            try:
                with self._demand.holding(job.route) as held:
                    now_seconds = self._clock.monotonic_seconds()
                    yield Place(now_seconds + self._settings.waking_timeout_seconds, held)
            finally:
                metrics.WAKING.dec()
                for crowd in crowds:
                    crowd.requests -= 1
                    crowd.body_bytes -= size
        finally:
            _tidy(self._endpoints, endpoint)
            _tidy(self._tenants, job.tenant)

    def _check(self, route: Route, endpoint: _Crowd, tenant: _Crowd, size: int) -> None:
        settings = self._settings
        if (
            tenant.requests >= settings.waking_requests_per_tenant
            or tenant.body_bytes + size > settings.waking_body_bytes_per_tenant
        ):
            raise TooManyRequests(
                f"{tenant.requests} requests of this tenant, of {tenant.body_bytes} bytes, wait for engines "
                f"to wake, and no more may; send it again in {RETRY_AFTER_SECONDS} s, and fewer at once "
                "until an engine answers",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        if (
            endpoint.requests >= settings.waking_requests_per_endpoint
            or endpoint.body_bytes + size > settings.waking_body_bytes_per_endpoint
        ):
            raise NotAwake(
                f"an engine of {route.model} is waking, and no more requests may wait for it; send it again "
                f"in {RETRY_AFTER_SECONDS} s",
                code=WAKING,
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )

    async def next_route(self, job: Job, watch: ClientWatch, place: Place) -> Route | None:
        """The route once it has engines (again), or a while later where it has; None when the client has
        gone. Raises ``NotAwake`` when that takes too long, no engine is going to come, or the gateway is to
        end."""
        rested = not self._find(job).replicas
        while not watch.gone:
            if self._ends:
                raise _in_vain(job, "is not there yet, and this gateway ends; send it again", ENDING_SECONDS)
            route, left_seconds = self._find(job), self._left(place.until_seconds)
            if left_seconds <= 0:
                metrics.WOKEN.labels("timeout").inc()
                waited = f"{self._settings.waking_timeout_seconds:g} s"
                raise _in_vain(job, f"did not come up within {waited}; `computility explain` says why")
            if route.replicas and rested:
                return route
            if not route.replicas and not route.elastic:
                raise _in_vain(job, _NOT_COMING)
            self._demand.hold(place.held, route)
            await self._pause(watch, min(left_seconds, RETRY_SECONDS) if route.replicas else left_seconds)
            rested = True
        metrics.WOKEN.labels("left").inc()
        return None

    def _find(self, job: Job) -> Route:
        """The route of today's table, which has to be the same thing for the same payer; the key is judged
        again. Raises ``Unauthenticated``, ``NotFound``, ``Paused``."""
        index = self._routes.index
        principal = index.in_force(job.ticket.key.digest, self._clock.now_ms()).principal
        pause = index.pause(*job.ticket.places)
        if pause is not None:
            raise pause
        if job.passage is not None:
            again = index.candidate(job.route.project, job.route.model)
            if again is None:
                raise _in_vain(job, _NOT_COMING)
            return again
        route = index.find(principal, job.request.model)
        found = (route.project, route.backend_model, *payer_of(principal, route))
        if found != (job.route.project, job.route.backend_model, job.tenant, job.project):
            raise _in_vain(job, "was withdrawn, and another one has its name; send it again")
        return route

    def _left(self, until_seconds: float) -> float:
        """Never more than the whole wait, however the clock jumps."""
        return min(until_seconds - self._clock.monotonic_seconds(), self._settings.waking_timeout_seconds)

    async def _pause(self, watch: ClientWatch, seconds: float) -> None:
        """Until there is another table, the client has gone, or so long."""
        waits = [asyncio.create_task(self._changed.wait()), asyncio.create_task(watch.left.wait())]
        try:
            await asyncio.wait(waits, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _in_vain(job: Job, why: str, retry_after_seconds: int = RETRY_AFTER_SECONDS) -> NotAwake:
    _log.warning("a request waited in vain", model=job.route.model, why=why)
    return NotAwake(
        f"an engine of {job.route.model} {why}", code=WAKING, retry_after_seconds=retry_after_seconds
    )


def _of(crowds: dict[str, _Crowd], name: str) -> _Crowd:
    return crowds.setdefault(name, _Crowd())


def _tidy(crowds: dict[str, _Crowd], name: str) -> None:
    if name in crowds and not crowds[name].requests:
        del crowds[name]
