"""Engines with continuous batching, pass by pass: what a rehearsal and benchmarks are played on.

A pass adds a token to every sequence that is being written, and reads as many tokens of waiting prompts as
the rest of its budget holds (chunked prefill), first come, first served. How long it takes is what the
performance model says. Passes between two events are leapt over together, so a minute of many engines costs
some milliseconds.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from inference.core.performance.memory import most_sequences
from inference.core.performance.serving import (
    DECODE_SLOWER,
    DISPATCH_MS_PER_LAYER,
    PREFILL_SLOWER,
    STEP_TOKENS,
)
from inference.core.performance.steps import Engine, StepTimes

MOST_SEQUENCES = 256
"""vLLM's ``--max-num-seqs`` where it is not set."""
_CONTEXT_GRAIN, _PROMPT_GRAIN, _CHUNK_GRAIN = 128, 128, 64


@dataclass(slots=True)
class Job:
    """A request on its way. ``unread``: tokens of the prompt that still have to be read.
    ``first_seconds``, ``last_seconds``: when its first and its last token came; negative = not yet.
    ``delay_seconds``: what its tokens take to come out of the engine."""

    number: int
    at_seconds: float
    prompt_tokens: int
    output_tokens: int
    unread: int
    first_seconds: float = -1.0
    last_seconds: float = -1.0
    handed_over: bool = False
    delay_seconds: float = 0.0

    def __deepcopy__(self, _: dict[int, Any]) -> Job:
        """As ``copy.deepcopy`` would make it, in a tenth of the time: a backlog has thousands."""
        return Job(
            *(self.number, self.at_seconds, self.prompt_tokens, self.output_tokens, self.unread),
            *(self.first_seconds, self.last_seconds, self.handed_over, self.delay_seconds),
        )

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens

    @property
    def ttft_ms(self) -> float:
        return 1e3 * (self.first_seconds - self.at_seconds)

    @property
    def itl_ms(self) -> float:
        """Mean time between two tokens; 0 of an answer of one."""
        return 1e3 * (self.last_seconds - self.first_seconds) / max(1, self.output_tokens - 1)


