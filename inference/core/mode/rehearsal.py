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

    def rehearse(
        self,
        fleet: Fleet,
        requests: Sequence[ServedRequest],
        slo: Slo,
        load: float = 1.0,
    ) -> Rehearsal:
        """Play the requests, ``load`` times as fast as they came. Raises ``NotKnown``."""
        jobs: list[Job] = []
        replay = Replay(self.engines(fleet), LeastWork(), jobs.append, fleet.min_prompt_tokens)
        start = requests[0].started_seconds if requests else 0.0
        for number, one in enumerate(requests):
            at = (one.started_seconds - start) / load
            job = Job(number, at, one.prompt_tokens, one.output_tokens, max(1, unread_tokens(one)))
            replay.until(at)
            replay.arrive(job)
        replay.until(float("inf"))
        counted = [job for job in jobs if job.number >= int(WARM_UP_PART * len(requests))]
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


def unread_tokens(request: ServedRequest) -> int:
    """Of its prompt, what an engine had to read; the last token always."""
    return request.prompt_tokens - min(request.cached_tokens, request.prompt_tokens - 1)


def is_good(job: Job, slo: Slo) -> bool:
    """Whether it was within both limits."""
    in_time = slo.ttft_ms is None or job.ttft_ms <= slo.ttft_ms
    return in_time and (slo.itl_ms is None or job.itl_ms <= slo.itl_ms)
