"""``GET /api/v1/projects/{name}/limits``: what a project may hold, and what it holds."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from common.limits import FIELDS, limits_of, origin_of, queues_of
from common.resources import ApiKey, Batch, Endpoint, File, FineTune, Job, Project, Tenant
from control.admission.references import FINISHED_JOBS, keys_in_force
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.api.writes import visible_resource
from control.context import ControlContext

router = APIRouter(
    prefix="/api/v1/projects", tags=["projects"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES
)


class LimitInUse(BaseModel):
    """One limit by its name in ``spec.limits``; ``used`` is null where there is nothing to count. ``origin``
    says who set it: project, tenant or settings."""

    name: str
    used: int | None
    limit: int
    origin: str


class ProjectLimitsInUse(BaseModel):
    """``queues`` are those that the project may use; empty = all."""

    items: list[LimitInUse]
    queues: list[str]


@router.get(
    "/{name}/limits", response_model=ProjectLimitsInUse, summary="What a project may hold, and what it holds"
)
async def get_limits(request: Request, name: str, caller: FromCaller) -> ProjectLimitsInUse:
    caller.require("Project", "read")
    context = context_of(request)
    project = await visible_resource(context, caller, Project, name, None)
    tenant = await context.store.find(Tenant, project.spec.tenant)
    limits, used = limits_of(project, tenant, context.settings.limits), await _used(context, name)
    rows = [
        LimitInUse(
            name=to_camel(field),
            used=used.get(field),
            limit=getattr(limits, field),
            origin=origin_of(field, project, tenant),
        )
        for field in FIELDS
    ]
    return ProjectLimitsInUse(items=rows, queues=queues_of(project, tenant))


async def _used(context: ControlContext, project: str) -> dict[str, int]:
    store = context.store
    sizes = await store.sizes(project)
    files = await store.list(File, project=project)
    jobs = [job.status.state not in FINISHED_JOBS for job in await store.list(FineTune, project=project)]
    own = [job for job in await store.list(Job, project=project) if not job.has_ended]
    endpoints = await store.list(Endpoint, project=project)
    keys = [key for key in await store.list(ApiKey) if key.spec.project == project]
    counts = {kind: size.count for kind, size in sizes.items()}
    return {
        "max_replicas": max(
            (*(e.spec.engine_ranks for e in endpoints), *(job.spec.replicas for job in own)), default=0
        ),
        "max_total_replicas": sum(endpoint.spec.engine_ranks for endpoint in endpoints),
        "max_endpoints": counts.get("Endpoint", 0),
        "max_models": counts.get("Model", 0),
        "max_adapters": counts.get("Adapter", 0) + sum(jobs),
        "max_jobs": max(sum(jobs), len(own)),
        "max_batches": sum(not b.has_ended for b in await store.list(Batch, project=project)),
        "max_files": len(files),
        "max_file_bytes": sum(file.spec.size_bytes for file in files),
        "max_document_bytes": sum(size.document_bytes for size in sizes.values()),
        "max_keys": len(list(keys_in_force(keys, context.clock.now_ms()))),
    }
