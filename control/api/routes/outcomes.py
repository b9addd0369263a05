"""Outcomes: what work has brought, recorded by its owners; and returns, beside what it cost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from billing.core.outcomes import ID_CHARACTERS, TASK, Outcome, Work, id_of
from billing.returns import RETURN_GROUPS, returns_report
from billing.store import UsageFilter
from billing.store.columns import TAG
from billing.store.known_work import Owner
from billing.store.outcomes import LIST_LIMIT, Outcomes, Recorded
from common.clock import rfc3339
from common.errors import InvalidInput
from common.resources import Project, Tenant
from common.resources.fields import Name
from control.admission.access import Caller
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, StrictRoute, context_of
from control.api.usage_scope import scope_of, tags_of, time_ms
from control.context import ControlContext
from control.core.permissions import Verb

router = APIRouter(
    prefix="/api/v1",
    tags=["usage"],
    dependencies=KEY_REQUIRED,
    responses=ERROR_RESPONSES,
    route_class=StrictRoute,
)
Span = Annotated[str | None, Query(description="RFC 3339, date or milliseconds")]


class OutcomeRequest(BaseModel):
    """What a piece of work brought. The work is a ``task`` (requests name it in ``metadata`` as ``task``) or
    all that has another ``tag``, like ``{"workflow": "intake"}``; it has to have usage."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="of what came of it, like ticket_resolved")
    task: str | None = None
    tag: dict[str, str] | None = Field(None, description="one pair, in place of task")
    id: str | None = Field(
        None, description="the same again is counted once; a task's is `task:name`, where it is left out"
    )
    count: StrictInt = 1
    value_microcredits: StrictInt = Field(0, description="of all together; negative = a loss")
    quality_millis: StrictInt | None = Field(None, description="0 to 1000 = best; null = not judged")
    at: str | None = Field(None, max_length=64, description="RFC 3339: when it came; null = now")
    tenant: Name | None = Field(None, description="needed by platform-admins")
    project: Name | None = Field(None, description="null = that of the work's usage; members have their own")
    tags: dict[str, str] = Field({}, description="beside those that all usage of the work has")


class OutcomeBody(BaseModel):
    """An outcome as reports count it. ``tags`` are its own and those of its work's usage; ``withdrawn`` null
    = it counts; ``repeated``: it was there before, and nothing was written now."""

    id: str
    tenant: str
    project: str
    tags: dict[str, str]
    work: str
    name: str
    count: int
    value_microcredits: int
    quality_millis: int | None
    at: str
    recorded: str
    withdrawn: str | None
    repeated: bool


class OutcomeList(BaseModel):
    """Those that were recorded last first."""

    items: list[OutcomeBody]


class ReturnsBody(BaseModel):
    """Each row holds its group and ``cost_microcredits``, ``outcomes`` (their count), ``value_microcredits``,
    ``net_microcredits`` (value less cost), ``roi_millis`` (net by cost, in thousandths),
    ``cost_per_outcome_microcredits`` and ``quality_millis``; null where there is nothing to divide by."""

    group_by: list[str]
    rows: list[dict[str, Any]]
    total: dict[str, Any]


@router.post(
    "/outcomes",
    response_model=OutcomeBody,
    status_code=201,
    summary="Record what a task, or other tagged work, has brought",
    responses={200: {"model": OutcomeBody, "description": "It was recorded before"}},
)
async def post_outcome(
    request: Request, response: Response, caller: FromCaller, body: OutcomeRequest
) -> OutcomeBody:
    context = context_of(request)
    whose = await _whose(caller, context, "write", body.tenant, body.project)
    recorded = await _outcomes(context).record(_outcome_of(body, whose), whose.owner)
    response.status_code = 200 if recorded.repeated else 201
    return _body(recorded)


@router.delete(
    "/outcomes/{id:path}", response_model=OutcomeBody, summary="Withdraw an outcome: it counts no more"
)
async def withdraw_outcome(
    request: Request,
    caller: FromCaller,
    id: Annotated[str, Path(min_length=1, max_length=ID_CHARACTERS)],
    tenant: str | None = None,
) -> OutcomeBody:
    """It stays in the list, and its id is not used again."""
    context = context_of(request)
    whose = await _whose(caller, context, "delete", tenant, None)
    return _body(await _outcomes(context).withdraw(whose.owner, id, whose.project or None))


@router.get("/outcomes", response_model=OutcomeList, summary="Outcomes, those that were recorded last first")
async def list_outcomes(
    request: Request,
    caller: FromCaller,
    tenant: str | None = None,
    project: str | None = None,
    name: str | None = None,
    from_: Annotated[Span, Query(alias="from")] = None,
    to: Span = None,
    tag: Annotated[str | None, Query(description="name=value; several by commas")] = None,
    limit: Annotated[int, Query(ge=1, le=LIST_LIMIT)] = LIST_LIMIT,
) -> OutcomeList:
    """By when they came, withdrawn ones too."""
    context = context_of(request)
    where = await _where(caller, context, tenant, project, from_, to, tag)
    found = await _outcomes(context).latest(where, name, limit)
    return OutcomeList(items=[_body(one) for one in found])


