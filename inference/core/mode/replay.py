"""Requests played on engines: who is sent where, when prompts are read, handed over and answered."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Callable, Sequence
from typing import Protocol

from inference.core.mode.batching import BatchingEngine, Job
from inference.core.performance.serving import TRANSFER_BYTES_PER_SECOND

_IN_FLIGHT_TOKENS = 512
"""What a request in flight counts for, in tokens of prompt, as in the gateway's routing."""


class Routing(Protocol):
    """Which engine gets a request. Every method is called in the order of time."""

    def choose(self, engines: Sequence[BatchingEngine], job: Job, now_seconds: float) -> BatchingEngine:
        """One of these engines, of which there is at least one."""
        ...

    def read(self, job: Job, engine: BatchingEngine) -> None:
        """Its prompt is read."""
        ...

    def left(self, job: Job, engine: BatchingEngine) -> None:
        """It has left this engine."""
        ...


class LeastWork:
    """Implements ``Routing``: the engine with the fewest tokens to read; requests in flight count as such."""

    def choose(self, engines: Sequence[BatchingEngine], job: Job, now_seconds: float) -> BatchingEngine:
        return min(
            engines, key=lambda one: (one.unread_tokens + _IN_FLIGHT_TOKENS * one.in_flight, one.number)
        )

    def read(self, job: Job, engine: BatchingEngine) -> None:
        """Engines count themselves."""

    def left(self, job: Job, engine: BatchingEngine) -> None:
        """Engines count themselves."""


class Replay:
    """Plays arrivals on engines. ``on_done`` is told of each answer when it is complete. Prompts under
    ``min_prompt_tokens`` are read by the engine that answers."""

    def __init__(
        self,
        engines: Sequence[BatchingEngine],
        routing: Routing,
        on_done: Callable[[Job], None],
        min_prompt_tokens: int = 0,
    ) -> None:
        self.engines = list(engines)
        self.min_prompt_tokens = min_prompt_tokens
        self._routing, self._on_done = routing, on_done
        self._events: list[tuple[float, int, BatchingEngine, int, Job | None, BatchingEngine | None]] = []
        self._count = 0
        self._link_free: dict[int, float] = {}

    def until(self, at_seconds: float) -> None:
        """All that happens up to this time."""
        while self._events and self._events[0][0] <= at_seconds:
            now, _, engine, version, job, reader = heapq.heappop(self._events)
            if job is not None:
                if reader is not None:
                    reader.release(job)
                    self._wake(reader, now)
                self._take(engine, job, now)
            elif version == engine.version:
                self._passed(engine, now)

    def arrive(self, job: Job) -> None:
        """A request, at its time; call ``until`` before."""
        readers = [one for one in self.engines if one.role == "prefill"]
        others = [one for one in self.engines if one.role != "prefill"] or self.engines
        if readers and others is not self.engines and job.prompt_tokens >= self.min_prompt_tokens:
            job.handed_over = True
            candidates = readers
        else:
            candidates = others
        self._take(self._routing.choose(candidates, job, job.at_seconds), job, job.at_seconds)

    def resume(self, job: Job, now_seconds: float) -> None:
        """A request whose prompt is read already and of whose answer some is written: what is left of it."""
        writers = [one for one in self.engines if one.role != "prefill"] or self.engines
        self._take(self._routing.choose(writers, job, now_seconds), job, now_seconds)

    def assign(self, roles: Sequence[str], min_prompt_tokens: int) -> None:
        """Other roles for the same engines: what each has begun it ends."""
        self.min_prompt_tokens = min_prompt_tokens
        for engine, role in zip(self.engines, roles, strict=True):
            engine.role = role

    def copied(self, on_done: Callable[[Job], None]) -> Replay:
        """The same state once more, which goes its own way from here; times of passes are shared."""
        known = {id(one.times): one.times for one in self.engines}
        made = Replay([], self._routing, on_done, self.min_prompt_tokens)
        made.engines, made._events, made._link_free = copy.deepcopy(
            (self.engines, self._events, self._link_free), known
        )
        made._count = self._count
        return made

    def _take(self, engine: BatchingEngine, job: Job, now: float) -> None:
        engine.take(job)
        self._wake(engine, now)

    def _wake(self, engine: BatchingEngine, now: float) -> None:
        end = engine.begin(now) if engine.is_idle else engine.interrupt(now)
        if end is not None:
            self._push(end, engine, engine.version)

    def _passed(self, engine: BatchingEngine, now: float) -> None:
        read, done = engine.end(now)
        for job in read:
            self._routing.read(job, engine)
            if job.handed_over:
                self._hand_over(job, engine, now)
        for job in done:
            self._routing.left(job, engine)
            self._on_done(job)
        self._wake(engine, now)

    def _hand_over(self, job: Job, reader: BatchingEngine, now: float) -> None:
        """The prompt's cache goes over the reader's link, one after the other."""
        if reader.role != "prefill":
            return
        self._routing.left(job, reader)
        writers = [one for one in self.engines if one.role == "decode"] or self.engines
        writer = self._routing.choose(writers, job, now)
        rate = TRANSFER_BYTES_PER_SECOND
        begins = max(now, self._link_free.get(reader.number, 0.0))
        arrives = begins + reader.times.transfer_seconds(job.prompt_tokens, rate)
        self._link_free[reader.number] = arrives
        self._push(arrives, writer, 0, job, reader)

    def _push(
        self,
        at: float,
        engine: BatchingEngine,
        version: int,
        job: Job | None = None,
        reader: BatchingEngine | None = None,
    ) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, engine, version, job, reader))
