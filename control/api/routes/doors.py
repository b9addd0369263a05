"""Whom a Route would ask for a request, and why not the others."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from common.data_class import DataClass
from common.resources import Route
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, StrictRoute, context_of
from control.api.writes import visible_resource
from inference.gateway.one_door.explaining import RouteAnswer, explain_route

router = APIRouter(
    prefix="/api/v1/routes",
    tags=["endpoints"],
    dependencies=KEY_REQUIRED,
    responses=ERROR_RESPONSES,
    route_class=StrictRoute,
)
FromProject = Annotated[
    str | None, Query(description="project of the Route; unset = the project of the key, if it has one")
]


class RouteQuestion(BaseModel):
    """``request``: the body that a client would send; unset = a short chat. ``dataClass``: what its header
    would say."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    request: dict[str, Any] | None = Field(None, description="the body that a client would send")
    data_class: DataClass | None = Field(None, description="what its header would say")


@router.post(
    "/{name}/explain",
    response_model=RouteAnswer,
    summary="Whom a Route would ask for a request, and why not the others; nobody is asked",
)
async def post_explain(
    request: Request, caller: FromCaller, name: str, body: RouteQuestion, project: FromProject = None
) -> RouteAnswer:
    """As gateways decide it, by the key's project. What a key of its own binds is not looked at."""
    context = context_of(request)
    caller.require("Route", "read")
    found = await visible_resource(context, caller, Route, name, caller.project_for(Route, project))
    _, table = await context.routes.current()
    now_ms = context.clock.now_ms()
    return explain_route(table, found.project or "", found.name, body.request, body.data_class, now_ms)
