"""``/v1/batches`` in OpenAI's shapes, for the unchanged official client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from batches.api.requests import create_batch_schema, parse_create_batch
from batches.api.service import BatchService
from batches.objects import batch_object
from common.auth import Principal
from common.http_server.content import require_json
from common.resources import Batch
from common.store.answers import Answer, json_answer
from finetune.api.routes import page_of
from finetune.objects import page

_CONTENT = {"application/json": {"schema": create_batch_schema()}}
_BODY = {"requestBody": {"required": True, "content": _CONTENT}}
Authenticate = Callable[[Request], Awaitable[Principal]]


def build_router(service: BatchService, authenticate: Authenticate) -> APIRouter:
    """The routes. Errors are raised as ``ComputilityError``; the application turns them into answers."""
    routes = _Routes(service, authenticate)
    router = APIRouter(prefix="/v1")
    table: tuple[tuple[str, str, Callable[..., Any]], ...] = (
        ("POST", "/batches", routes.create),
        ("GET", "/batches", routes.list),
        ("GET", "/batches/{batch_id}", routes.get),
        ("POST", "/batches/{batch_id}/cancel", routes.cancel),
    )
    for method, path, handler in table:
        described = _BODY if handler == routes.create else None
        router.add_api_route(
            path, handler, methods=[method], tags=["batches"], response_model=None, openapi_extra=described
        )
    return router


class _Routes:
    def __init__(self, service: BatchService, authenticate: Authenticate) -> None:
        self._service, self._authenticate = service, authenticate

    async def create(self, request: Request) -> JSONResponse:
        principal, project = await self._enter(request)
        require_json(request.headers.get("content-type", ""))
        body = parse_create_batch(await request.body())
        request_key = request.headers.get("idempotency-key")
        batch = await self._service.create(principal, project, body, request_key, _answer())
        return JSONResponse(batch_object(batch))

    async def list(self, request: Request) -> JSONResponse:
        _, project = await self._enter(request)
        batches = await self._service.list(project)
        part, more = page_of(request, batches, lambda b: b.name, default=20, most=100)
        return JSONResponse(page([batch_object(batch) for batch in part], more))

    async def get(self, request: Request, batch_id: str) -> JSONResponse:
        _, project = await self._enter(request)
        return JSONResponse(batch_object(await self._service.get(project, batch_id)))

    async def cancel(self, request: Request, batch_id: str) -> JSONResponse:
        _, project = await self._enter(request)
        return JSONResponse(batch_object(await self._service.cancel(project, batch_id, _answer())))

    async def _enter(self, request: Request) -> tuple[Principal, str]:
        """Principal and project of a request."""
        principal = await self._authenticate(request)
        tuning = self._service.tuning
        project = await tuning.project_of(principal, request.headers.get("openai-project"))
        return principal, project.name


def _answer() -> Answer:
    def made(done: Any) -> Any:
        batch: Batch = done[0].resource
        return json_answer(batch_object(batch))

    return made
