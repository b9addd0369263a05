"""Whom a Route would ask for a request, and whom not: as a gateway decides it, and nobody is asked."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from common.data_class import DataClass, highest
from common.errors import InvalidInput, NotFound
from common.wire import RoutingTable
from inference.core.body import BodyLimits, InferenceRequest, Task, parse_request
from inference.core.one_door.asked import asked_of, class_in
from inference.gateway.control_link.table import RouteIndex
from inference.gateway.one_door.candidates import decide_for

_TASKS: dict[str, Task] = {"messages": "chat", "prompt": "completions", "input": "embeddings"}
"""What tells one request from another."""
_NOTHING: dict[str, Any] = {"messages": [{"role": "user", "content": "…"}]}


class _Told(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class WouldAsk(_Told):
    """A candidate that may have the request. ``engines``: how many are there now; null for a model that
    others serve."""

    model: str
    order: int
    weight: int
    engines: int | None


class WouldNot(_Told):
    """A candidate that may not. ``reason`` is a word, ``words`` are for people."""

    model: str
    reason: str
    words: str


class RouteAnswer(_Told):
    """``asked`` stand in their order, those of equal order by weight: a gateway draws between them."""

    route: str
    data_class: DataClass
    regions: list[str] | None
    asked: list[WouldAsk]
    refused: list[WouldNot]


def explain_route(
    table: RoutingTable,
    project: str,
    name: str,
    body: dict[str, Any] | None,
    data: DataClass | None,
    now_ms: int,
) -> RouteAnswer:
    """``name`` is that of the Route in its project; ``body``: the request, unset = a short one. Raises
    ``NotFound`` where gateways know no such Route, ``InvalidInput`` for what is no request."""
    index, key = RouteIndex(table), f"{project}/{name}"
    route = next((one for one in table.routes if one.door is not None and one.door.name == key), None)
    if route is None or route.door is None:
        raise NotFound(f"gateways know no Route {key}: another model of its project may have its name")
    bound = index.data.get(project)
    request = _request(_NOTHING if body is None else body)
    told = highest(bound.data_class if bound is not None else None, data, class_in(request))
    regions = frozenset(bound.regions) if bound is not None and bound.regions is not None else None
    asked = asked_of(request, told, regions)
    decision = decide_for(index, route.door, asked, route.tenant, now_ms, b"", "")
    places = {one.model: one.project for one in route.door.candidates}
    return RouteAnswer(
        route=key,
        data_class=told,
        regions=sorted(regions) if regions is not None else None,
        asked=[
            WouldAsk(
                model=one.model,
                order=one.order,
                weight=one.weight,
                engines=_engines(index, places[one.model], one.model),
            )
            for one in sorted(decision.asked, key=lambda one: (one.order, -one.weight))
        ],
        refused=[WouldNot(model=one.model, reason=one.reason, words=one.words) for one in decision.refused],
    )


def _engines(index: RouteIndex, project: str, model: str) -> int | None:
    route = index.candidate(project, model)
    return len(route.replicas) if route is not None and route.external is None else None


def _request(body: dict[str, Any]) -> InferenceRequest:
    task = next((task for member, task in _TASKS.items() if member in body), None)
    if task is None:
        raise InvalidInput(f"request: has none of {', '.join(_TASKS)}", param="request")
    return parse_request(task, json.dumps({**body, "model": "m"}).encode(), BodyLimits())
