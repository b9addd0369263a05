"""``/v1/files`` and ``/v1/fine_tuning/jobs`` in OpenAI's shapes, for the unchanged official client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException

from common.auth import Principal
from common.errors import InvalidInput, UnsupportedMediaType
from common.http_server.content import require_json
from common.resources import FineTune
from common.resources.tuning import Checkpoint
from common.store.answers import Answer, json_answer
from finetune.api.requests import parse_create_job
from finetune.api.service import FineTuneService
from finetune.jobs.trainer_workload import checkpoint_served_name
from finetune.objects import checkpoint_object, event_object, file_object, job_object, page

Authenticate = Callable[[Request], Awaitable[Principal]]
T = TypeVar("T")

_CHUNK_BYTES = 256 * 1024
_FORM_BYTES = 64 * 1024
"""As much of an upload may be other than the file: its boundaries, names and other fields."""
_FILE_FIELDS = ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]")


def build_router(service: FineTuneService, authenticate: Authenticate) -> APIRouter:
    """The routes. Errors are raised as ``ComputilityError``; the application turns them into answers."""
    routes = _Routes(service, authenticate)
    router = APIRouter(prefix="/v1")
    jobs = "/fine_tuning/jobs"
    table: tuple[tuple[str, str, Callable[..., Any]], ...] = (
        ("POST", "/files", routes.create_file),
        ("GET", "/files", routes.list_files),
        ("GET", "/files/{file_id}", routes.get_file),
        ("DELETE", "/files/{file_id}", routes.delete_file),
        ("GET", "/files/{file_id}/content", routes.file_content),
        ("POST", jobs, routes.create_job),
        ("GET", jobs, routes.list_jobs),
        ("GET", jobs + "/{job_id}", routes.get_job),
        ("POST", jobs + "/{job_id}/cancel", routes.cancel_job),
        ("GET", jobs + "/{job_id}/events", routes.job_events),
        ("GET", jobs + "/{job_id}/checkpoints", routes.job_checkpoints),
        ("POST", jobs + "/{job_id}/checkpoints/{checkpoint_id}/serve", routes.serve_checkpoint),
    )
    for method, path, handler in table:
        tags: list[Any] = ["files" if path.startswith("/files") else "fine-tuning"]
        router.add_api_route(path, handler, methods=[method], tags=tags, response_model=None)
    return router


class _Routes:
    def __init__(self, service: FineTuneService, authenticate: Authenticate) -> None:
        self._service, self._authenticate = service, authenticate

    async def create_file(self, request: Request) -> JSONResponse:
        principal, project, _ = await self._enter(request, writes=True)
        _require_form(request)
        limits = await self._service.limits_for(principal, project)
        if limits is not None:
            await self._service.files.check_room(project, limits, _declared_bytes(request))
        try:
            form = await request.form(max_files=1, max_fields=len(_FILE_FIELDS))
        except MultiPartException as error:
            raise InvalidInput(f"the body is not a multipart form: {error.message}") from error
        try:
            upload = _upload_of(form)
            file = await self._service.files.create(
                project,
                upload.filename or "",
                _text(form, "purpose"),
                _chunks(upload),
                _expiry(form),
                limits=limits,
                answer=lambda done: json_answer(file_object(done[0].resource)),
            )
        finally:
            await form.close()
        return JSONResponse(file_object(file))

    async def list_files(self, request: Request) -> JSONResponse:
        _, project, _ = await self._enter(request)
        files = await self._service.files.list(project, request.query_params.get("purpose"))
        if _choice(request, "order", ("desc", "asc")) == "desc":
            files.reverse()
        part, more = page_of(request, files, lambda f: f.name, default=10_000, most=10_000)
        return JSONResponse(page([file_object(f) for f in part], more))

    async def get_file(self, request: Request, file_id: str) -> JSONResponse:
        _, project, _ = await self._enter(request)
        return JSONResponse(file_object(await self._service.files.get(project, file_id)))

    async def delete_file(self, request: Request, file_id: str) -> JSONResponse:
        _, project, _ = await self._enter(request, writes=True)
        deleted = {"id": file_id, "object": "file", "deleted": True}
        await self._service.files.delete(project, file_id, answer=lambda _: json_answer(deleted))
        return JSONResponse(deleted)

    async def file_content(self, request: Request, file_id: str) -> FileResponse:
        _, project, _ = await self._enter(request)
        file = await self._service.files.get(project, file_id)
        path = self._service.files.content_path(file)
        return FileResponse(path, media_type="application/octet-stream", filename=file.spec.filename)

    async def create_job(self, request: Request) -> JSONResponse:
        principal, project, tenant = await self._enter(request, writes=True)
        require_json(request.headers.get("content-type", ""))
        body = parse_create_job(await request.body())
        request_key = request.headers.get("idempotency-key")
        job = await self._service.create_job(principal, project, body, request_key, _job_answer(tenant))
        return JSONResponse(job_object(job, tenant))

    async def list_jobs(self, request: Request) -> JSONResponse:
        _, project, tenant = await self._enter(request)
        jobs = await self._service.list_jobs(project, _metadata_filter(request.query_params))
        part, more = page_of(request, jobs, lambda j: j.name, default=20, most=100)
        return JSONResponse(page([job_object(j, tenant) for j in part], more))

    async def get_job(self, request: Request, job_id: str) -> JSONResponse:
        job, tenant = await self._job(request, job_id)
        return JSONResponse(job_object(job, tenant))

    async def cancel_job(self, request: Request, job_id: str) -> JSONResponse:
        _, project, tenant = await self._enter(request, writes=True)
        job = await self._service.cancel_job(project, job_id, _job_answer(tenant))
        return JSONResponse(job_object(job, tenant))

    async def job_events(self, request: Request, job_id: str) -> JSONResponse:
        _, project, _ = await self._enter(request)
        events = await self._service.job_events(project, job_id)
        part, more = page_of(request, events, lambda e: e.id, default=20, most=100)
        return JSONResponse(page([event_object(e) for e in part], more))

    async def job_checkpoints(self, request: Request, job_id: str) -> JSONResponse:
        job, tenant = await self._job(request, job_id)
        newest_first = sorted(job.status.checkpoints, key=lambda c: c.step, reverse=True)
        part, more = page_of(request, newest_first, lambda c: c.id, default=10, most=100)
        return JSONResponse(page([_checkpoint(job, tenant, c) for c in part], more))

    async def serve_checkpoint(self, request: Request, job_id: str, checkpoint_id: str) -> JSONResponse:
        principal, project, tenant = await self._enter(request, writes=True)
        job, checkpoint, adapter = await self._service.serve_checkpoint(
            principal, project, tenant, job_id, checkpoint_id
        )
        return JSONResponse({**_checkpoint(job, tenant, checkpoint), "adapter": adapter.name})

    async def _enter(self, request: Request, *, writes: bool = False) -> tuple[Principal, str, str]:
        """Principal, project and tenant of a request."""
        principal = await self._authenticate(request)
        if writes:
            principal.require("member", "tenant-admin")
        project = await self._service.project_of(principal, request.headers.get("openai-project"))
        return principal, project.name, project.spec.tenant

    async def _job(self, request: Request, job_id: str) -> tuple[FineTune, str]:
        _, project, tenant = await self._enter(request)
        return await self._service.get_job(project, job_id), tenant


def _checkpoint(job: FineTune, tenant: str, checkpoint: Checkpoint) -> dict[str, Any]:
    return checkpoint_object(job, checkpoint_served_name(job, tenant, checkpoint.step), checkpoint)


def _declared_bytes(request: Request) -> int:
    """At least so long the file is, as the request says; 0 when it does not say."""
    length = request.headers.get("content-length", "")
    return max(0, int(length[:18]) - _FORM_BYTES) if length.isascii() and length.isdigit() else 0


def _job_answer(tenant: str) -> Answer:
    return lambda done: json_answer(job_object(done[0].resource, tenant))


def _require_form(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    if not content_type.lower().startswith("multipart/form-data"):
        raise UnsupportedMediaType(
            f"Content-Type: {content_type[:100]!r} is not taken here; send the file as multipart/form-data",
            code="unsupported_content_type",
            param="Content-Type",
            accepts=("accept-post", "multipart/form-data"),
        )


def _upload_of(form: FormData) -> UploadFile:
    for name in form:
        if name not in _FILE_FIELDS:
            raise InvalidInput(f"{name}: unknown field", code="unknown_parameter", param=name)
    upload = form.get("file")
    if not isinstance(upload, UploadFile):
        raise InvalidInput("file: required, but missing", code="missing_required_parameter", param="file")
    return upload


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    if not isinstance(value, str):
        raise InvalidInput(f"{name}: required, but missing", code="missing_required_parameter", param=name)
    return value


def _expiry(form: FormData) -> int | None:
    """``expires_after[seconds]``, counted from the only anchor that there is."""
    anchor, seconds = form.get("expires_after[anchor]"), form.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidInput("expires_after[anchor]: must be 'created_at'", param="expires_after[anchor]")
    return _whole_number(seconds, "expires_after[seconds]")


async def _chunks(upload: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await upload.read(_CHUNK_BYTES):
        yield chunk


def _whole_number(value: object, name: str) -> int:
    if not isinstance(value, str) or not value.isascii() or not value.isdigit():
        raise InvalidInput(f"{name}: must be a whole number", param=name)
    return int(value[:18])


def _choice(request: Request, name: str, choices: tuple[str, ...]) -> str:
    """A query parameter that is one of ``choices``; the first is the default."""
    value = request.query_params.get(name, choices[0])
    if value not in choices:
        raise InvalidInput(f"{name}: must be {' or '.join(choices)}, not {value!r}", param=name)
    return value


def _metadata_filter(query: Mapping[str, str]) -> dict[str, str]:
    """``metadata[key]=value`` parameters."""
    return {k[9:-1]: v for k, v in query.items() if k.startswith("metadata[") and k.endswith("]")}


def page_of(
    request: Request, items: Sequence[T], id_of: Callable[[T], str], *, default: int, most: int
) -> tuple[Sequence[T], bool]:
    """The items after ``after``, at most ``limit``, and whether there are more."""
    limit = _whole_number(request.query_params.get("limit", str(default)), "limit")
    if not 1 <= limit <= most:
        raise InvalidInput(f"limit: must be from 1 to {most}", param="limit")
    start, after = 0, request.query_params.get("after")
    if after:
        ids = [id_of(item) for item in items]
        if after not in ids:
            raise InvalidInput(f"after: there is no {after!r} in this list", param="after")
        start = ids.index(after) + 1
    return items[start : start + limit], len(items) > start + limit
