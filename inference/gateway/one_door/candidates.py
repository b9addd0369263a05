"""The candidates of a Route, as the choice between them sees them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from billing.core.ceilings import Doer
from billing.core.hours import local_ms
from common.doors import RouteCandidate, RouteDoor
from common.wire import Route
from inference.core.apis.wires import apis_of
from inference.core.one_door.asked import Asked
from inference.core.one_door.choose import Candidate, Decision, Outside, When, decide, place_of
from inference.gateway.control_link.table import RouteIndex

EXTERNAL_APIS = {
    "openai": frozenset({"chat", "completions", "embeddings"}),
    "anthropic": frozenset({"messages"}),
}
"""What external models are asked in, by their protocol; of it they serve what their tasks say. Nothing is
translated: a provider answers in the API that it speaks."""


def apis_of_route(route: Route) -> frozenset[str]:
    """The APIs that a model serves."""
    served = frozenset(map(str, apis_of(route.tasks)))
    return served if route.external is None else served & EXTERNAL_APIS[route.external.protocol]


def device_class_of(route: Route) -> str:
    """What the price book calls the devices of an external model: those of its provider."""
    return f"external/{route.external.provider}" if route.external is not None else ""


def doers_of(route: Route) -> frozenset[Doer]:
    """Who may do the work of a route, as far as its price goes by it."""
    if route.external is not None:
        return frozenset((Doer(route.model_identity, route.shared, device_class_of(route)),))
    return frozenset(Doer(one.model_identity, one.model_shared, one.device_class) for one in route.replicas)


def decide_for(
    index: RouteIndex, door: RouteDoor, asked: Asked, tenant: str, now_ms: int, secret: bytes, unit: str
) -> Decision:
    """Who is asked of a Route's candidates, and who is not. ``unit``: what stays with one of them;
    ``tenant`` is billed."""
    candidates = [_seen(index, one, tenant, now_ms) for one in door.candidates]
    places = {one.model: place_of(secret, door.name, one.model, unit) for one in door.candidates}
    return decide(asked, candidates, places, local_ms(now_ms, ZoneInfo(door.zone)))


def alone(route: Route) -> Candidate:
    """An external model that is asked by its own name."""
    return Candidate(
        route.model,
        apis=apis_of_route(route),
        context_tokens=route.context_tokens,
        outside=_outside(route),
    )


def _seen(index: RouteIndex, one: RouteCandidate, tenant: str, now_ms: int) -> Candidate:
    route = index.candidate(one.project, one.model)
    if route is None:
        return Candidate(one.model, one.order, one.weight, known=False)
    return Candidate(
        one.model,
        one.order,
        one.weight,
        When(**dict(one.when)),
        paused=index.pause(f"model/{route.model_identity}") is not None,
        apis=apis_of_route(route),
        context_tokens=route.context_tokens,
        outside=_outside(route),
        price=None if one.max_price is None else _price(index, route, tenant, now_ms),
        max_price=one.max_price,
    )


def _outside(route: Route) -> Outside | None:
    external = route.external
    if external is None:
        return None
    return Outside(external.region, external.data_class, external.tools, external.vision)


def _price(index: RouteIndex, route: Route, tenant: str, now_ms: int) -> int:
    """Of a million of its tokens, of prompt or answer, whichever costs more."""
    ceiling = index.ceilings.of(tenant, route.adapter_identity, doers_of(route), now_ms)
    return max(ceiling.prompt, ceiling.cached, ceiling.completion)
