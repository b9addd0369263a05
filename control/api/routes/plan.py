"""What would serve an Endpoint's load, and at what cost."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from common.errors import Forbidden, InvalidInput
from common.resources import Endpoint, Model, Project, Resource
from control.admission.lookup import References
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, StrictRoute, context_of
from control.api.writes import apply_resources, parse_documents
from control.context import ControlContext
from control.core.permissions import allows
from control.planning.answers import MAX_ENDPOINTS, Plan, PlanRequest

router = APIRouter(
    prefix="/api/v1",
    tags=["pool"],
    dependencies=KEY_REQUIRED,
    responses=ERROR_RESPONSES,
    route_class=StrictRoute,
)


@router.post(
    "/plan",
    response_model=Plan,
    summary="What would serve these Endpoints within their SLO, and at what cost; nothing is written",
)
async def post_plan(request: Request, caller: FromCaller, body: PlanRequest) -> JSONResponse:
    """The documents are checked as for ``/apply``. To plan with the pool's devices needs the right to read
    Nodes; others name devices."""
    context = context_of(request)
    resources = parse_documents(body.documents)
    endpoints = [resource for resource in resources if isinstance(resource, Endpoint)]
    if not endpoints:
        raise InvalidInput("documents: there is no Endpoint among them", param="documents")
    if len(endpoints) > MAX_ENDPOINTS:
        raise InvalidInput(
            f"documents: at most {MAX_ENDPOINTS} Endpoints are planned at once, not {len(endpoints)}; "
            "ask for the others afterwards",
            param="documents",
        )
    await apply_resources(context, caller, resources, dry_run=True)
    if body.devices is None and not allows(caller.principal.role, "Node", "read"):
        raise Forbidden(
            "devices: only who may read Nodes plans with the pool's; name some (--devices nvidia/H200=16)",
            param="devices",
        )
    plans = []
    for endpoint in endpoints:
        stock = await context.planner.stock(endpoint, body.devices)
        model, tenant = await _model_and_tenant(endpoint, resources, context)
        plans.append(await context.planner.plan(endpoint, model, tenant, stock, body.config))
    return JSONResponse(Plan(plans=plans).to_dict())


async def _model_and_tenant(
    endpoint: Endpoint, resources: Sequence[Resource], context: ControlContext
) -> tuple[Model, str]:
    """The Endpoint's Model (of its project, else a shared one) and its project's tenant, as they would be."""
    after = References(context.store, resources, context.settings, context.clock.now_ms())
    project = await after.find(Project, endpoint.project or "")
    own = await after.find(Model, endpoint.spec.model, endpoint.project)
    model = own or next(iter(await after.shared_models(endpoint.spec.model)), None)
    if model is None or project is None:
        raise InvalidInput(f"spec.model: there is no Model {endpoint.spec.model}", param="spec.model")
    return model, project.spec.tenant