@router.get("/returns", response_model=ReturnsBody, summary="What work has brought, beside what it cost")
async def get_returns(
    request: Request,
    caller: FromCaller,
    group_by: Annotated[
        str, Query(description=f"by commas: {', '.join(RETURN_GROUPS)}, or {TAG}<name>; tasks are {TAG}task")
    ] = "",
    tenant: str | None = None,
    project: str | None = None,
    from_: Annotated[Span, Query(alias="from")] = None,
    to: Span = None,
    tag: Annotated[str | None, Query(description="name=value; several by commas")] = None,
) -> dict[str, Any]:
    """Cost is what usage that ended in the time was charged, value that of outcomes that came in it."""
    context = context_of(request)
    where = await _where(caller, context, tenant, project, from_, to, tag)
    groups = [name for name in group_by.split(",") if name]
    report = await returns_report(context.ledger, _outcomes(context), groups, where)
    return await asyncio.to_thread(report.to_dict)


class _Whose(NamedTuple):
    """``project`` empty = any of the tenant's."""

    tenant: str
    project: str
    owner: Owner


def _outcomes(context: ControlContext) -> Outcomes:
    return Outcomes(context.ledger.database, context.clock, context.work_searches)


async def _where(
    caller: Caller,
    context: ControlContext,
    tenant: str | None,
    project: str | None,
    from_: str | None,
    to: str | None,
    tag: str | None,
) -> UsageFilter:
    caller.require("outcomes", "read")
    scope = await scope_of(caller, context.store, tenant, project)
    return replace(scope, from_ms=time_ms("from", from_), to_ms=time_ms("to", to), among=tags_of(tag))


async def _whose(
    caller: Caller, context: ControlContext, verb: Verb, tenant: str | None, project: str | None
) -> _Whose:
    """Whose outcomes these are, as far as the caller may have them so."""
    caller.require("outcomes", verb)
    who = caller.principal
    project = project or who.project
    if project is not None:
        of_project = caller.require_project(project)
        if tenant not in (None, of_project):
            raise InvalidInput(f"project: {project} is none of the tenant {tenant}", param="project")
        tenant = of_project
    tenant = tenant or who.tenant
    if tenant is None:
        raise InvalidInput("tenant: required; whose outcomes are these?", param="tenant")
    caller.require_tenant(tenant)
    found = await context.store.find(Tenant, tenant)
    if found is None:
        raise caller.hidden("Tenant", tenant)
    made = [found.metadata.created_ms]
    if project is not None:
        made.append((await context.store.get(Project, project)).metadata.created_ms)
    projects = tuple(sorted(name for name, of in caller.directory.tenants.items() if of == tenant))
    return _Whose(tenant, project or "", Owner(found.metadata.uid, max(made), projects))


def _outcome_of(body: OutcomeRequest, whose: _Whose) -> Outcome:
    """Raises ``InvalidInput`` that names the field."""
    work = _work_of(body)
    id_ = id_of(work, body.name) if body.id is None else body.id
    if id_ is None:
        raise InvalidInput(
            "id: required for work that is no task, which has many outcomes of a name; the same id again is "
            "counted once",
            param="id",
        )
    if body.id is None and len(id_) > ID_CHARACTERS:
        raise InvalidInput("id: required, since `task:name` is too long for one", param="id")
    return Outcome(
        id=id_,
        tenant=whose.tenant,
        work=work,
        name=body.name,
        count=body.count,
        value_microcredits=body.value_microcredits,
        quality_millis=body.quality_millis,
        at_ms=time_ms("at", body.at),
        project=whose.project,
        tags=body.tags,
    )


def _work_of(body: OutcomeRequest) -> Work:
    if body.task is not None and body.tag is None:
        return Work(TASK, body.task)
    if body.tag is None or body.task is not None:
        raise InvalidInput("task: say which task this is of, or which tag; one of them", param="task")
    if len(body.tag) != 1:
        raise InvalidInput(f"tag: must be one pair, not {len(body.tag)}", param="tag")
    return Work(*next(iter(body.tag.items())))


def _body(one: Recorded) -> OutcomeBody:
    return OutcomeBody(
        id=one.id,
        tenant=one.tenant,
        project=one.project,
        tags=dict(one.tags),
        work=str(one.work),
        name=one.name,
        count=one.count,
        value_microcredits=one.value_microcredits,
        quality_millis=one.quality_millis,
        at=rfc3339(one.at_ms),
        recorded=rfc3339(one.recorded_ms),
        withdrawn=None if one.withdrawn_ms is None else rfc3339(one.withdrawn_ms),
        repeated=one.repeated,
    )
