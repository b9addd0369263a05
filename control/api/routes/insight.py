"""The pool in numbers, and what would happen if a workload were there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from common.errors import InvalidInput, Problem
from common.resources import Job, Queue, Resource, Workload
from control.admission.access import Caller
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of, json_of
from control.api.writes import apply_resources, parse_documents
from control.context import ControlContext
from control.core.advice import for_reader
from control.core.permissions import allows
from jobs.job_workload import job_workload
from scheduler.insight.answers import Overview, Simulation

MAX_SIMULATED = 100
MAX_ROWS = 1000
NO_FOLDER = Path("/")
"""Stands for that of a job that is not made."""

router = APIRouter(prefix="/api/v1", tags=["pool"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES)


@router.get("/overview", response_model=Overview, summary="The pool now: devices, nodes, queues, workloads")
async def get_overview(
    request: Request,
    caller: FromCaller,
    limit: Annotated[
        int, Query(ge=1, le=MAX_ROWS, description="at most so many nodes and so many workloads")
    ] = 10,
) -> JSONResponse:
    """Each part needs the right to read its kind (Node, Queue, Workload); the others are left out. Workloads
    are those that exist for the caller."""
    caller.require("Workload", "read")
    role = caller.principal.role
    overview = await context_of(request).insight.overview(
        caller.sees_project,
        nodes=allows(role, "Node", "read"),
        queues=allows(role, "Queue", "read"),
        limit=limit,
    )
    return JSONResponse(overview.to_dict())


@router.post(
    "/simulate",
    response_model=Simulation,
    summary="What the next cycle would decide if these Workloads or Jobs were applied; nothing is written",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Workload"}}},
        }
    },
)
async def post_simulation(
    request: Request,
    caller: FromCaller,
    at_head: Annotated[
        bool, Query(alias="atHead", description="as if they came first of all of their priority")
    ] = False,
) -> JSONResponse:
    """One Workload or Job, or a list of them, checked as for ``/apply``; of a Job the Workload that it would
    make."""
    content = await json_of(request)
    documents = content if isinstance(content, list) else [content]
    if not 0 < len(documents) <= MAX_SIMULATED:
        raise InvalidInput(f"1 to {MAX_SIMULATED} Workloads can be simulated at once, not {len(documents)}")
    asked, context = _simulated(parse_documents(documents)), context_of(request)
    await apply_resources(context, caller, asked, dry_run=True)
    workloads = [await _workload_of(one, context) for one in asked]
    simulation = await context.insight.simulate(workloads, at_head=at_head)
    _hide_others(simulation, caller)
    for outcome in simulation.workloads:
        outcome.remedy = for_reader(caller.principal.role, outcome.remedy)
    return JSONResponse(simulation.to_dict())


def _simulated(resources: list[Resource]) -> list[Workload | Job]:
    """The same, if all are Workloads or Jobs; else ``InvalidInput`` naming the first that is none."""
    asked: list[Workload | Job] = []
    for index, resource in enumerate(resources):
        if not isinstance(resource, Workload | Job):
            path = f"[{index}].kind" if len(resources) > 1 else "kind"
            hint = (
                "; `computility plan -f FILE` says what would serve it" if resource.kind == "Endpoint" else ""
            )
            message = f"only Workloads and Jobs can be simulated, not {resource.kind}{hint}"
            raise InvalidInput(f"{path}: {message}", param=path, problems=(Problem(path, message),))
        asked.append(resource)
    return asked


async def _workload_of(asked: Workload | Job, context: ControlContext) -> Workload:
    if isinstance(asked, Workload):
        return asked
    queue = await context.store.find(Queue, asked.spec.queue)
    return job_workload(asked, queue, NO_FOLDER, context.settings)


def _hide_others(simulation: Simulation, caller: Caller) -> None:
    """Take out what happens to workloads that do not exist for the caller."""
    simulation.preempts = [one for one in simulation.preempts if caller.sees_project(one.project)]
    simulation.resizes = [one for one in simulation.resizes if caller.sees_project(one.project)]
    simulation.moves = [one for one in simulation.moves if caller.sees_project(one.project)]
    simulation.delays = [one for one in simulation.delays if caller.sees_project(one.project)]
