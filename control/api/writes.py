"""Applying and deleting resources on behalf of a caller. One write at a time, so that checks hold when
written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from billing.store.orders import Orders
from common.errors import ComputilityError, Conflict, Forbidden, InvalidInput, NotFound, Problem
from common.pauses import is_locked
from common.resources import ApiKey, Endpoint, Project, Resource, Tenant, parse_resource
from common.store.answers import Answer, Replay
from common.store.port import Applied, Delete, Put, R, Store
from common.store.rules import not_found
from control.admission.access import Caller
from control.admission.effects import Effects
from control.admission.lookup import References
from control.admission.references import check_delete, check_write, keys_in_force
from control.admission.rights import check_limits
from control.admission.warnings import warnings_of
from control.context import ControlContext
from control.core.permissions import Owner
from inference.device_table import WAIT_SECONDS

MOST_NAMED = 20
"""Documents of a refused apply that the audit log names."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")


@dataclass(frozen=True)
class Written:
    """What an apply did, what was odd about each resource, and what becomes of engines that run (empty =
    nothing), in their order."""

    applied: Sequence[Applied[Resource]]
    warnings: Sequence[Sequence[str]]
    effects: Sequence[str]


def names_in(documents: Sequence[object]) -> str:
    """What the documents say that they are about, for the audit log: ``Queue/research, Model/lab/tiny``. Of
    texts that are no names nothing is told."""
    told = ["/".join(_words_of(document)) or "a document without kind and name" for document in documents]
    more = f" and {len(told) - MOST_NAMED} more" if len(told) > MOST_NAMED else ""
    return ", ".join(told[:MOST_NAMED]) + more


def _words_of(document: object) -> Iterator[str]:
    content = document if isinstance(document, Mapping) else {}
    metadata = content.get("metadata")
    inner = metadata if isinstance(metadata, Mapping) else {}
    for word in (content.get("kind"), inner.get("project"), inner.get("name")):
        if isinstance(word, str) and _NAME.fullmatch(word):
            yield word


def parse_documents(documents: Sequence[object]) -> list[Resource]:
    """The documents as resources. Raises ``InvalidInput`` naming the path; in a list, ``[2].spec.model``."""
    resources: list[Resource] = []
    for index, document in enumerate(documents):
        try:
            resources.append(_parse(document))
        except InvalidInput as error:
            if len(documents) == 1:
                raise
            raise _at(index, error) from error
    keys = [resource.key for resource in resources]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise InvalidInput(f"the same resource is given twice: {', '.join(twice)}")
    return resources


def _parse(document: object) -> Resource:
    if isinstance(document, dict) and document.get("status"):
        message = "written by controllers only; leave it out"
        raise InvalidInput(f"status: {message}", param="status", problems=(Problem("status", message),))
    return parse_resource(document)


E = TypeVar("E", bound=ComputilityError)


def _at(index: int, error: E) -> E:
    """The same error, saying which of several documents it is about."""
    where = f"[{index}]"
    problems = tuple(Problem(f"{where}.{p.path}", p.message, p.code) for p in error.problems)
    param = f"{where}.{error.param}" if error.param else where
    return type(error)(f"{where}: {error.message}", error.code, param, problems)


async def apply_resources(
    context: ControlContext,
    caller: Caller,
    resources: Sequence[Resource],
    *,
    dry_run: bool,
    answer: Callable[[Written], Replay] | None = None,
) -> Written:
    """Write all in one transaction, or none when any is refused. A dry run answers what would happen."""
    too_little = await _too_little(context, resources)
    async with context.write_lock:
        caller.directory = await context.directories.current()
        references = References(context.store, resources, context.settings, context.clock.now_ms())
        projects = {r.name: r for r in resources if isinstance(r, Project)}
        # Projects first: what others are checked against is what will be stored of them.
        for index in sorted(range(len(resources)), key=lambda i: not isinstance(resources[i], Project)):
            try:
                await _check(resources[index], caller, references, projects)
            except (InvalidInput, Forbidden, Conflict, NotFound) as error:
                raise (_at(index, error) if len(resources) > 1 else error) from error
        await check_limits(resources, caller, references)
        warnings = [
            [*await warnings_of(resource, references), *too_little.get(resource.key, ())]
            for resource in resources
        ]
        effects_of = Effects(context.engines, context.settings, references, caller).of
        effects = [await effects_of(resource) for resource in resources]
        done = await context.store.write_all(
            [Put(resource) for resource in resources],
            dry_run=dry_run,
            answer=None if answer is None else lambda done: answer(Written(done, warnings, effects)),
        )
        return Written(done, warnings, effects)


