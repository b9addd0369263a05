"""What gateways must know of Routes and of models that others serve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from common.doors import RouteCandidate, RouteConditions, RouteDoor, RouteExternal
from common.resources import ExternalModel
from common.resources import Route as RouteKind
from common.resources.one_door import CandidateSpec
from common.resources.people import DataGuard
from common.wire import Route, RouteData, RouteLimits


def data_of(guard: DataGuard) -> RouteData | None:
    """What binds data; None where nothing does."""
    if guard.data_class is None and guard.regions is None:
        return None
    regions = None if guard.regions is None else tuple(sorted(set(guard.regions)))
    return RouteData(data_class=guard.data_class, regions=regions)


def external_route(external: ExternalModel, tenants: Mapping[str, str], limits: RouteLimits | None) -> Route:
    """The model that others serve, by its name. ``tenants``: of projects."""
    spec, project, name = external.spec, external.project or "", external.served_name
    identity = f"{project}/{external.name}"
    bounds = {"limits": limits, "limited_as": identity} if limits is not None else {}
    return Route(
        model=name,
        backend_model=spec.model,
        base_model=name,
        model_identity=identity,
        project=project,
        tenant=tenants.get(project, ""),
        shared=spec.shared,
        tasks=tuple(spec.tasks),
        context_tokens=spec.context_tokens,
        created_ms=external.metadata.created_ms,
        external=RouteExternal(
            name=identity,
            protocol=spec.protocol,
            url=spec.url,
            secret=spec.secret or "",
            region=spec.region,
            data_class=spec.data_class,
            provider=spec.provider,
            tools=spec.tools,
            vision=spec.vision,
            untold_usage=spec.untold_usage,
        ),
        **bounds,
    )


def door_has_price(door: RouteKind) -> bool:
    """Whether prices have a part in its choices."""
    return any(one.max_microcredits_per_million is not None for one in door.spec.candidates)


def by_name(routes: Iterable[Route]) -> dict[str, list[Route]]:
    """Those of each name."""
    found: dict[str, list[Route]] = {}
    for route in routes:
        found.setdefault(route.model, []).append(route)
    return found


def door_route(door: RouteKind, tenants: Mapping[str, str], routes: Mapping[str, Sequence[Route]]) -> Route:
    """The name of a Route, and its candidates as its project sees them among ``routes``, by name."""
    project, spec = door.project or "", door.spec
    tenant, name = tenants.get(project, ""), door.served_name
    candidates = tuple(
        _candidate(one, order, _nearest(project, routes.get(one.model, ())))
        for one, order in zip(spec.candidates, spec.orders, strict=True)
    )
    return Route(
        model=name,
        backend_model=name,
        base_model=name,
        project=project,
        tenant=tenant,
        shared=spec.shared,
        tasks=("chat", "completions", "embeddings"),
        created_ms=door.metadata.created_ms,
        door=RouteDoor(
            name=f"{project}/{door.name}",
            candidates=candidates,
            falls_back_on=tuple(spec.fallback_on),
            sticky_by=spec.sticky_by,
            deadline_ms=spec.deadline_ms,
            checks=tuple(spec.cascade.checks) if spec.cascade is not None else (),
            zone=spec.time_zone,
        ),
    )


def _nearest(project: str, routes: Sequence[Route]) -> Route | None:
    """What their name means in the project: its own, else what is shared."""
    own = [route for route in routes if route.project == project]
    shared = [route for route in routes if route.shared]
    return min(own or shared, key=lambda route: (route.tenant, route.project), default=None)


def _candidate(spec: CandidateSpec, order: int, route: Route | None) -> RouteCandidate:
    when = spec.when
    return RouteCandidate(
        model=spec.model,
        project=route.project if route is not None else "",
        order=order,
        weight=spec.weight,
        when=RouteConditions(
            min_prompt_tokens=when.min_prompt_tokens,
            max_prompt_tokens=when.max_prompt_tokens,
            tools=when.tools,
            vision=when.vision,
            tags=dict(when.tags),
            data_classes=tuple(when.data_classes),
            hours=when.hours or "",
        ),
        max_price=spec.max_microcredits_per_million,
    )
