"""Why an Endpoint has so many engines."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from common.resources import Endpoint
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.api.writes import visible_resource
from inference.autoscaling.answers import ScalingAnswer, explain_scaling

router = APIRouter(
    prefix="/api/v1/endpoints", tags=["endpoints"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES
)


@router.get(
    "/{name}/explain",
    response_model=ScalingAnswer,
    summary="How many engines an endpoint is to have, has, and why",
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
    answer = explain_scaling(endpoint, watch, context.clock.monotonic_seconds())
    return JSONResponse(answer.to_dict())