async def _too_little(context: ControlContext, resources: Sequence[Resource]) -> Mapping[str, Sequence[str]]:
    """Endpoint -> why no devices of the pool can hold its engines. It looks at nodes and files, so no other
    write waits for it; for nodes it waits once, however many Endpoints there are."""
    references = References(context.store, resources, context.settings, context.clock.now_ms())
    told, wait_seconds = dict[str, Sequence[str]](), WAIT_SECONDS
    for endpoint in resources:
        if isinstance(endpoint, Endpoint):
            model = await references.model_of(endpoint, endpoint.spec.model)
            if model is not None:
                why = await context.memory.why_too_little(endpoint, model, wait_seconds)
                told[endpoint.key] = (why,) if why else ()
                wait_seconds = 0.0
    return told


async def _check(
    resource: Resource, caller: Caller, references: References, projects: dict[str, Project]
) -> None:
    caller.require(resource.kind, "write")
    if resource.project is not None and not _sees_project(resource.project, caller, projects):
        raise caller.hidden("Project", resource.project)
    old = await references.stored(resource)
    owner = resource.metadata.owner
    if owner is not None and (old is None or old.metadata.owner != owner):
        raise InvalidInput("metadata.owner: set by controllers only; leave it out", param="metadata.owner")
    await check_write(resource, caller, references)


def _sees_project(name: str, caller: Caller, projects: dict[str, Project]) -> bool:
    """Whether the project exists for the caller, or will when this request is done."""
    made_here = projects.get(name)
    if made_here is not None and name not in caller.directory.tenants:
        return caller.sees_owner(Owner(tenant=made_here.spec.tenant, project=name), "write")
    return caller.sees_project(name)


async def delete_resource(
    context: ControlContext,
    caller: Caller,
    kind: type[R],
    name: str,
    project: str | None,
    *,
    resource_version: int = 0,
    dry_run: bool = False,
    answer: Answer | None = None,
) -> R:
    """Remove and return the resource; ``NotFound`` when it does not exist for the caller, ``Conflict`` when
    in use.
    """
    caller.require(kind.__name__, "delete")
    async with context.write_lock:
        found = await visible_resource(context, caller, kind, name, project)
        if not caller.sees(found, "delete"):
            raise caller.hidden(kind.__name__, name, project)
        if is_locked(found) and not caller.principal.is_platform_admin:
            caller.denied = True
            raise Forbidden(f"{kind.__name__} {name} was paused by a platform-admin: only one deletes it")
        now_ms = context.clock.now_ms()
        await check_delete(found, caller, context.store, now_ms)
        await _refuse_with_orders(found, context)
        wanted = Delete(kind, name, project, resource_version)
        dead = await _dead_keys(found, context.store, now_ms)
        gone = await context.store.write_all([wanted, *dead], dry_run=dry_run, answer=answer)
        return cast(R, gone[0].resource)


async def _refuse_with_orders(tenant: Resource, context: ControlContext) -> None:
    """What a tenant has bought would pay for the usage of a later one of its name."""
    if not isinstance(tenant, Tenant):
        return
    held = await Orders(context.ledger.database, context.clock).latest(tenant.name, open_only=True, limit=1)
    if held:
        raise Conflict(
            f"{tenant.key} cannot be deleted: its order {held[0].order.id} is not over; cancel it first, or "
            "wait for its end",
            code="in_use",
        )


async def _dead_keys(scope: Resource, store: Store, now_ms: int) -> list[Delete]:
    """The revoked and expired keys of a tenant or project: they go with it."""
    if not isinstance(scope, Project | Tenant):
        return []
    keys = await store.list(ApiKey)
    in_force = {key.name for key in keys_in_force(keys, now_ms)}
    return [
        Delete(ApiKey, key.name)
        for key in keys
        if key.name not in in_force
        and scope.name == (key.spec.project if isinstance(scope, Project) else key.spec.tenant)
    ]


async def visible_resource(
    context: ControlContext, caller: Caller, kind: type[R], name: str, project: str | None
) -> R:
    """The resource, if it exists for the caller; else ``NotFound``."""
    found = await context.store.find(kind, name, project)
    if found is None:
        raise not_found(kind.__name__, name, project)
    if not caller.sees(found):
        raise caller.hidden(kind.__name__, name, project)
    return found
