"""Copies of some requests to the engines of another Endpoint, once the answer to the client has begun.

Nobody waits for a copy and nobody is given its answer; whatever becomes of it is nothing of the client's. A
copy is sent to engines, not through the gateway, so that it is never copied again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from common.auth import Principal
from common.errors import BudgetSpent, ComputilityError, Unavailable
from common.ids import new_id
from common.settings import GatewaySettings
from common.telemetry import get_logger
from common.wire import Route, RouteShadow
from inference.core.body import copied_body
from inference.core.canary.split import side_of
from inference.core.usage import TokenCounts
from inference.gateway import metrics
from inference.gateway.books.bill import Bill, Books, Job
from inference.gateway.budgets.guard import Asking, BudgetGuard
from inference.gateway.control_link.routes import RouteFollower
from inference.gateway.engines.upstream import ClientWatch, Upstream

SHADOW_KEY = "shadow:"
"""Begins what stands for the key in the bill of a copy; no key has such a name."""
_SECRET = b"shadows"
_log = get_logger("gateway.shadows")


@dataclass
class _Load:
    requests: int = 0
    body_bytes: int = 0


class Shadows:
    """All copies that are under way: so many, of so many bytes at most; what is beyond is not made."""

    def __init__(
        self,
        settings: GatewaySettings,
        routes: RouteFollower,
        upstream: Upstream,
        books: Books,
        budgets: BudgetGuard,
    ) -> None:
        self._settings, self._upstream, self._books = settings, upstream, books
        self._routes, self._budgets = routes, budgets
        self._load = _Load()
        self._tasks: set[asyncio.Task[None]] = set()
        self._targets: dict[int, tuple[Route, Route]] = {}

    def routes_changed(self) -> None:
        """Forget the routes of the former table."""
        self._targets = {}

    async def close(self) -> None:
        """What is under way is given up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def copy(self, job: Job) -> None:
        """Begin a copy of a request, if it is one of those that are copied and there is room. Returns at
        once."""
        shadow = job.route.shadow
        if shadow is None or side_of(_SECRET, "", new_id("req"), shadow.percent) != "canary":
            return
        size = len(job.request.rest)
        if not shadow.replicas:
            _count(job, "absent")
        elif (
            self._load.requests >= self._settings.shadow_requests
            or self._load.body_bytes + size > self._settings.shadow_body_bytes
            or self._books.overdue
        ):
            _count(job, "dropped")
        else:
            self._load.requests += 1
            self._load.body_bytes += size
            task = asyncio.create_task(self._send(job, shadow, size))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, job: Job, shadow: RouteShadow, size: int) -> None:
        target = self._target(job.route, shadow)
        try:
            _count(job, await self._outcome(job, self._copied(job, shadow, target)))
        except Exception as error:  # noqa: BLE001 - the copy's boundary: its trouble is nobody's
            _log.warning("a copy of a request failed", model=target.model, error=type(error).__name__)
            _count(job, "failed")
        finally:
            self._load.requests -= 1
            self._load.body_bytes -= size

    async def _outcome(self, job: Job, copied: Job) -> str:
        """What became of the copy. One that does not fit into the hard budgets of who pays for it is not
        made."""
        whose = copied.tenant, copied.project, copied.principal.key
        try:
            held = await self._budgets.admit(
                self._routes.index, Asking(copied.request, copied.route, *whose, copied.started_ms)
            )
        except (BudgetSpent, Unavailable):
            return "dropped"
        billed = [TokenCounts()]
        try:
            return "answered" if await self._is_answered(job, copied, billed.append) else "failed"
        finally:
            if held is not None:
                held.settle(billed[-1])

    def _copied(self, job: Job, shadow: RouteShadow, target: Route) -> Job:
        """The request as the copy's: the Endpoint's project pays for it."""
        return replace(
            job,
            request=replace(job.request, stream=False),
            principal=Principal(f"{SHADOW_KEY}{shadow.source}", "agent"),
            route=target,
            tenant=target.tenant,
            project=target.project,
            started_ms=self._books.clock.now_ms(),
            trace=None,
        )

    async def _is_answered(self, job: Job, copied: Job, spent: Callable[[TokenCounts], None]) -> bool:
        """Whether an engine has answered; what it used is on the copy's bill. The cache of the engine is
        parted by the client's tenant, as ever."""
        target = copied.route
        content = copied_body(job.request, target.backend_model, job.tenant)
        watch = ClientWatch(job.exchange, job.ticket, None)  # never entered: no client is there to leave
        watch.hold = _keep_nothing
        with Bill(self._books, copied, spent) as bill:
            try:
                call = await self._upstream.call(
                    target, copied.request, job.tenant, lambda _: content, watch, bill.begin
                )
            except ComputilityError:
                return False
            call.close()
            usage = call.answer.usage
            if usage is None:
                return False
            await bill.settle(usage.counts, "completed")
        return True

    def _target(self, route: Route, shadow: RouteShadow) -> Route:
        """The route of copies, once for each state of the one that they are of."""
        known = self._targets.get(id(route))
        if known is None or known[0] is not route:
            made = Route(
                model=shadow.model,
                backend_model=shadow.model,
                base_model=shadow.model,
                project=route.project,
                tenant=route.tenant,
                context_tokens=shadow.context_tokens,
                replicas=shadow.replicas,
            )
            known = self._targets[id(route)] = route, made
        return known[1]


def _keep_nothing(_: int) -> bool:
    """An answer is read for what it tells to have used, and not kept."""
    return False


def _count(job: Job, outcome: str) -> None:
    metrics.SHADOW_REQUESTS.labels(metrics.MODELS.of(job.route.model), outcome).inc()
