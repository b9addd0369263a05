"""What a gateway must know, from the store."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import Conflict
from common.pauses import KINDS as PAUSABLE
from common.pauses import PAUSED, is_paused
from common.resources import (
    Adapter,
    ApiKey,
    Budget,
    Endpoint,
    ExternalModel,
    Guardrail,
    Model,
    Price,
    Project,
    Tenant,
)
from common.resources import Route as RouteKind
from common.resources.canary import trial_of
from common.resources.rates import RateLimits
from common.resources.serving import Replica, model_identity
from common.store.port import Store
from common.wire import (
    Route,
    RouteBook,
    RouteBudget,
    RouteCanary,
    RouteData,
    RouteGuardrail,
    RouteKey,
    RouteLimits,
    RoutePause,
    RouteReplica,
    RouteShadow,
    RouteWeights,
    RoutingTable,
)
from inference.adapter_status import obstacle
from inference.doors import by_name, data_of, door_has_price, door_route, external_route
from inference.engine_workload import served_name
from inference.routed_budgets import budgets_and_books
from inference.routed_guardrails import guardrails_of

REST = 3
"""So many times as long as it took to make a table, no other is made."""
MIN_PROMPT_TOKENS = 512
"""Where an Endpoint says nothing: reading a shorter prompt takes about as long as a second leg."""
KINDS = tuple(
    kind.__name__
    for kind in (
        Tenant,
        Project,
        ApiKey,
        Model,
        Endpoint,
        Adapter,
        ExternalModel,
        RouteKind,
        Budget,
        Price,
        Guardrail,
    )
)
"""What a table is made of."""
_Models = dict[tuple[str | None, str], Model]


class RoutingTables:
    """The routing table in force, for all who ask. It is made anew only after a change of what it is made of,
    and a quarter of the time at most: however much is written, there is time left for others."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = asyncio.Lock()
        self._known: tuple[int, RoutingTable] | None = None
        self._rest_until_seconds = 0.0

    async def current(self) -> tuple[int, RoutingTable]:
        """The table, and a revision of the store of which nothing is missing in it."""
        clock = asyncio.get_running_loop().time
        async with self._turn:
            if self._known is not None and not await self._changed_since(self._known[0]):
                return self._known
            await asyncio.sleep(self._rest_until_seconds - clock())
            began, revision = clock(), await self._store.revision()
            self._known = revision, await build_routing_table(self._store)
            self._rest_until_seconds = clock() + REST * (clock() - began)
            return self._known

    async def _changed_since(self, revision: int) -> bool:
        latest = await self._store.revision()
        if latest == revision:
            return False
        try:
            if await self._store.changes(revision, kinds=KINDS, limit=1):
                return True
        except Conflict:  # so long ago that the store does not know any more
            return True
        if self._known is not None:
            self._known = latest, self._known[1]
        return False


async def build_routing_table(store: Store) -> RoutingTable:
    """Keys that are not revoked, and one route per served name of a project.

    Routes without a ready replica are listed too: their model exists but cannot answer now. Keys are listed
    with the time at which they expire, so that the table changes only with the store.
    """
    projects = await store.list(Project)
    tenants = {project.name: project.spec.tenant for project in projects}
    keys = tuple(_key(key, tenants) for key in await store.list(ApiKey) if not key.spec.revoked)
    models: _Models = {(model.project, model.name): model for model in await store.list(Model)}
    endpoints = sorted(
        await store.list(Endpoint), key=lambda e: (not e.spec.shared, e.metadata.created_ms, e.key)
    )
    routes: dict[tuple[str, str], Route] = {}
    for endpoint in endpoints:
        _add(routes, _endpoint_route(endpoint, models, tenants, endpoints))
    hosts = _hosts(endpoints, models)
    for adapter in sorted(await store.list(Adapter), key=lambda a: (a.metadata.created_ms, a.key)):
        _add(routes, _adapter_route(adapter, hosts.get(adapter.model_key, ()), tenants))
    for external in sorted(await store.list(ExternalModel), key=lambda e: (e.metadata.created_ms, e.key)):
        _add(routes, external_route(external, tenants, _limits(external.spec.rate_limits)))
    doors = sorted(await store.list(RouteKind), key=lambda d: (d.metadata.created_ms, d.key))
    seen = by_name(routes.values())
    for door in doors:
        _add(routes, door_route(door, tenants, seen))
    pauses = await _pauses(store)
    paused = frozenset(f"{one.scope}/{one.name}" for one in pauses)
    ordered = tuple(_without(route, paused) for _, route in sorted(routes.items()))
    limits = {"projects": _limits_of(projects), "tenants": _limits_of(await store.list(Tenant))}
    budgets, books = await budgets_and_books(store, any(door_has_price(door) for door in doors))
    data = {one.name: found for one in projects if (found := data_of(one.spec.data)) is not None}
    guardrails = await guardrails_of(store)
    version = _version((*keys, *ordered, *budgets, *books, *pauses, *guardrails), limits, data)
    return RoutingTable(
        version=version,
        keys=keys,
        routes=ordered,
        budgets=budgets,
        books=books,
        pauses=pauses,
        data=data,
        guardrails=guardrails,
        **limits,
    )


