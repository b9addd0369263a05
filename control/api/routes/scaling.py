"""Why an Endpoint has so many engines, how its canary does, and which prompts are read apart."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from common.resources import Endpoint
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.api.writes import visible_resource
from inference.autoscaling.answers import ScalingAnswer, explain_scaling
from inference.canary.answers import CanaryAnswer, explain_canary
from inference.two_legs.answers import TwoLegsAnswer, explain_two_legs

router = APIRouter(
    prefix="/api/v1/endpoints", tags=["endpoints"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES
)


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
    request: Request,
    name: str,
    caller: FromCaller,
    project: Annotated[str | None, Query(description="unset = the project of the key, if it has one")] = None,
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