class PassTimes:
    """Passes of one kind of engine in seconds, remembered by rounded sizes."""

    def __init__(self, engine: Engine, steps: StepTimes) -> None:
        self.engine, self._steps = engine, steps
        self._decodes: dict[tuple[int, int], float] = {}
        self._mixed: dict[tuple[int, int, int, int], float] = {}
        self.dispatch_seconds = DISPATCH_MS_PER_LAYER * engine.shape.layers / 1e3
        self.kv_tokens = max(1, most_sequences(engine, 1)) * engine.layout.pipeline

    def decode(self, sequences: int, context_tokens: int) -> float:
        """``context_tokens``: of all sequences together."""
        mean = _rounded(context_tokens / sequences, _CONTEXT_GRAIN)
        known = self._decodes.get((sequences, mean))
        if known is None:
            known = self._decodes[sequences, mean] = self._steps.decode_ms(sequences, mean) / 1e3
        return known

    def reading(self, tokens: int, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        """Read so many tokens of prompts of a mean length, and write one of each sequence."""
        mean = _rounded(context_tokens / sequences, 2 * _CONTEXT_GRAIN) if sequences else 0
        key = _rounded(tokens, _CHUNK_GRAIN), _rounded(prompt_tokens, _PROMPT_GRAIN), sequences, mean
        known = self._mixed.get(key)
        if known is None:  # of the rounded sizes, so that it does not matter which pass of them came first
            known = self._mixed[key] = self._read_ms(*key) / 1e3
        return known

    def _read_ms(self, tokens: int, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        if sequences:
            return self._steps.mixed_ms(tokens, prompt_tokens, sequences, context_tokens)
        prompts = max(1, round(tokens / prompt_tokens))
        return self._steps.prefill_ms(prompts, prompt_tokens) * tokens / (prompts * prompt_tokens)

    def transfer_seconds(self, tokens: int, bytes_per_second: float) -> float:
        """To hand the KV cache of a prompt over."""
        layout = self.engine.layout
        moved = self.engine.shape.kv_bytes(tokens, layout.tensor) / layout.pipeline
        return moved / bytes_per_second


def _rounded(value: float, grain: int) -> int:
    """To the nearest multiple of ``grain``, small values to a finer one."""
    if value < 2 * grain:
        grain = max(1, grain // 16)
    return max(1, round(value / grain) * grain)


@dataclass(slots=True)
class _Stretch:
    """So many equal passes, from a time on. ``chunks``: what of which prompts the (one) pass reads."""

    start: float
    each: float
    passes: int
    chunks: list[tuple[Job, int]]

    @property
    def end(self) -> float:
        return self.start + self.each * self.passes


@dataclass
class BatchingEngine:
    """One engine. ``role``: empty, ``prefill`` or ``decode``; what it is sent follows from that, and how much
    slower its passes are than its kernels."""

    number: int
    times: PassTimes
    role: str = ""
    waiting: deque[Job] = field(default_factory=deque)
    reading: list[Job] = field(default_factory=list)
    writing: list[tuple[int, int, Job]] = field(default_factory=list)
    unread_tokens: int = 0
    in_flight: int = 0
    version: int = 0
    _stretch: _Stretch | None = None
    _passes: int = 0
    _context: int = 0
    _held: int = 0

    def take(self, job: Job) -> None:
        """A request arrives, or one whose prompt is read already."""
        self.waiting.append(job)
        self.unread_tokens += job.unread
        self.in_flight += 1

    def begin(self, now: float) -> float | None:
        """Begin the next passes; returns when they end, None where there is nothing to do."""
        fresh = self._admit()
        chunks, tokens = self._chunks()
        writing = len(self.writing)
        if not chunks and not writing:
            self._stretch = None
            return None
        if chunks:
            mean = sum(job.prompt_tokens * part for job, part in chunks) // tokens
            each, passes = self.times.reading(tokens, mean, writing, self._context), 1
        else:
            passes = self.writing[0][0] - self._passes
            each = self.times.decode(writing, self._context + writing * passes // 2)
        if self.role:
            each *= PREFILL_SLOWER if self.role == "prefill" else DECODE_SLOWER
        for job in fresh:
            job.first_seconds = now + each
        self._stretch = _Stretch(now, each, passes, chunks)
        self.version += 1
        return self._stretch.end

    def interrupt(self, now: float) -> float | None:
        """Somebody came: passes end with the one that is being made. Returns when, where that is sooner."""
        stretch = self._stretch
        if stretch is None or stretch.passes == 1:
            return None
        done = max(1, math.ceil((now - stretch.start) / stretch.each))
        if done >= stretch.passes:
            return None
        stretch.passes = done
        self.version += 1
        return stretch.end

    @property
    def is_idle(self) -> bool:
        return self._stretch is None

    def end(self, now: float) -> tuple[list[Job], list[Job]]:
        """The passes are over: which prompts have been read to their end, and which answers are complete."""
        stretch = self._stretch
        assert stretch is not None
        self._stretch = None
        self._passes += stretch.passes
        self._context += stretch.passes * len(self.writing)
        done = []
        while self.writing and self.writing[0][0] <= self._passes:
            job = heapq.heappop(self.writing)[2]
            self._context -= job.tokens
            job.last_seconds = now + job.delay_seconds
            done.append(job)
        read = []
        for job, part in stretch.chunks:
            job.unread -= part
            self.unread_tokens -= part
            if not job.unread:
                self.reading.remove(job)
                read.append(job)
        for job in read:
            if self.role != "prefill" or not job.handed_over:
                self._first_token(job, now, done)
        self._leave(done)
        return read, done

    def release(self, job: Job) -> None:
        """Its KV cache has been fetched by another engine."""
        self._held -= job.tokens
        self.in_flight -= 1

    def _first_token(self, job: Job, now: float, done: list[Job]) -> None:
        job.delay_seconds = self.times.dispatch_seconds
        job.first_seconds = now + job.delay_seconds
        if job.output_tokens == 1:
            job.last_seconds = job.first_seconds
            done.append(job)
        else:
            self._write(job, job.output_tokens - 1)

    def _write(self, job: Job, left: int) -> None:
        heapq.heappush(self.writing, (self._passes + left, job.number, job))
        self._context += job.tokens - left

    def _leave(self, done: list[Job]) -> None:
        for job in done:
            self._held -= job.tokens
            self.in_flight -= 1

    def _admit(self) -> list[Job]:
        """Take in what waits, as far as there is room; returns those whose answers only have to be written.

        A sequence that is larger than all memory gets in alone: an engine would refuse it."""
        fresh = []
        while self.waiting and len(self.writing) + len(self.reading) < MOST_SEQUENCES:
            job = self.waiting[0]
            if self._held and self._held + job.tokens > self.times.kv_tokens:
                break
            if job.unread and sum(one.unread for one in self.reading) >= STEP_TOKENS:
                break
            self.waiting.popleft()
            self._held += job.tokens
            if job.unread:
                self.reading.append(job)
            else:
                self._write(job, job.output_tokens)
                fresh.append(job)
        return fresh

    def _chunks(self) -> tuple[list[tuple[Job, int]], int]:
        budget = STEP_TOKENS - len(self.writing)
        chunks, tokens = [], 0
        for job in self.reading:
            part = min(job.unread, budget - tokens)
            if part <= 0:
                break
            chunks.append((job, part))
            tokens += part
        return chunks, tokens