async def _pauses(store: Store) -> tuple[RoutePause, ...]:
    """All that is paused, in a fixed order."""
    found = []
    for scope, kind in PAUSABLE.items():
        for one in filter(is_paused, await store.list(kind)):
            condition = one.status.condition(PAUSED)
            name = model_identity((one.project, one.name)) if scope == "model" else one.name
            since_ms, reason = condition.last_transition_ms, condition.message
            found.append(RoutePause(scope=scope, name=name, since_ms=since_ms, reason=reason))
    return tuple(found)


def _without(route: Route, paused: frozenset[str]) -> Route:
    """The route without engines that run a paused Model, whatever the Endpoint says by now, and without
    copies that somebody would pay for who is paused. ``paused``: like ``tenant/acme``."""
    if not paused:
        return route
    replicas, shadow = _going(route.replicas, paused), route.shadow
    if shadow is not None:
        payers = {f"project/{route.project}", f"tenant/{route.tenant}"}
        copies = () if payers & paused else _going(shadow.replicas, paused)
        shadow = shadow.model_copy(update={"replicas": copies})
    return route.model_copy(update={"replicas": replicas, "shadow": shadow})


def _going(replicas: Sequence[RouteReplica], paused: frozenset[str]) -> tuple[RouteReplica, ...]:
    return tuple(one for one in replicas if f"model/{one.model_identity}" not in paused)


def _limits_of(all_of_them: Sequence[Project] | Sequence[Tenant]) -> dict[str, RouteLimits]:
    """By name, those of all that have some."""
    limits = {one.name: _limits(one.spec.rate_limits) for one in all_of_them}
    return {name: found for name, found in sorted(limits.items()) if found is not None}


def _limits(limits: RateLimits) -> RouteLimits | None:
    """None where there are none."""
    told = limits.model_dump(exclude_none=True)
    return RouteLimits(**told) if told else None


def _add(routes: dict[tuple[str, str], Route], route: Route | None) -> None:
    """Of two with the same name in a project the shared one is served, else the older one."""
    if route is not None and route.tenant:
        routes.setdefault((route.project, route.model), route)


def _limits_by(endpoint: Endpoint) -> dict[str, Any]:
    """What a route says of the limits of its Endpoint; nothing where there are none."""
    limits = _limits(endpoint.spec.rate_limits)
    if limits is None:
        return {}
    return {"limits": limits, "limited_as": f"{endpoint.project or ''}/{endpoint.name}"}


def _key(key: ApiKey, tenants: dict[str, str]) -> RouteKey:
    spec = key.spec
    return RouteKey(
        digest=key.status.digest,
        name=key.name,
        role=spec.role,
        tenant=spec.tenant or (tenants.get(spec.project) if spec.project else None),
        project=spec.project,
        models=tuple(spec.models),
        expires_ms=spec.expires_ms,
        limits=_limits(spec.rate_limits),
        data=data_of(spec.data),
    )


def _endpoint_route(
    endpoint: Endpoint, models: _Models, tenants: dict[str, str], endpoints: Sequence[Endpoint] = ()
) -> Route:
    """``endpoints``: those that copies of its requests may go to."""
    name, project, model = served_name(endpoint), endpoint.project or "", models.get(endpoint.model_key)
    canary = _canary(endpoint)
    return Route(
        model=name,
        backend_model=name,
        base_model=name,
        model_identity=model_identity(endpoint.model_key),
        project=project,
        tenant=tenants.get(project, ""),
        shared=endpoint.spec.shared,
        tasks=tuple(model.spec.tasks) if model else ("chat", "completions"),
        context_tokens=endpoint.status.context_tokens,
        created_ms=endpoint.metadata.created_ms,
        replicas=tuple(
            _replica(r, endpoint, models)
            for r in endpoint.status.replicas
            if _serves(r) and (r.role != "canary" or (canary is not None and canary.weight_percent > 0))
        ),
        routing=_weights(endpoint),
        canary=canary,
        shadow=_shadow(endpoint, endpoints, models),
        elastic=_wakes([endpoint]),
        **_limits_by(endpoint),
    )


def _shadow(endpoint: Endpoint, endpoints: Sequence[Endpoint], models: _Models) -> RouteShadow | None:
    """None where there is none, or the Endpoint that it names is gone."""
    shadow = endpoint.spec.shadow
    if shadow is None:
        return None
    mine = [one for one in endpoints if one.project == endpoint.project and one is not endpoint]
    target = next((one for one in mine if one.name == shadow.endpoint), None)
    if target is None:
        return None
    return RouteShadow(
        source=endpoint.name,
        percent=shadow.percent,
        model=served_name(target),
        context_tokens=target.status.context_tokens,
        replicas=tuple(
            _replica(r, target, models)
            for r in target.status.replicas
            if _serves(r) and "prefill" not in (r.role, r.duty) and r.role != "canary"
        ),
    )


