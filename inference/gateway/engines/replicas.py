"""The replicas of all routes, and the choice of one of them for a request."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from common.clock import Clock
from common.ids import new_secret
from common.wire import Route, RouteReplica, RouteWeights
from inference.core.body import InferenceRequest
from inference.core.routing.blocks import partition
from inference.core.routing.breaker import State
from inference.core.routing.report import EngineReport
from inference.core.routing.router import Router, Sent
from inference.core.routing.views import Ask, Group, Weights
from inference.gateway import metrics

_KNOWN_STARTS = 4096


@dataclass(frozen=True)
class _Known:
    """Replicas among which one is chosen, and by what."""

    replicas: Sequence[RouteReplica]
    group: Group
    by_url: Mapping[str, RouteReplica]
    routing: RouteWeights
    weights: Weights


class Replicas:
    """What this gateway knows of engines, by their URLs. ``entries``: of the index of prompts."""

    def __init__(self, clock: Clock, entries: int) -> None:
        self.router = Router(entries)
        self.with_choice: Sequence[str] = ()
        """URLs of replicas that have others beside them."""
        self._clock = clock
        self._secret = new_secret("index").encode()
        self._groups: dict[int, _Known] = {}
        self._starts: dict[tuple[str, ...], bytes] = {}

    def keep_only(self, routes: Sequence[Route]) -> None:
        """Forget replicas that no route names any more."""
        self.router.keep_only(replica.url for route in routes for replica in route.replicas)
        self.with_choice = sorted(
            {replica.url for route in routes if len(route.replicas) > 1 for replica in route.replicas}
        )
        for url in self.with_choice:
            self.router.view(url)
        self._groups = {}

    def ask(self, route: Route, request: InferenceRequest, tenant: str) -> Ask:
        """The request as the choice sees it. Tenants meet nobody else's prompts, as in engines' caches."""
        adapter = "" if route.model == route.base_model else route.backend_model
        start = b"" if request.task == "embeddings" else self._start(tenant, route.backend_model)
        return Ask(request.prompt, start, adapter, request.session)

    def _start(self, *names: str) -> bytes:
        start = self._starts.get(names)
        if start is None:
            if len(self._starts) >= _KNOWN_STARTS:
                self._starts.clear()
            start = self._starts[names] = partition(self._secret, *names)
        return start

    def choose(
        self, route: Route, replicas: Sequence[RouteReplica], ask: Ask, tried: Collection[str]
    ) -> tuple[RouteReplica, Sent] | None:
        """One of ``replicas`` (all of the route's, or some) that has the request now; None where none may."""
        known = self._group(route, replicas)
        now_seconds = self._clock.monotonic_seconds()
        decision = self.router.choose(known.group, ask, now_seconds, known.weights, tried)
        if decision is None:
            return None
        model, cached = metrics.MODELS.of(route.model), decision.row.cached_bytes
        metrics.ROUTED.count(model, decision.reason)
        metrics.ROUTED_BYTES.count(model, "yes", amount=cached)
        metrics.ROUTED_BYTES.count(model, "no", amount=len(ask.prompt) - cached)
        return known.by_url[decision.view.name], self.router.send(known.group, ask, decision)

    def answered(self, url: str) -> None:
        """A request was answered well there. While the replica is left alone that says nothing: the request
        is an older one."""
        view = self.router.view(url)
        if view.breaker.allows(self._clock.monotonic_seconds()):
            self.router.succeeded(view)

    def failed(self, url: str, *, gone: bool = False) -> None:
        """A request failed there; ``gone``: its connection broke, so that its cache may be gone too."""
        view = self.router.view(url)
        self.router.failed(view, self._clock.monotonic_seconds())
        if gone:
            self.router.lost(view)

    def rest(self, url: str) -> None:
        """Leave a replica alone for a while: it answers, but not as it must."""
        self.router.rest(self.router.view(url), self._clock.monotonic_seconds())

    def told(self, url: str, report: EngineReport | None) -> None:
        """What the engine tells of itself; None where it does not. Of one that is gone by now: nothing."""
        if (view := self.router.views.get(url)) is not None:
            self.router.told(view, report)

    def breakers(self, routes: Iterable[Route]) -> dict[tuple[str, str], State]:
        """The state of each replica's breaker by the name of its base model and its own."""
        now_seconds = self._clock.monotonic_seconds()
        states: dict[tuple[str, str], State] = {}
        for route in routes:
            if route.model == route.base_model:
                for replica in route.replicas:
                    view = self.router.views.get(replica.url)
                    state = "closed" if view is None else view.breaker.state(now_seconds)
                    states[metrics.MODELS.of(route.model), replica.id] = state
        return states

    def _group(self, route: Route, replicas: Sequence[RouteReplica]) -> _Known:
        """Kept by the list's identity for as long as the table is the same."""
        known = self._groups.get(id(replicas))
        if known is None or known.replicas is not replicas or known.routing is not route.routing:
            by_url = {replica.url: replica for replica in replicas}
            group, weights = self.router.group(by_url), _weights(route.routing)
            known = self._groups[id(replicas)] = _Known(replicas, group, by_url, route.routing, weights)
            for url, replica in by_url.items():
                self.router.view(url).adapter_slots = replica.adapter_slots
        return known


def why_nobody(route: Route) -> str:
    """What a client is told where no engine can be asked: one that rests comes back, others may not."""
    if route.replicas:
        return f"no replica of {route.model} is ready; try again in a moment"
    return (
        f"no engine of {route.model} is there now; whoever serves it sees with `computility get endpoints` "
        "why, and whether one comes"
    )


@lru_cache(maxsize=1024)
def _weights(told: RouteWeights) -> Weights:
    return Weights(told.prefix, told.queue, told.load, told.cache, told.adapter, told.session)
