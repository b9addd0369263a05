"""Stopping a key, project, tenant or model by hand, and letting it go on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from common.auth import Principal
from common.errors import Forbidden, InvalidInput, NotFound
from common.pauses import BY_GUARD, BY_PLATFORM, BY_TENANT, KINDS, PAUSED, Pausable, is_locked, is_paused
from common.resources import Model, Resource
from common.resources.fields import Text
from common.resources.meta import Model as Part
from common.store.port import StatusWrite
from common.store.transitions import event_of
from control.admission.access import Caller
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, StrictRoute, context_of
from control.api.writes import visible_resource
from control.context import ControlContext

router = APIRouter(
    prefix="/api/v1/pauses",
    tags=["pauses"],
    dependencies=KEY_REQUIRED,
    responses=ERROR_RESPONSES,
    route_class=StrictRoute,
)
_BY = {BY_PLATFORM: "platform-admin", BY_GUARD: "guard"}
NO_REASON = "no reason was given"
LIST_LIMIT = 1000
OfProject = Annotated[str | None, Query(max_length=253, description="of a model; unset = that of the key")]


class PauseRequest(Part):
    """Why it is to stop. Who is refused is told so."""

    reason: Text = ""


class PauseBody(BaseModel):
    """A pause. ``by`` is the role of who made it, or ``guard``: what a platform-admin paused only one
    resumes."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    scope: Pausable
    name: str
    project: str | None = Field(None, description="of a model")
    since_ms: int
    by: str
    reason: str


class PauseList(BaseModel):
    """Keys, projects, tenants and models, each by name."""

    items: list[PauseBody]


@router.get("", response_model=PauseList, summary="What is paused")
async def list_pauses(
    request: Request,
    caller: FromCaller,
    after: Annotated[
        str | None,
        Query(max_length=600, description="the last one so far: scope/name, or model/project/name"),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=LIST_LIMIT)] = LIST_LIMIT,
) -> PauseList:
    caller.require("pauses", "read")
    store, items = context_of(request).store, list[PauseBody]()
    begin, (project, name) = _place_of(after)
    for scope in list(KINDS)[begin:]:
        found = [one for one in await store.list(KINDS[scope]) if is_paused(one) and _owns(caller, one)]
        for one in sorted(found, key=lambda one: (one.project or "", one.name)):
            is_later = scope != list(KINDS)[begin] or (one.project or "", one.name) > (project, name)
            if is_later and len(items) < limit:
                items.append(_body(scope, one))
    return PauseList(items=items)


def _place_of(after: str | None) -> tuple[int, tuple[str, str]]:
    """Where in the list it is: of which scope, project and name. Raises ``InvalidInput``."""
    if after is None:
        return 0, ("", "")
    scope, _, rest = after.partition("/")
    project, _, name = rest.rpartition("/")
    if scope not in KINDS or not name:
        raise InvalidInput("after: must be like key/ci or model/search/tiny", param="after")
    return list(KINDS).index(scope), (project, name)


@router.put("/{scope}/{name}", response_model=PauseBody, summary="Stop a key, project, tenant or model")
async def put_pause(
    request: Request,
    scope: Pausable,
    name: str,
    wanted: PauseRequest,
    caller: FromCaller,
    project: OfProject = None,
) -> PauseBody:
    """Gateways refuse its requests, and end those that run, within a second; the rest of the platform goes
    on. A pause that a platform-admin made stays as it is where another role pauses again."""
    caller.require("pauses", "write")
    context = context_of(request)
    async with context.write_lock:
        found = await _found(context, caller, scope, name, project)
        if scope == "key" and name == caller.principal.key:
            raise InvalidInput("name: this key could not be resumed with itself; use another", param="name")
        if is_locked(found) and not caller.principal.is_platform_admin:
            return _body(scope, found)
        rank = BY_PLATFORM if caller.principal.is_platform_admin else BY_TENANT
        return _body(scope, await _write(context, caller, found, rank, wanted.reason or NO_REASON))


@router.delete("/{scope}/{name}", response_model=PauseBody, summary="Let what is paused go on")
async def delete_pause(
    request: Request, scope: Pausable, name: str, caller: FromCaller, project: OfProject = None
) -> PauseBody:
    """The answer is the pause that has ended."""
    caller.require("pauses", "write")
    context = context_of(request)
    async with context.write_lock:
        found = await _found(context, caller, scope, name, project)
        if not is_paused(found):
            raise NotFound(f"the {scope} {name} is not paused")
        if is_locked(found) and not caller.principal.is_platform_admin:
            caller.denied = True
            raise Forbidden(f"a platform-admin paused the {scope} {name}: only one resumes it")
        ended = _body(scope, found)
        await _write(context, caller, found, "", "")
        return ended


async def pauses_of(context: ControlContext, who: Principal) -> list[PauseBody]:
    """What keeps the requests of a key from being answered: its project's pause, or its tenant's."""
    named: tuple[tuple[Pausable, str | None], ...] = (("project", who.project), ("tenant", who.tenant))
    found = [(scope, await context.store.find(KINDS[scope], name)) for scope, name in named if name]
    return [_body(scope, one) for scope, one in found if one is not None and is_paused(one)]


async def _found(
    context: ControlContext, caller: Caller, scope: Pausable, name: str, project: str | None
) -> Resource:
    """What is meant, if it exists for the caller and is the caller's to stop."""
    kind = KINDS[scope]
    if project and kind is not Model:
        raise InvalidInput(f"project: a {scope} is known by its name alone", param="project")
    where = caller.project_for(kind, project) if kind is Model else None
    found = await visible_resource(context, caller, kind, name, where)
    if not _owns(caller, found):
        raise caller.hidden(kind.__name__, name, where)
    return found


def _owns(caller: Caller, resource: Resource) -> bool:
    """What others share is theirs to stop."""
    return caller.sees(resource, "write")


async def _write(
    context: ControlContext, caller: Caller, found: Resource, rank: str, reason: str
) -> Resource:
    """Pause it at this rank, or resume it where that is empty; with the event that tells of it."""
    now_ms, key, changed = context.clock.now_ms(), caller.principal.key, found.copy_deep()
    changed.status.set_condition(
        PAUSED, bool(rank), rank or "Resumed", reason, now_ms=now_ms, generation=found.metadata.generation
    )
    if rank:
        event = event_of(changed, "warning", PAUSED, f"paused by the key {key}: {reason}", now_ms, now_ms)
    else:
        event = event_of(changed, "info", "Resumed", f"resumed by the key {key}", now_ms, now_ms)
    (written,) = await context.store.set_statuses([StatusWrite(changed, (event,))])
    if isinstance(written, Exception):
        raise written
    return changed


def _body(scope: Pausable, paused: Resource) -> PauseBody:
    condition = paused.status.condition(PAUSED)
    return PauseBody(
        scope=scope,
        name=paused.name,
        project=paused.project,
        since_ms=condition.last_transition_ms,
        by=_BY.get(condition.reason, "tenant-admin"),
        reason=condition.message,
    )