def _canary(endpoint: Endpoint) -> RouteCanary | None:
    """None where there is none. What is on the canary's side at one weight is so at a greater one: who gets
    it follows from the Endpoint and the canary's Model only."""
    canary = endpoint.spec.canary
    if canary is None:
        return None
    return RouteCanary(
        endpoint=endpoint.metadata.uid,
        trial=trial_of(endpoint.spec),
        salt=f"{endpoint.metadata.uid} {canary.model}",
        weight_percent=0.0 if endpoint.is_rolled_back else canary.weight_percent,
        sticky_by=canary.sticky_by,
    )


@dataclass(frozen=True)
class _Host:
    """An Endpoint that adapters may be on, and each of its engines with what it holds."""

    endpoint: Endpoint
    engines: Sequence[tuple[RouteReplica, frozenset[str]]]


def _hosts(endpoints: Sequence[Endpoint], models: _Models) -> dict[tuple[str | None, str], list[_Host]]:
    """By Model, so that nothing compares each adapter with each Endpoint."""
    hosts = defaultdict[tuple[str | None, str], list[_Host]](list)
    for endpoint in endpoints:
        engines = [
            (_replica(r, endpoint, models), frozenset(r.adapters))
            for r in endpoint.status.replicas
            if _serves(r) and r.role != "canary"
        ]
        hosts[endpoint.model_key].append(_Host(endpoint, engines))
    return hosts


def _adapter_route(adapter: Adapter, of_model: Sequence[_Host], tenants: dict[str, str]) -> Route | None:
    """None when no endpoint that may hold it is there: then nothing can answer to its name."""
    hosts = [host for host in of_model if adapter.may_be_on(host.endpoint)]
    if not hosts:
        return None
    name, project = adapter.spec.served_name, adapter.project or ""
    endpoints = [host.endpoint for host in hosts]
    able = [endpoint for endpoint in endpoints if obstacle(adapter, endpoint) is None]
    contexts = [e.status.context_tokens for e in endpoints if e.status.context_tokens is not None]
    return Route(
        model=name,
        backend_model=name,
        base_model=served_name(endpoints[0]),
        adapter_identity=f"{project}/{adapter.name}",
        model_identity=model_identity(adapter.model_key),
        project=project,
        tenant=tenants.get(project, ""),
        context_tokens=min(contexts, default=None),
        created_ms=adapter.metadata.created_ms,
        replicas=tuple(engine for host in hosts for engine, held in host.engines if name in held),
        routing=_weights(endpoints[0]),
        elastic=_wakes(able) if adapter.status.is_loadable else (),
        **_limits_by(endpoints[0]),
    )


def _serves(replica: Replica) -> bool:
    return replica.ready and not replica.draining


def _wakes(endpoints: Sequence[Endpoint]) -> tuple[str, ...]:
    """Those that get an engine when somebody asks: they follow their load, and one can be started."""
    return tuple(
        f"{endpoint.project or ''}/{endpoint.name}"
        for endpoint in endpoints
        if endpoint.is_elastic and endpoint.status.is_startable
    )


def _weights(endpoint: Endpoint) -> RouteWeights:
    return RouteWeights(**endpoint.spec.routing.model_dump())


def _replica(replica: Replica, endpoint: Endpoint, models: _Models) -> RouteReplica:
    """Billed is the Model that the engine was started with, whatever the Endpoint says by now; an engine that
    is older than its label has the Endpoint's."""
    identity = replica.model_identity or model_identity(endpoint.model_key)
    project, _, name = identity.partition("/")
    model = models.get((project, name))
    return RouteReplica(
        id=replica.workload,
        url=replica.url,
        role=replica.duty or replica.role,
        endpoint=f"{endpoint.project or ''}/{endpoint.name}",
        min_prompt_tokens=_min_prompt_tokens(endpoint) if "prefill" in (replica.role, replica.duty) else 0,
        learns_min_prompt=replica.role == "prefill" and endpoint.spec.min_prompt_tokens is None,
        device_class=replica.device_class,
        model_identity=identity,
        model_shared=model is not None and model.spec.shared,
        adapter_slots=endpoint.spec.engine.max_adapters,
    )


def _min_prompt_tokens(endpoint: Endpoint) -> int:
    auto = endpoint.status.auto if endpoint.spec.mode == "auto" else None
    asked = endpoint.spec.min_prompt_tokens if auto is None else auto.min_prompt_tokens
    return MIN_PROMPT_TOKENS if asked is None else asked


def _version(
    parts: Sequence[RouteKey | Route | RouteBudget | RouteBook | RoutePause | RouteGuardrail],
    limits: Mapping[str, Mapping[str, RouteLimits]],
    data: Mapping[str, RouteData],
) -> str:
    """The same content always has the same version, also after a restart."""
    content: list[object] = [part.model_dump(mode="json") for part in parts]
    content += [[(name, own.model_dump()) for name, own in some.items()] for some in limits.values()]
    content += [[(name, own.model_dump()) for name, own in sorted(data.items())]] if data else []
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
