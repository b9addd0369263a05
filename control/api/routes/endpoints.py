"""Why an Endpoint has so many engines, how its canary does, which prompts are read apart, and what its spec
was before."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from common.resources import Endpoint
from common.store.port import SpecRevision
from control.admission.access import Caller
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.api.writes import visible_resource
from inference.autoscaling.answers import ScalingAnswer, explain_scaling
from inference.canary.answers import CanaryAnswer, explain_canary
from inference.two_legs.answers import TwoLegsAnswer, explain_two_legs

router = APIRouter(
    prefix="/api/v1/endpoints", tags=["endpoints"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES
)


FromProject = Annotated[
    str | None, Query(description="project of the endpoint; unset = the project of the key, if it has one")
]
PLATFORM = "the platform"
"""In place of the names of its keys, for others."""


class Revision(BaseModel):
    """A spec that the endpoint has or had. ``by`` is the name of the key that wrote it, ``paths`` say in what
    it differs from the one before. ``spec`` is without ``engine.env``; null where it is not kept."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    generation: int
    time_ms: int
    by: str
    paths: list[str]
    spec: dict[str, Any] | None


class Revisions(BaseModel):
    """Newest first."""

    items: list[Revision]


class EndpointAnswer(ScalingAnswer):
    """``canary``: how it does beside the stable side, where there is one. ``two_legs``: which prompts get a
    leg of their own, where some do."""

    canary: CanaryAnswer | None = None
    two_legs: TwoLegsAnswer | None = None


@router.get(
    "/{name}/explain",
    response_model=EndpointAnswer,
    summary="How many engines an endpoint is to have, has, and why; how its canary does",
)
async def get_scaling(
    request: Request, name: str, caller: FromCaller, project: FromProject = None
) -> JSONResponse:
    context = context_of(request)
    caller.require("Endpoint", "read")
    endpoint = await visible_resource(context, caller, Endpoint, name, project)
    watch = context.autoscaler.watch_of(endpoint) if context.autoscaler is not None else None
    now_seconds = context.clock.monotonic_seconds()
    scaling = explain_scaling(endpoint, watch, now_seconds)
    canary = explain_canary(endpoint, context.canaries, now_seconds)
    two_legs = explain_two_legs(endpoint, context.thresholds)
    return JSONResponse(EndpointAnswer(**dict(scaling), canary=canary, two_legs=two_legs).to_dict())


@router.get(
    "/{name}/revisions", response_model=Revisions, summary="Which specs an endpoint had, and who wrote them"
)
async def get_revisions(
    request: Request, name: str, caller: FromCaller, project: FromProject = None
) -> JSONResponse:
    context = context_of(request)
    caller.require("Endpoint", "read")
    where = caller.project_for(Endpoint, project)
    endpoint = await visible_resource(context, caller, Endpoint, name, where)
    items = [
        Revision(
            generation=one.generation,
            time_ms=one.time_ms,
            by=_writer(one, caller),
            paths=list(one.paths),
            spec=dict(one.spec) if one.spec is not None else None,
        )
        for one in await context.store.revisions(endpoint.metadata.uid)
    ]
    return JSONResponse(Revisions(items=items).model_dump(by_alias=True))


def _writer(revision: SpecRevision, caller: Caller) -> str:
    """Who wrote it, as far as the caller may know; empty where nobody knows."""
    if not revision.by or caller.viewer is None or revision.tenant == caller.tenant_uid:
        return revision.by
    return PLATFORM
