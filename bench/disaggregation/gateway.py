"""The gateway's own router before simulated engines that have caches of prompts."""

from __future__ import annotations

from collections.abc import Sequence

from bench.routing.trace import BLOCK_TOKENS, Request
from inference.core.mode.batching import BatchingEngine, Job
from inference.core.routing.blocks import partition
from inference.core.routing.report import EngineReport
from inference.core.routing.router import Router, Sent
from inference.core.routing.views import Ask, Group

Key = tuple[int, int]


class PromptCache:
    """The prompts that an engine holds, in blocks; the least used goes, ends first."""

    def __init__(self, tokens: int) -> None:
        self._most = tokens // BLOCK_TOKENS
        self._kept: dict[Key, None] = {}

    def cached(self, request: Request) -> int:
        """Tokens that need not be read; the last one always has to be."""
        hit = 0
        for block in request.blocks:
            if (request.tenant, block) not in self._kept:
                break
            hit += 1
        return min(hit * BLOCK_TOKENS, request.prompt_tokens - 1)

    def keep(self, request: Request) -> None:
        for block in reversed(request.blocks):
            key = request.tenant, block
            self._kept.pop(key, None)
            self._kept[key] = None
        over = len(self._kept) - self._most
        if over > 0:
            for key in [key for key, _ in zip(self._kept, range(over), strict=False)]:
                del self._kept[key]


class GatewayRouting:
    """Implements ``Routing`` as the gateway routes: the prompt's beginning, what waits, what runs."""

    def __init__(self, requests: Sequence[Request], engines: Sequence[BatchingEngine]) -> None:
        self._requests, self._router = requests, Router()
        self._names = {engine.number: f"http://engine-{engine.number:04}" for engine in engines}
        self._numbers = {name: number for number, name in self._names.items()}
        self._caches = {engine.number: PromptCache(engine.times.kv_tokens) for engine in engines}
        self._groups: dict[tuple[int, ...], Group] = {}
        self._sent: dict[int, Sent] = {}
        self.cached_tokens: dict[int, int] = {}
        for engine in engines:
            view = self._router.view(self._names[engine.number])
            self._router.told(view, EngineReport(0, 0.0, engine.times.kv_tokens))

    def choose(self, engines: Sequence[BatchingEngine], job: Job, now_seconds: float) -> BatchingEngine:
        """The router's choice, with what the engine has of the prompt in its cache taken off."""
        numbers = tuple(engine.number for engine in engines)
        group = self._groups.get(numbers)
        if group is None:
            group = self._groups[numbers] = self._router.group([self._names[one] for one in numbers])
        request = self._requests[job.number]
        ask = Ask(memoryview(request.prompt), partition(b"bench", f"tenant-{request.tenant}", "model"))
        decision = self._router.choose(group, ask, now_seconds)
        assert decision is not None, "engines of the bench do not fail"
        sent = self._sent[job.number] = self._router.send(group, ask, decision)
        chosen = self._numbers[decision.view.name]
        if job.unread:
            cached = self._caches[chosen].cached(request)
            self.cached_tokens[job.number] = cached
            job.unread = job.prompt_tokens - cached
        else:
            sent.answering()
            self._caches[chosen].keep(request)
        return engines[numbers.index(chosen)]

    def read(self, job: Job, engine: BatchingEngine) -> None:
        self._sent[job.number].answering()
        self._caches[engine.number].keep(self._requests[job.number])

    def left(self, job: Job, engine: BatchingEngine) -> None:
        self._sent.pop(job.number).end()
