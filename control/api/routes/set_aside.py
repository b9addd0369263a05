"""Stored resources that today's kinds do not take any more: shown and removed by platform-admins."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from common.errors import Forbidden
from common.store.set_aside import SetAside
from control.admission.access import Caller
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of

router = APIRouter(
    prefix="/api/v1/set-aside", tags=["set-aside"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES
)


class SetAsideBody(BaseModel):
    """``reason`` says which places of the document are not taken any more."""

    kind: str
    name: str
    project: str | None = None
    reason: str


class SetAsideList(BaseModel):
    """By kind, project and name."""

    items: list[SetAsideBody]


@router.get(
    "", response_model=SetAsideList, summary="Resources of an older version that are not taken any more"
)
async def list_set_aside(request: Request, caller: FromCaller) -> dict[str, Any]:
    """They are in no list and no loop works on them; their names stay taken."""
    _require_admin(caller)
    return {"items": [_body(found) for found in await context_of(request).store.set_aside()]}


@router.delete("/{kind}/{name}", response_model=SetAsideBody, summary="Remove one of them for good")
async def remove_set_aside(
    request: Request,
    kind: str,
    name: str,
    caller: FromCaller,
    project: Annotated[str | None, Query(description="of the resource; unset = of no project")] = None,
) -> SetAsideBody:
    _require_admin(caller)
    context = context_of(request)
    async with context.write_lock:
        return _body(await context.store.remove_set_aside(kind, name, project))


def _require_admin(caller: Caller) -> None:
    if not caller.principal.is_platform_admin:
        caller.denied = True
        raise Forbidden("only platform-admins see what is set aside")


def _body(found: SetAside) -> SetAsideBody:
    return SetAsideBody(kind=found.kind, name=found.name, project=found.project, reason=found.reason)
