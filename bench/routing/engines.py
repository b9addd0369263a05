"""Engines in a simulation: prompts are read one after the other, answers are written together."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.routing.trace import BLOCK_TOKENS, Request

Key = tuple[int, int]


@dataclass(frozen=True)
class EngineKind:
    """``read_tokens_per_second``: of a prompt, with nothing else to do. Each running answer slows reading by
    ``slowed_by``; a token of an answer takes ``token_seconds``, and ``token_seconds_each`` for each running.
    More than ``waiting`` requests that wait are refused. ``cache_tokens``: of the KV cache.
    """

    read_tokens_per_second: float = 2_500.0
    slowed_by: float = 1 / 64
    token_seconds: float = 0.02
    token_seconds_each: float = 0.0005
    running: int = 64
    waiting: int = 64
    cache_tokens: int = 400_000


@dataclass(slots=True)
class Engine:
    """One engine and its counters."""

    number: int
    kind: EngineKind
    queue: deque[Request] = field(default_factory=deque)
    reads: bool = False
    running: int = 0
    cache: dict[Key, None] = field(default_factory=dict)
    prompt_tokens: int = 0
    cached_tokens: int = 0

    def cached(self, request: Request) -> int:
        """Tokens of the prompt that need not be read; the last one always has to be."""
        hit = 0
        for block in request.blocks:
            if (request.tenant, block) not in self.cache:
                break
            hit += 1
        return min(hit * BLOCK_TOKENS, request.prompt_tokens - 1)

    def take_up(self, request: Request) -> float:
        """Seconds to read the prompt from now on."""
        cached = self.cached(request)
        self.prompt_tokens += request.prompt_tokens
        self.cached_tokens += cached
        pace = self.kind.read_tokens_per_second / (1 + self.kind.slowed_by * self.running)
        return (request.prompt_tokens - cached) / pace

    def keep(self, request: Request, answer: int) -> None:
        """The prompt is in the cache, and room for its answer is taken; the least used goes, ends first."""
        cache = self.cache
        written = [(-1 - answer, number) for number in range(-(-request.answer_tokens // BLOCK_TOKENS))]
        for key in (*written, *((request.tenant, block) for block in reversed(request.blocks))):
            cache.pop(key, None)
            cache[key] = None
        over = len(cache) - self.kind.cache_tokens // BLOCK_TOKENS
        if over > 0:
            for key in [key for key, _ in zip(cache, range(over), strict=False)]:
                del cache[key]

    def answer_seconds(self, request: Request) -> float:
        each = self.kind.token_seconds + self.kind.token_seconds_each * self.running
        return each * request.answer_tokens


class Policy:
    """What a router does. Every method is called in the order of time."""

    def see(self, engines: Sequence[Engine]) -> None:
        """Before the first request: what no router has, the engines themselves."""

    def choose(self, request: Request, now_seconds: float) -> int:
        """The number of an engine."""
        raise NotImplementedError

    def answering(self, request: Request, engine: int) -> None:
        """The first token is there."""

    def ended(self, request: Request, engine: int) -> None:
        """The last token is there, or the engine refused."""


@dataclass
class Outcome:
    """What a policy came to. ``ttft_seconds`` is of the requests that were not refused."""

    ttft_seconds: list[float] = field(default_factory=list)
    rejects: int = 0
    hit_rate: float = 0.0


def play(
    requests: Sequence[Request],
    policy: Policy,
    engines: int,
    kind: EngineKind,
    progress: Callable[[], None] = lambda: None,
) -> Outcome:
    """All requests, to the end of the last answer."""
    world = _World(policy, [Engine(number, kind) for number in range(engines)])
    policy.see(world.engines)
    for request in requests:
        world.until(request.at_seconds)
        world.arrive(request)
        progress()
    world.until(float("inf"))
    read = sum(engine.prompt_tokens for engine in world.engines)
    world.outcome.hit_rate = sum(engine.cached_tokens for engine in world.engines) / max(1, read)
    return world.outcome


class _World:
    def __init__(self, policy: Policy, engines: list[Engine]) -> None:
        self.policy, self.engines, self.outcome = policy, engines, Outcome()
        self._events: list[tuple[float, int, bool, Engine, Request]] = []
        self._count = 0

    def until(self, at_seconds: float) -> None:
        while self._events and self._events[0][0] <= at_seconds:
            now, _, read, engine, request = heapq.heappop(self._events)
            if read:
                self._first_token(now, engine, request)
            else:
                engine.running -= 1
                self.policy.ended(request, engine.number)
            self._next(now, engine)

    def arrive(self, request: Request) -> None:
        engine = self.engines[self.policy.choose(request, request.at_seconds)]
        if len(engine.queue) >= engine.kind.waiting:
            self.outcome.rejects += 1
            self.policy.ended(request, engine.number)
            return
        engine.queue.append(request)
        self._next(request.at_seconds, engine)

    def _first_token(self, now: float, engine: Engine, request: Request) -> None:
        engine.reads = False
        engine.running += 1
        self._count += 1
        engine.keep(request, self._count)
        self.outcome.ttft_seconds.append(now - request.at_seconds)
        self.policy.answering(request, engine.number)
        self._push(now + engine.answer_seconds(request), False, engine, request)

    def _next(self, now: float, engine: Engine) -> None:
        if engine.queue and not engine.reads and engine.running < engine.kind.running:
            request = engine.queue.popleft()
            engine.reads = True
            self._push(now + engine.take_up(request), True, engine, request)

    def _push(self, at: float, read: bool, engine: Engine, request: Request) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, read, engine, request))
