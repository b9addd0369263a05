"""Resources of every kind: list, get, apply, delete."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, create_model

from common.errors import InvalidInput, Problem
from common.resources import PLURALS, Resource
from common.store.answers import json_answer
from common.vocabulary import MAX_DOCUMENTS, MAX_NUMBER
from control.admission.access import document_of
from control.api.errors import ERROR_RESPONSES
from control.api.exchange import exchange_of
from control.api.requests import KEY_REQUIRED, FromCaller, context_of, json_of, parse_labels
from control.api.writes import (
    Written,
    apply_resources,
    delete_resource,
    names_in,
    parse_documents,
    visible_resource,
)
from control.core.permissions import TABLE

_DOCUMENTS: dict[str, Any] = {"items": {"type": "object"}, "minItems": 1, "maxItems": MAX_DOCUMENTS}
Outcome = Literal["created", "configured", "unchanged"]
FromProject = Annotated[
    str | None, Query(description="project of the resource; unset = the project of the key, if it has one")
]
FromDryRun = Annotated[bool, Query(alias="dryRun", description="check and answer, but write nothing")]


class AppliedResource(BaseModel):
    """What an apply did, or in a dry run would do. ``warnings``: what was taken and is hardly meant;
    ``effect``: what becomes of engines that run, in words, where something does."""

    outcome: Outcome
    resource: dict[str, Any]
    warnings: list[str] = []
    effect: str = ""


class ApplyResult(BaseModel):
    """One entry per document, in the order given."""

    results: list[AppliedResource]


@cache
def build_router() -> APIRouter:
    """The routes of all kinds, and ``/apply``. They are the same in every application."""
    router = APIRouter(prefix="/api/v1", dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES)
    router.add_api_route(
        "/apply",
        apply_documents,
        methods=["POST"],
        response_model=ApplyResult,
        tags=["resources"],
        summary="Apply a resource or a list of resources: all or none",
        openapi_extra=_body(
            {
                "oneOf": [
                    {"type": "object"},
                    {"type": "array", "items": {"type": "object"}, "minItems": 1, "maxItems": MAX_DOCUMENTS},
                ]
            }
        ),
    )
    for plural, kind in PLURALS.items():
        _add_kind(router, plural, kind)
    return router


async def apply_documents(request: Request, caller: FromCaller, dry_run: FromDryRun = False) -> JSONResponse:
    """Apply a resource or a list of them, in one transaction."""
    content = await json_of(request)
    documents = content if isinstance(content, list) else [content]
    if not 0 < len(documents) <= MAX_DOCUMENTS:
        raise InvalidInput(f"1 to {MAX_DOCUMENTS} resources can be applied at once, not {len(documents)}")
    exchange_of(request.scope).asked = names_in(documents)
    resources = parse_documents(documents)
    written = await apply_resources(
        context_of(request),
        caller,
        resources,
        dry_run=dry_run,
        answer=lambda done: json_answer({"results": _results(done)}),
    )
    return JSONResponse({"results": _results(written)})


def _results(written: Written) -> list[dict[str, Any]]:
    rows = zip(written.applied, written.warnings, written.effects, strict=True)
    return [
        {
            "outcome": one.outcome,
            "resource": document_of(one.resource),
            **({"warnings": odd} if odd else {}),
            **({"effect": effect} if effect else {}),
        }
        for one, odd, effect in rows
    ]


def _add_kind(router: APIRouter, plural: str, kind: type[Resource]) -> None:
    name = kind.__name__
    listing = create_model(f"{name}List", items=(list[kind], ...), revision=(int, ...))  # type: ignore[valid-type]
    applied = create_model(
        f"{name}Applied",
        outcome=(Outcome, ...),
        resource=(kind, ...),
        warnings=(list[str], []),
        effect=(str, ""),
    )
    common: dict[str, Any] = {"tags": [plural]}
    router.add_api_route(
        f"/{plural}",
        _lister(kind),
        response_model=listing,
        operation_id=f"list{name}s",
        summary=f"List {plural}",
        **common,
    )
    one = f"/{plural}/{{name}}"
    router.add_api_route(
        one, _getter(kind), response_model=kind, operation_id=f"get{name}", summary=f"Get a {name}", **common
    )
    if any("write" in verbs for verbs in TABLE[name].values()):
        router.add_api_route(
            one,
            _putter(kind),
            methods=["PUT"],
            response_model=applied,
            operation_id=f"apply{name}",
            summary=f"Create a {name} or change its spec",
            openapi_extra=_body({"$ref": f"#/components/schemas/{name}"}),
            **common,
        )
    else:
        router.add_api_route(one, _refuser(kind, "write"), methods=["PUT"], include_in_schema=False)
    if any("delete" in verbs for verbs in TABLE[name].values()):
        router.add_api_route(
            one,
            _deleter(kind),
            methods=["DELETE"],
            response_model=kind,
            operation_id=f"delete{name}",
            summary=f"Delete a {name}",
            **common,
        )
    else:
        router.add_api_route(one, _refuser(kind, "delete"), methods=["DELETE"], include_in_schema=False)


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _lister(kind: type[Resource]) -> Any:
    async def list_resources(
        request: Request,
        caller: FromCaller,
        project: FromProject = None,
        labels: Annotated[str | None, Query(description="only those with these labels: a=b,c=d")] = None,
    ) -> JSONResponse:
        caller.require(kind.__name__, "read")
        store = context_of(request).store
        if project:
            caller.project_for(kind, project)
            caller.require_project(project)
        revision = await store.revision()
        found = await store.list(kind, project=project or None, labels=parse_labels(labels))
        items = [document_of(resource) for resource in found if caller.sees(resource)]
        return JSONResponse({"items": items, "revision": revision})

    return list_resources


def _getter(kind: type[Resource]) -> Any:
    async def get_resource(
        request: Request, name: str, caller: FromCaller, project: FromProject = None
    ) -> JSONResponse:
        caller.require(kind.__name__, "read")
        where = caller.project_for(kind, project)
        return JSONResponse(
            document_of(await visible_resource(context_of(request), caller, kind, name, where))
        )

    return get_resource


def _putter(kind: type[Resource]) -> Any:
    async def put_resource(
        request: Request,
        name: str,
        caller: FromCaller,
        project: FromProject = None,
        dry_run: FromDryRun = False,
    ) -> JSONResponse:
        [resource] = parse_documents([await json_of(request)])
        _require_same("kind", resource.kind, kind.__name__)
        _require_same("metadata.name", resource.name, name)
        if project:
            _require_same("metadata.project", resource.project, project)
        written = await apply_resources(
            context_of(request),
            caller,
            [resource],
            dry_run=dry_run,
            answer=lambda done: json_answer(_results(done)[0]),
        )
        return JSONResponse(_results(written)[0])

    return put_resource


def _require_same(path: str, inside: str | None, outside: str) -> None:
    if inside != outside:
        message = f"{inside!r} in the body, but {outside!r} in the URL"
        raise InvalidInput(f"{path}: {message}", param=path, problems=(Problem(path, message),))


def _deleter(kind: type[Resource]) -> Any:
    async def delete_one(
        request: Request,
        name: str,
        caller: FromCaller,
        project: FromProject = None,
        dry_run: FromDryRun = False,
        resource_version: Annotated[
            int,
            Query(
                alias="resourceVersion",
                ge=0,
                le=MAX_NUMBER,
                description="refuse if it changed since; 0 = do not care",
            ),
        ] = 0,
    ) -> JSONResponse:
        where = caller.project_for(kind, project)
        deleted = await delete_resource(
            context_of(request),
            caller,
            kind,
            name,
            where,
            resource_version=resource_version,
            dry_run=dry_run,
            answer=lambda done: json_answer(document_of(done[0].resource)),
        )
        return JSONResponse(document_of(deleted))

    return delete_one


def _refuser(kind: type[Resource], verb: Literal["write", "delete"]) -> Any:
    async def refuse(request: Request, name: str, caller: FromCaller) -> None:
        caller.require(kind.__name__, verb)

    return refuse
