"""What a fleet would make of the requests that came lately: they are played on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference.core.mode.batching import BatchingEngine, Job, PassTimes
from inference.core.mode.fleet import Fleet
from inference.core.mode.replay import LeastWork, Replay
from inference.core.mode.traffic import ServedRequest
from inference.core.performance.device_figures import Layout
from inference.core.performance.model_shape import ModelShape
from inference.core.performance.options import Slo
from inference.core.performance.steps import Engine, NotKnown, PerformanceSource
from inference.core.performance.supply import Supply

WARM_UP_PART = 0.5
"""Of the requests, the first, which find engines emptier than those that follow: they are played and not
counted. Queues that grow without end show late."""


@dataclass(frozen=True)
class Rehearsal:
    """``good``: part of the requests that were within both limits. Times are means, in milliseconds."""

    fleet: Fleet
    good: float
    ttft_ms: float
    itl_ms: float


@dataclass(frozen=True)
class Course:
    """What came last, as the engines that are there got it. ``begun``: requests that were on their way at
    ``from_seconds``, and how many tokens of each answer were left; ``since``: what came then."""

    begun: Sequence[tuple[ServedRequest, int]]
    since: Sequence[ServedRequest]
    from_seconds: float


@dataclass(frozen=True)
class Underway:
    """What the present engines are at, after so many ``seconds`` and requests (``played``)."""

    replay: Replay
    present: Fleet
    seconds: float
    played: int


class Stage:
    """The engines on which requests of one model are played. What passes take is remembered."""

    def __init__(self, shape: ModelShape, sources: Sequence[PerformanceSource]) -> None:
        """``sources``: the best first; the next is asked about an engine that one does not know."""
        self._shape, self._sources = shape, sources
        self._times: dict[tuple[str, Layout], PassTimes] = {}

    def times(self, supply: Supply, layout: Layout) -> PassTimes:
        """Passes of an engine. Raises ``NotKnown`` where no source has figures of it."""
        key = supply.device_class, layout
        known = self._times.get(key)
        if known is None:
            known = self._times[key] = self._found(Engine(self._shape, supply.figures, layout))
        return known

    def engines(self, fleet: Fleet) -> list[BatchingEngine]:
        """All engines of a fleet with their roles. Raises ``NotKnown``."""
        found: list[BatchingEngine] = []
        other = "decode" if fleet.readers else ""
        for group in fleet.groups:
            times = self.times(group.supply, group.layout)
            for place in range(group.engines):
                role = "prefill" if place < group.readers else other
                found.append(BatchingEngine(len(found), times, role))
        return found

    def underway(self, present: Fleet, course: Course) -> Underway:
        """What is on its way on the present engines at the end of a course. Raises ``NotKnown``."""
        replay = Replay(self.engines(present), LeastWork(), _unheard, present.min_prompt_tokens)
        for number, (one, left) in enumerate(course.begun):
            done = one.output_tokens - left
            replay.resume(Job(number, 0.0, one.prompt_tokens + done, left, 0), 0.0)
        at = 0.0
        for number, one in enumerate(course.since, len(course.begun)):
            at = one.started_seconds - course.from_seconds
            replay.until(at)
            replay.arrive(_job(number, at, one))
        return Underway(replay, present, at, len(course.begun) + len(course.since))

    def rehearse(
        self,
        fleet: Fleet,
        requests: Sequence[ServedRequest],
        slo: Slo,
        load: float = 1.0,
        after: Underway | None = None,
    ) -> Rehearsal:
        """Play the requests, ``load`` times as fast as they came. ``after``: what engines are at when they
        get these roles; others than those begin with nothing. Raises ``NotKnown``."""
        jobs: list[Job] = []
        begin, first = 0.0, 0
        if after is not None and fleet.engines_only == after.present.engines_only:
            replay, begin, first = after.replay.copied(jobs.append), after.seconds, after.played
            replay.assign([one.role for one in self.engines(fleet)], fleet.min_prompt_tokens)
        else:
            replay = Replay(self.engines(fleet), LeastWork(), jobs.append, fleet.min_prompt_tokens)
        start = requests[0].started_seconds if requests else 0.0
        for number, one in enumerate(requests, first):
            at = begin + (one.started_seconds - start) / load
            replay.until(at)
            replay.arrive(_job(number, at, one))
        replay.until(float("inf"))
        counted = [job for job in jobs if job.number >= first + int(WARM_UP_PART * len(requests))]
        if not counted:
            return Rehearsal(fleet, 1.0, 0.0, 0.0)
        good = sum(is_good(job, slo) for job in counted) / len(counted)
        ttft = sum(job.ttft_ms for job in counted) / len(counted)
        itl = sum(job.itl_ms for job in counted) / len(counted)
        return Rehearsal(fleet, good, ttft, itl)

    def _found(self, engine: Engine) -> PassTimes:
        why = "no source of figures"
        for source in self._sources:
            try:
                times = PassTimes(engine, source.steps(engine))
                times.decode(1, engine.shape.context_tokens or 1)
                times.reading(1, 1, 0, 0)
                return times
            except NotKnown as unknown:
                why = str(unknown)
        raise NotKnown(why)


def _job(number: int, at: float, request: ServedRequest) -> Job:
    unread = max(1, unread_tokens(request))
    return Job(number, at, request.prompt_tokens, request.output_tokens, unread)


def _unheard(_: Job) -> None:
    """Nobody waits for these."""


def unread_tokens(request: ServedRequest) -> int:
    """Of its prompt, what an engine had to read; the last token always."""
    return request.prompt_tokens - min(request.cached_tokens, request.prompt_tokens - 1)


def is_good(job: Job, slo: Slo) -> bool:
    """Whether it was within both limits."""
    in_time = slo.ttft_ms is None or job.ttft_ms <= slo.ttft_ms
    return in_time and (slo.itl_ms is None or job.itl_ms <= slo.itl_ms)
