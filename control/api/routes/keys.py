"""API keys: made, listed and revoked. A secret is shown once, when the key is made; the store keeps its
digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pydantic.alias_generators import to_camel

from common.clock import rfc3339
from common.data_class import is_within
from common.errors import Conflict, Forbidden, InvalidInput
from common.ids import new_secret, secret_digest
from common.limits import check_room, find_limits, limits_of
from common.resources import ApiKey, Metadata, Tenant
from common.resources.fields import ModelNames, Name, TimeMs
from common.resources.meta import Model
from common.resources.people import ApiKeySpec, ApiKeyStatus, DataGuard, Role
from common.resources.rates import RateLimits
from common.store.answers import Answer, Replay, json_answer
from common.store.port import Applied, Delete, Put, Store, Write
from control.admission.access import Caller, document_of
from control.admission.lookup import missing
from control.admission.references import keys_in_force
from control.admission.warnings import unknown_models
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, StrictRoute, context_of
from control.api.writes import visible_resource
from control.context import ControlContext
from control.core.permissions import PAGE, may_grant

HINT_CHARACTERS = 8
ADMIN_KEY = "admin"


class KeyRequest(Model):
    """A key to make. ``project`` is required for members and agents, ``tenant`` for tenant-admins."""

    name: Name
    role: Role
    tenant: Name | None = None
    project: Name | None = None
    models: ModelNames = Field(
        default_factory=list, description="served names it may use; empty = all visible"
    )
    expires_ms: TimeMs | None = Field(None, description="milliseconds since the epoch; unset = never")
    rate_limits: RateLimits = Field(default_factory=RateLimits, description="of all requests with the key")
    data: DataGuard = Field(default_factory=DataGuard, description="of all requests with the key")


class KeyMade(BaseModel):
    """``secret`` is shown this once; null when an Idempotency-Key is repeated. ``warnings``: what was taken
    and is hardly meant."""

    name: str
    secret: str | None
    resource: ApiKey
    warnings: list[str] = []


class KeyList(BaseModel):
    """Keys without their secrets."""

    items: list[ApiKey]


router = APIRouter(
    prefix="/api/v1/keys",
    tags=["keys"],
    dependencies=KEY_REQUIRED,
    responses=ERROR_RESPONSES,
    route_class=StrictRoute,
)


@router.post("", response_model=KeyMade, status_code=201, summary="Make an API key; its secret is shown once")
async def post_key(request: Request, wanted: KeyRequest, caller: FromCaller) -> JSONResponse:
    context = context_of(request)
    caller.require("keys", "write")
    if not may_grant(caller.principal.role, wanted.role):
        caller.denied = True
        raise Forbidden(
            f"role: a {caller.principal.role} makes no keys with the role {wanted.role}; only a "
            f"platform-admin does. {PAGE} has who gives which role",
            param="role",
        )
    async with context.write_lock:
        caller.directory = await context.directories.current()
        spec = await _spec_of(wanted, caller, context)
        _check_within(wanted, caller)
        old = await context.store.find(ApiKey, wanted.name)
        if old is not None and not caller.sees(old):
            raise Conflict(f"the name {wanted.name} is taken; choose another", param="name")
        left_over = await _make_room(spec, caller, context)
        made = await make_key(
            context,
            wanted.name,
            spec,
            made_by=caller.key_uid,
            left_over=[key for key in left_over if key.name != wanted.name],
            answer=_answer_without_secret,
        )
        warnings = await unknown_models(spec.models, caller, context.store)
    return made_response(made, 201, warnings)


@router.get("", response_model=KeyList, summary="List keys")
async def list_keys(request: Request, caller: FromCaller) -> JSONResponse:
    caller.require("keys", "read")
    keys = await context_of(request).store.list(ApiKey)
    return JSONResponse({"items": [document_of(key) for key in keys if caller.sees(key)]})


@router.delete("/{name}", response_model=ApiKey, summary="Revoke a key: it is refused from now on")
async def revoke_key(
    request: Request,
    name: str,
    caller: FromCaller,
    made: Annotated[bool, Query(description="also the keys that were made with it, and with those")] = False,
) -> JSONResponse:
    context = context_of(request)
    caller.require("keys", "delete")
    async with context.write_lock:
        key = await visible_resource(context, caller, ApiKey, name, None)
        ending = [key, *(_made_with(key, await context.store.list(ApiKey)) if made else ())]
        for one in ending:
            one.spec.revoked = True
        applied = await context.store.write_all(
            [Put(one) for one in ending], answer=lambda done: json_answer(document_of(done[0].resource))
        )
    return JSONResponse(document_of(applied[0].resource))


def _made_with(key: ApiKey, keys: Sequence[ApiKey]) -> list[ApiKey]:
    """The keys that were made with the key, or with one of those."""
    found: dict[str, ApiKey] = {}
    makers = [key.metadata.uid]
    while makers:
        maker = makers.pop()
        made = [one for one in keys if one.status.made_by == maker and one.metadata.uid not in found]
        found.update({one.metadata.uid: one for one in made})
        makers += [one.metadata.uid for one in made]
    return [one for one in found.values() if one.metadata.uid != key.metadata.uid]


async def _keep_descent(leaving: Sequence[ApiKey], store: Store) -> None:
    """Keys whose maker leaves the store count as made by that key's maker: whoever has a name used anew, or
    waits until it is forgotten, does not get out of ``made=true``."""
    makers = {key.metadata.uid: key.status.made_by for key in leaving if key.status.made_by}
    if not makers:
        return
    for key in await store.list(ApiKey):
        maker = key.status.made_by
        while maker in makers:
            maker = makers[maker]
        if maker != key.status.made_by and key.metadata.uid not in makers:
            key.status.made_by = maker
            await store.set_status(key)


def _check_within(wanted: KeyRequest, caller: Caller) -> None:
    """A key makes no key that can do more than itself, or lives longer."""
    own = caller.principal.models
    beyond = [model for model in wanted.models if model not in own]
    if own and (beyond or not wanted.models):
        may = ", ".join(own)
        _refuse(caller, "models", f"the key {caller.principal.key} may use only {may}; name some of them")
    for name, most in caller.rate_limits:
        asked = getattr(wanted.rate_limits, name)
        if most is not None and (asked is None or asked > most):
            path = f"rateLimits.{to_camel(name)}"
            _refuse(caller, path, f"the key {caller.principal.key} has {most}; name that or less")
    _check_data(wanted.data, caller)
    if caller.expires_ms is not None and (wanted.expires_ms is None or wanted.expires_ms > caller.expires_ms):
        until = f"{caller.expires_ms} ({rfc3339(caller.expires_ms)})"
        _refuse(caller, "expiresMs", f"the key {caller.principal.key} ends at {until}; name that or earlier")


def _check_data(wanted: DataGuard, caller: Caller) -> None:
    """What may not be sent out with the key is not sent out with one that it makes."""
    least, regions, key = caller.data.data_class, caller.data.regions, caller.principal.key
    if least is not None and (wanted.data_class is None or not is_within(least, wanted.data_class)):
        _refuse(caller, "data.dataClass", f"the data of key {key} are {least}; name that or a higher class")
    if regions is not None and (wanted.regions is None or not set(wanted.regions) <= set(regions)):
        may = ", ".join(regions) or "none"
        _refuse(caller, "data.regions", f"the data of key {key} may go to {may}; name some of them, or []")


def _refuse(caller: Caller, path: str, message: str) -> None:
    caller.denied = True
    raise Forbidden(f"{path}: {message}", param=path)


async def _make_room(spec: ApiKeySpec, caller: Caller, context: ControlContext) -> list[ApiKey]:
    """Raise ``Forbidden`` when the project (or tenant, for its admins' keys) has as many keys as it may.

    Returns keys that are not in force any more, oldest first, beyond as many as are kept for the record.
    """
    if spec.tenant is None:
        return []
    settings = context.settings.limits
    if spec.project is not None:
        limits, who = await find_limits(context.store, spec.project, settings), f"project {spec.project}"
    else:
        tenant = await context.store.find(Tenant, spec.tenant)
        limits, who = limits_of(None, tenant, settings), f"tenant {spec.tenant}"
    keys = [k for k in await context.store.list(ApiKey) if _scope(k.spec) == _scope(spec)]
    in_force = {key.name for key in keys_in_force(keys, context.clock.now_ms())}
    if not caller.principal.is_platform_admin:
        check_room(who, "maxKeys", limits.max_keys, len(in_force), 1)
    over = sorted((k for k in keys if k.name not in in_force), key=lambda k: (k.metadata.created_ms, k.name))
    return over[: max(0, len(over) - max(limits.max_keys or 0, 1))]


def _scope(spec: ApiKeySpec) -> tuple[str | None, str | None]:
    return spec.tenant, spec.project


async def _spec_of(wanted: KeyRequest, caller: Caller, context: ControlContext) -> ApiKeySpec:
    """The spec of the key, its tenant and project checked to exist for the caller."""
    role, project = wanted.role, wanted.project
    tenant = wanted.tenant
    if role in ("member", "agent"):
        if project is None:
            raise InvalidInput(f"project: required for role {role}", param="project")
        owner = caller.require_project(project)
        if tenant not in (None, owner):
            raise InvalidInput(f"tenant: project {project} does not belong to {tenant}", param="tenant")
        tenant = owner
    elif project is not None:
        raise InvalidInput(f"project: not allowed for role {role}", param="project")
    if role == "tenant-admin":
        tenant = tenant or caller.principal.tenant
        if tenant is None:
            raise InvalidInput("tenant: required for role tenant-admin", param="tenant")
        caller.require_tenant(tenant)
        if await context.store.find(Tenant, tenant) is None:
            raise missing("tenant", f"there is no Tenant {tenant!r}")
    if role == "platform-admin" and tenant is not None:
        raise InvalidInput("tenant: not allowed for role platform-admin", param="tenant")
    now_ms = context.clock.now_ms()
    if wanted.expires_ms is not None and wanted.expires_ms <= now_ms:
        message = f"expiresMs: must lie in the future; now is {now_ms} ({rfc3339(now_ms)})"
        raise InvalidInput(message, param="expiresMs")
    return ApiKeySpec(
        role=role,
        tenant=tenant,
        project=project,
        models=wanted.models,
        expires_ms=wanted.expires_ms,
        rate_limits=wanted.rate_limits,
        data=wanted.data,
    )


async def make_key(
    context: ControlContext,
    name: str,
    spec: ApiKeySpec,
    *,
    replace: bool = False,
    made_by: str = "",
    left_over: Sequence[ApiKey] = (),
    answer: Answer | None = None,
    secret: str = "",
) -> tuple[ApiKey, str]:
    """Store a new key, remove those that are ``left_over``, and return it with its secret. The write lock
    must be held. ``made_by`` is the uid of the key with which it is made. ``secret``: where it is known
    already; else it is drawn.

    A name may be used again when its key is revoked or expired (or with ``replace``); else ``Conflict``.
    """
    old = await context.store.find(ApiKey, name)
    if old is not None and not replace and list(keys_in_force([old], context.clock.now_ms())):
        raise Conflict(f"a key {name} is in force; revoke it or choose another name", param="name")
    secret = secret or new_secret("ck")
    status = ApiKeyStatus(digest=secret_digest(secret), hint=secret[:HINT_CHARACTERS], made_by=made_by)
    key = ApiKey(metadata=Metadata(name=name), spec=spec, status=status)
    writes: list[Write] = [Put(key)] if old is None else [Put(key), Delete(ApiKey, name)]
    writes += [Delete(ApiKey, one.name) for one in left_over]
    await _keep_descent([*left_over, *([old] if old is not None else [])], context.store)
    made = await context.store.write_all(writes, answer=answer)
    return cast(ApiKey, made[0].resource), secret


async def bootstrap_admin(context: ControlContext, *, rotate: bool) -> tuple[ApiKey, str]:
    """The first platform-admin key. Raises ``Conflict`` when one is in force, unless ``rotate`` replaces
    it.
    """
    async with context.write_lock:
        keys = keys_in_force(await context.store.list(ApiKey), context.clock.now_ms())
        admins = [key.name for key in keys if key.spec.role == "platform-admin"]
        if admins and not rotate:
            raise Conflict(
                f"a platform-admin key is in force already: {', '.join(admins)}; "
                'send {"rotate": true} for a new admin key',
                code="already_bootstrapped",
            )
        return await make_key(context, ADMIN_KEY, ApiKeySpec(role="platform-admin"), replace=True)


def made_response(made: tuple[ApiKey, str], status: int, warnings: Sequence[str] = ()) -> JSONResponse:
    """The answer that shows the secret."""
    more = {"warnings": list(warnings)} if warnings else {}
    return JSONResponse({**_key_made(*made), **more}, status, {"Cache-Control": "no-store"})


def _key_made(key: ApiKey, secret: str | None) -> dict[str, Any]:
    return {"name": key.name, "secret": secret, "resource": document_of(key)}


def _answer_without_secret(done: Sequence[Applied[ApiKey]]) -> Replay:
    """What a repeated Idempotency-Key gets: keeping the secret for it would be keeping it."""
    return json_answer(_key_made(done[0].resource, None), 201)
