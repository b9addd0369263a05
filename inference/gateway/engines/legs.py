"""Who does what of a request: one engine all of it, or one its prompt and another its answer.

Whatever becomes of the first leg, the second one can do without: then it reads the prompt itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from common.errors import ComputilityError, EngineFailed, Unavailable
from common.records import record
from common.settings import GatewaySettings
from common.telemetry import get_logger
from common.wire import Route, RouteReplica
from inference.core.apis.wires import WIRES
from inference.core.body import engine_body, prefill_body
from inference.core.two_legs import giving_up, told_cache
from inference.core.usage import TokenCounts
from inference.gateway import metrics
from inference.gateway.books.bill import Job
from inference.gateway.engines.upstream import (
    MAX_FAILED_ENGINES,
    ClientWatch,
    EngineCall,
    OnComments,
    Upstream,
    drop_comments,
)
from inference.gateway.learning.thresholds import Learned, Thresholds

RELEASE_SECONDS = 5.0
"""Longest wait for a decode engine to have a cache given up; if it fails, the prefill engine frees it when
its lease ends (30 s)."""

Begin = Callable[[RouteReplica], None]
Kin = tuple[str, str]
"""An Endpoint, and the Model that an engine of it was started with."""
_log = get_logger("gateway.legs")


@record(frozen=True)
class Answering:
    """A call that is answered. ``cached``: tokens of the prompt that the engine which read it had already;
    None where the answering engine tells that itself. ``tells_tokens``: it was asked to. ``learned``: what is
    to be told how long it took, at the end of a stream."""

    call: EngineCall
    cached: int | None = None
    tells_tokens: bool = False
    learned: Learned | None = None

    def tell(self, job: Job, counts: TokenCounts) -> None:
        """The stream has ended, and counted so much."""
        if self.learned is not None:
            tokens, fetched = job.request.prompt_tokens_about, self.cached is not None
            self.learned.saw_answer(self.call, tokens, counts, fetched=fetched)


@dataclass(frozen=True)
class Sides:
    """The engines of a route, parted once for each state of it.

    ``prefill``: those with decode engines to hand caches to. ``decoders``: these, by kin. ``answering``: all
    that are there to answer; ``others``: those of prefill, which answer where no other lives. ``learner``:
    the Endpoint whose least length of a prompt is learned, ``min_prompt_tokens`` being where that begins.
    """

    route: Route
    prefill: Route | None
    decoders: dict[Kin, Route]
    answering: Route
    others: Route | None
    min_prompt_tokens: int = 0
    learner: str = ""

    @staticmethod
    def of(route: Route) -> Sides:
        """Those of a route."""
        readers = [replica for replica in route.replicas if replica.role == "prefill"]
        if not readers:
            return Sides(route, None, {}, route, None)
        answering = [replica for replica in route.replicas if replica.role != "prefill"]
        decoders: dict[Kin, list[RouteReplica]] = {}
        for replica in answering:
            if replica.role == "decode":
                decoders.setdefault(_kin(replica), []).append(replica)
        able = [replica for replica in readers if _kin(replica) in decoders]
        return Sides(
            route,
            _part(route, able) if able else None,
            {kin: _part(route, replicas) for kin, replicas in decoders.items()},
            _part(route, answering),
            _part(route, readers),
            min((replica.min_prompt_tokens for replica in able), default=0),
            _learner(able),
        )


@dataclass
class Handover:
    """A KV cache that a prefill engine keeps for a decode engine of its kin: given to one, once.
    ``waited_seconds``: until it was there."""

    reader: RouteReplica
    place: dict[str, Any]
    counts: TokenCounts
    waited_seconds: float = 0.0
    given_to: str = ""

    def fits(self, replica: RouteReplica) -> bool:
        """Whether the engine could fetch it."""
        return replica.role == "decode" and _kin(replica) == _kin(self.reader)


class Legs:
    """Conducts the legs of requests."""

    def __init__(self, upstream: Upstream, settings: GatewaySettings) -> None:
        self._upstream = upstream
        self._prefill_seconds = settings.prefill_timeout_seconds
        self._continues = settings.continuations_per_stream > 0
        self._most_bytes = settings.continuation_bytes_per_stream
        self._sides: dict[int, Sides] = {}
        self.thresholds = Thresholds()
        self._releases: set[asyncio.Task[None]] = set()

    def routes_changed(self, routes: Iterable[Route] = ()) -> None:
        """Forget the routes of the former table: it is as large as the pool, and a new one comes often."""
        self._sides = {}
        self.thresholds.keep_only({replica.endpoint for route in routes for replica in route.replicas})

    async def close(self) -> None:
        """What is being given up is given up in time, or by the engines when its lease ends."""
        await asyncio.gather(*self._releases, return_exceptions=True)

    async def call(
        self, job: Job, watch: ClientWatch, begin: Begin, on_comments: OnComments = drop_comments
    ) -> Answering:
        """As ``Upstream.call``, with a prefill engine before it where there is one and it pays."""
        sides = self._sides_of(job.route)
        learned = self._learned(job, sides)
        cache = (
            await self._read_prompt(job, sides, learned, watch, begin) if sides.others is not None else None
        )
        # A prompt that broke engines while it was read is tried on one more at least: it may be their fault.
        watch.broken = min(watch.broken, MAX_FAILED_ENGINES - 1)

        tokens = self._may_be_continued(job)

        def body(replica: RouteReplica) -> bytes:
            place = self._hand_over(cache, replica, sides) if cache is not None else None
            return engine_body(job.request, job.route.backend_model, job.tenant, place, tokens, watch.id)

        if watch.trace is not None:
            watch.trace.begin("whole" if sides.others is None else "decode")
        rings = [sides.answering]
        if cache is not None:
            rings.insert(0, sides.decoders[_kin(cache.reader)])
        if sides.others is not None:
            rings.append(sides.others)
        try:
            call = await self._answered(job, rings, body, watch, begin, on_comments, set())
        finally:
            if cache is not None and not cache.given_to:
                self._release(cache, sides.decoders[_kin(cache.reader)].replicas)
        read_elsewhere = cache is not None and cache.given_to == call.replica.url
        cached = cache.counts.cached if cache is not None and read_elsewhere else None
        # What is answered by no decode engine, or after a cache went astray, says nothing of either way.
        if call.replica.role != "decode" or (cache is not None and not read_elsewhere):
            learned = None
        return Answering(call, cached, tokens, learned)

    async def go_on(
        self, job: Job, watch: ClientWatch, body: bytes, begin: Begin, tried: set[str]
    ) -> EngineCall:
        """The call of an engine that goes on with an answer: one of those that answer, or of prefill, reads
        what was made already. As ``Upstream.call``."""
        sides = self._sides_of(job.route)
        if watch.trace is not None:
            watch.trace.begin("whole" if sides.others is None else "decode", "continuation")
        rings = [sides.answering] if sides.others is None else [sides.answering, sides.others]
        return await self._answered(job, rings, lambda _: body, watch, begin, drop_comments, tried)

    def _may_be_continued(self, job: Job) -> bool:
        """Whether engines are to tell the tokens: there is another one to go on with them."""
        request = job.request
        if request.continuable is None or not self._continues or len(request.rest) > self._most_bytes:
            return False
        return len(job.route.replicas) > 1

    async def _answered(
        self,
        job: Job,
        rings: list[Route],
        body: Callable[[RouteReplica], bytes],
        watch: ClientWatch,
        begin: Begin,
        on_comments: OnComments,
        tried: set[str],
    ) -> EngineCall:
        """The answer of the first ring of engines that has one. Raises what most says why none has."""
        error: ComputilityError | None = None
        for ring in rings:
            try:
                return await self._upstream.call(
                    ring, job.request, job.tenant, body, watch, begin, on_comments, tried
                )
            except (EngineFailed, Unavailable) as failure:
                error = failure if error is None or isinstance(failure, EngineFailed) else error
                if watch.gone or watch.broken >= MAX_FAILED_ENGINES:
                    break
        assert error is not None
        raise error

    def _learned(self, job: Job, sides: Sides) -> Learned | None:
        """What is asked how long a prompt has to be; None where the Endpoint says it, or nothing is asked."""
        if not sides.learner or job.request.one_leg:
            return None
        return self.thresholds.of(sides.learner, sides.min_prompt_tokens, job.route.base_model)

    async def _read_prompt(
        self, job: Job, sides: Sides, learned: Learned | None, watch: ClientWatch, begin: Begin
    ) -> Handover | None:
        """The cache of the prompt, kept by a prefill engine; None: the answering engine is to read it."""
        how, cache = self._why_not(job, sides, learned), None
        if not how and sides.prefill is not None:
            found = await self._first_leg(job, sides.prefill, watch, begin)
            how, cache = ("handed_over", found) if isinstance(found, Handover) else (found, None)
            if learned is not None and cache is not None:
                learned.saw_leg(cache.waited_seconds, job.request.prompt_tokens_about, cache.counts)
        metrics.LEGS.labels(metrics.MODELS.of(job.route.model), how).inc()
        if watch.trace is not None:
            watch.trace.first_leg(how)
        return cache

    @staticmethod
    def _why_not(job: Job, sides: Sides, learned: Learned | None) -> str:
        if job.request.one_leg:
            return job.request.one_leg
        if sides.prefill is None:
            return "no_pair"
        tokens = job.request.prompt_tokens_about
        if learned is None:
            return "short" if tokens < sides.min_prompt_tokens else ""
        return learned.why_not(tokens)

    async def _first_leg(self, job: Job, readers: Route, watch: ClientWatch, begin: Begin) -> Handover | str:
        """The cache, or why there is none: ``failed``, or ``refused`` where the request is at fault."""
        content = prefill_body(job.request, job.route.backend_model, job.tenant)
        request = replace(job.request, stream=False)
        if watch.trace is not None:
            watch.trace.begin("prefill")
        try:
            async with asyncio.timeout(self._prefill_seconds):
                call = await self._upstream.call(
                    readers, request, job.tenant, lambda _: content, watch, begin
                )
        except TimeoutError:
            _log.warning("a prompt was not read in time", model=job.route.model)
            if watch.call is not None:
                self._upstream.rest(watch.call.replica)
            return "failed"
        except ComputilityError as error:
            if watch.gone:
                raise
            _log.debug("no prefill engine read a prompt", model=job.route.model, error=error.message)
            return "failed" if isinstance(error, EngineFailed | Unavailable) else "refused"
        finally:
            job.ticket.drop_answer()  # nobody is given what the first leg answers
        call.close()
        place, usage = told_cache(call.answer.content), call.answer.usage
        if place is None:
            return "failed"
        counts = usage.counts if usage is not None else TokenCounts()
        return Handover(call.replica, place, counts, call.waited_seconds)

    def _hand_over(self, cache: Handover, replica: RouteReplica, sides: Sides) -> dict[str, Any] | None:
        """The place of the cache for the first engine that can fetch it; whoever comes after it reads the
        prompt again, since nobody knows how far the first one came."""
        if cache.given_to:
            self._release(cache, (replica, *sides.decoders[_kin(cache.reader)].replicas))
            return None
        if not cache.fits(replica):
            return None
        cache.given_to = replica.url
        return cache.place

    def _release(self, cache: Handover, replicas: tuple[RouteReplica, ...]) -> None:
        """Have the cache given up by an engine that could have fetched it. One that was fetched is gone."""
        for replica in replicas:
            if cache.fits(replica):
                task = asyncio.create_task(self._give_up(replica, giving_up(cache.place)))
                self._releases.add(task)
                task.add_done_callback(self._releases.discard)
                return

    async def _give_up(self, replica: RouteReplica, body: bytes) -> None:
        path = WIRES["completions"].engine_path
        if not await self._upstream.tell(replica, path, body, RELEASE_SECONDS):
            _log.warning("a KV cache is kept until its lease ends", replica=replica.id)

    def _sides_of(self, route: Route) -> Sides:
        known = self._sides.get(id(route))
        if known is None or known.route is not route:
            known = self._sides[id(route)] = Sides.of(route)
        return known


def _learner(readers: list[RouteReplica]) -> str:
    """The Endpoint of all of them, if it leaves it to the gateway which prompts they read."""
    endpoints = {replica.endpoint for replica in readers if replica.learns_min_prompt}
    is_one = len(endpoints) == 1 and all(replica.learns_min_prompt for replica in readers)
    return endpoints.pop() if is_one else ""


def _kin(replica: RouteReplica) -> Kin:
    """Engines of one Endpoint that were started with one Model: while its Model is changed, an Endpoint has
    engines of both for a while, and no cache of one is an answer's of the other."""
    return replica.endpoint, replica.model_identity


def _part(route: Route, replicas: list[RouteReplica]) -> Route:
    return route.model_copy(update={"replicas": tuple(replicas)})
