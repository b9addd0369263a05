"""Views of one node: what its devices did lately."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from common.errors import Unavailable
from common.resources import Node
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.api.writes import visible_resource
from scheduler.insight.answers import NodeSeries
from scheduler.insight.device_series import LONGEST_SECONDS, node_series

router = APIRouter(
    prefix="/api/v1/nodes", tags=["pool"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES
)


@router.get(
    "/{name}/series",
    response_model=NodeSeries,
    summary="The load of a node's devices over the last hour",
)
async def get_series(
    request: Request,
    name: str,
    caller: FromCaller,
    device: Annotated[str | None, Query(description="id of a device; unset = all of the node")] = None,
    window_seconds: Annotated[
        int, Query(ge=1, le=LONGEST_SECONDS, description="so far back from now")
    ] = LONGEST_SECONDS,
    step_seconds: Annotated[
        int, Query(ge=0, le=LONGEST_SECONDS, description="means over steps of so long; 0 = every sample")
    ] = 0,
) -> JSONResponse:
    """Agents take a sample every five seconds and remember an hour; a restart of an agent forgets it. Times
    of steps are when they begin."""
    context = context_of(request)
    caller.require("Node", "read")
    node = await visible_resource(context, caller, Node, name, None)
    if context.fabric is None:
        raise Unavailable("this process reaches no nodes")
    now_ms = context.clock.now_ms()
    series = await node_series(context.fabric, node, device, window_seconds, step_seconds, now_ms)
    return JSONResponse(series.to_dict())
