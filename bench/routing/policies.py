"""The policies that are compared: plain ones, a peer's by its description, and the product's own code."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import or_

from bench.routing.engines import Engine, Policy
from bench.routing.trace import BLOCK_TOKENS, TOKEN_BYTES, Request
from inference.core.routing.blocks import ENDS, partition
from inference.core.routing.report import EngineReport
from inference.core.routing.router import Router, Sent
from inference.core.routing.views import Ask


class _Counting(Policy):
    """Knows what is in flight where."""

    def __init__(self, engines: int) -> None:
        self.in_flight = [0] * engines

    def choose(self, request: Request, now_seconds: float) -> int:
        engine = self.pick(request, now_seconds)
        self.in_flight[engine] += 1
        return engine

    def pick(self, request: Request, now_seconds: float) -> int:
        raise NotImplementedError

    def ended(self, request: Request, engine: int) -> None:
        self.in_flight[engine] -= 1


class Random(_Counting):
    def __init__(self, engines: int) -> None:
        super().__init__(engines)
        self._draw = random.Random(1)

    def pick(self, request: Request, now_seconds: float) -> int:
        return self._draw.randrange(len(self.in_flight))


class RoundRobin(_Counting):
    _turn = -1

    def pick(self, request: Request, now_seconds: float) -> int:
        self._turn = (self._turn + 1) % len(self.in_flight)
        return self._turn


class LeastInFlight(_Counting):
    def pick(self, request: Request, now_seconds: float) -> int:
        return min(range(len(self.in_flight)), key=lambda engine: (self.in_flight[engine], engine))


class CacheAware(_Counting):
    """As SGLang's router and vllm-router describe ``cache_aware``, with their defaults.

    Where the load is out of balance by both thresholds: the shortest queue. Else the engine whose tree has
    the longest match, if that is more than ``CACHE_THRESHOLD`` of the prompt; else the one with the smallest
    tree.
    Every ``EVICTION_SECONDS`` trees over ``TREE_CHARACTERS`` lose what was used least.
    """

    CACHE_THRESHOLD, ABSOLUTE, RELATIVE = 0.3, 64, 1.5
    TREE_CHARACTERS, EVICTION_SECONDS = 2**26, 120.0

    def __init__(self, engines: int) -> None:
        super().__init__(engines)
        self._trees: list[dict[tuple[int, int], None]] = [{} for _ in range(engines)]
        self._holders: dict[tuple[int, int], int] = {}
        self._evicted_seconds = 0.0

    def pick(self, request: Request, now_seconds: float) -> int:
        self._evict(now_seconds)
        most, least = max(self.in_flight), min(self.in_flight)
        if most - least > self.ABSOLUTE and most > least * self.RELATIVE:
            engine = self.in_flight.index(least)
        else:
            depth, mask = self._match(request)
            if depth / len(request.blocks) > self.CACHE_THRESHOLD:
                engine = (mask & -mask).bit_length() - 1
            else:
                engine = min(range(len(self._trees)), key=lambda one: len(self._trees[one]))
        self._insert(engine, request)
        return engine

    def _match(self, request: Request) -> tuple[int, int]:
        depth, mask = 0, -1
        for block in request.blocks:
            still = self._holders.get((request.tenant, block), 0) & mask
            if not still:
                break
            depth, mask = depth + 1, still
        return depth, mask

    def _insert(self, engine: int, request: Request) -> None:
        tree = self._trees[engine]
        for block in reversed(request.blocks):
            key = (request.tenant, block)
            tree.pop(key, None)
            tree[key] = None
            self._holders[key] = self._holders.get(key, 0) | 1 << engine

    def _evict(self, now_seconds: float) -> None:
        if now_seconds - self._evicted_seconds < self.EVICTION_SECONDS:
            return
        self._evicted_seconds = now_seconds
        largest = self.TREE_CHARACTERS // (BLOCK_TOKENS * 4)
        for engine, tree in enumerate(self._trees):
            for key in [key for key, _ in zip(tree, range(len(tree) - largest), strict=False)]:
                del tree[key]
                self._holders[key] &= ~(1 << engine)


class Ours(Policy):
    """The gateway's own router, asked as the gateway asks it."""

    def __init__(self, engines: int) -> None:
        self._router = Router()
        self._names = {f"http://engine-{number:04}": number for number in range(engines)}
        self._group = self._router.group(self._names)
        self._sent: dict[int, Sent] = {}

    def see(self, engines: Sequence[Engine]) -> None:
        """Engines tell how much their caches hold."""
        for name, at in self._names.items():
            report = EngineReport(0, 0.0, engines[at].kind.cache_tokens)
            self._router.told(self._router.view(name), report)

    def choose(self, request: Request, now_seconds: float) -> int:
        return self.decide(request, memoryview(request.prompt), now_seconds)

    def decide(self, request: Request, prompt: memoryview, now_seconds: float) -> int:
        ask = Ask(prompt, partition(b"bench", f"tenant-{request.tenant}", "model"))
        decision = self._router.choose(self._group, ask, now_seconds)
        assert decision is not None
        self._sent[id(request)] = self._router.send(self._group, ask, decision)
        return self._names[decision.view.name]

    def answering(self, request: Request, engine: int) -> None:
        self._sent[id(request)].answering()

    def ended(self, request: Request, engine: int) -> None:
        self._sent.pop(id(request)).end()


class Exact(Ours):
    """Ours, but that it knows what the engines' caches hold at this moment: more than any events can tell."""

    _request: Request

    def see(self, engines: Sequence[Engine]) -> None:
        self._engines = {self._router.view(name).slot: engines[at] for name, at in self._names.items()}
        self._router._levels = self._true_levels  # type: ignore[method-assign]

    def choose(self, request: Request, now_seconds: float) -> int:
        self._request = request
        return super().choose(request, now_seconds)

    def _true_levels(self, ask: Ask, usable: int) -> list[tuple[int, int]]:
        holders: dict[int, int] = {}
        for slot, engine in self._engines.items():
            depth = bisect_right(ENDS, engine.cached(self._request) * TOKEN_BYTES)
            if depth and usable >> slot & 1:
                holders[depth] = holders.get(depth, 0) | 1 << slot
        depths = sorted(holders, reverse=True)
        return list(zip(depths, accumulate((holders[depth] for depth in depths), or_), strict=True))


POLICIES: dict[str, Callable[[int], Policy]] = {
    "random": Random,
    "round_robin": RoundRobin,
    "least_in_flight": LeastInFlight,
    "cache_aware": CacheAware,
    "ours": Ours,
}
ABLATIONS: dict[str, Callable[[int], Policy]] = {"exact": Exact}
