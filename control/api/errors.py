"""Errors as answers: the shape of OpenAI everywhere, with ``problems`` where several places are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.routing import Match

from common.errors import (
    DATABASE_UNAVAILABLE,
    ComputilityError,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    TooManyRequests,
    Unavailable,
    mapping_of,
    openai_body,
)
from common.http_server.front import headers_of
from common.resources.saying import problems_in
from common.telemetry import get_logger
from control.api.exchange import exchange_of
from control.api.requests import context_of

_log = get_logger(__name__)


class ProblemBody(BaseModel):
    """One place that is wrong."""

    path: str
    message: str
    code: str


class ErrorContent(BaseModel):
    """What went wrong, and where."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None
    problems: list[ProblemBody] = []


class ErrorBody(BaseModel):
    """Every error of this API."""

    error: ErrorContent


ERROR_RESPONSES: dict[int | str, dict[str, object]] = {
    status: {"model": ErrorBody, "description": HTTPStatus(status).phrase}
    for status in (400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 503)
}


def error_response(error: ComputilityError, status: int | None = None) -> JSONResponse:
    """The answer for an error of ours."""
    if error.code == DATABASE_UNAVAILABLE:  # where the database is concerns those who run it, not callers
        _log.error("database unavailable", error=error.message)
        error = Unavailable("the database cannot be used now; try again later", code=error.code)
    status = status or mapping_of(error).http_status
    headers = dict(headers_of(error))
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "1"
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(error.retry_after_seconds)
    return JSONResponse(openai_body(error), status, headers)


def install_error_handlers(app: FastAPI) -> None:
    """Make every error that a route raises an answer in our shape."""
    app.add_exception_handler(ComputilityError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ComputilityError)
    return _noted(request, error)


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [{**one, "loc": one["loc"][1:] or one["loc"]} for one in error.errors()]
    problems = problems_in(cast(Sequence[ErrorDetails], found))
    text = "; ".join(f"{p.path}: {p.message}" for p in problems)
    return _noted(request, InvalidInput(text, param=problems[0].path, problems=problems))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ComputilityError):
        return _noted(request, error.__cause__)
    if error.status_code == HTTPStatus.NOT_FOUND:
        hint = _at_the_gateway(request)
        return _noted(request, NotFound(f"there is no {request.method} {request.url.path}{hint}"))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _methods_of(request)
        text = f"{request.url.path} does not take {request.method}, but {' and '.join(allowed)}"
        return _noted(request, MethodNotAllowed(text, allowed=allowed))
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    message = f"{request.method} {request.url.path}: {error.detail}"
    answer = _noted(request, InvalidInput(message, code), error.status_code)
    answer.headers.update(error.headers or {})
    return answer


_OF_THE_GATEWAY = ("chat/completions", "completions", "embeddings", "models")


def _at_the_gateway(request: Request) -> str:
    """Where models answer, for a client that was given control's address."""
    path = request.url.path.strip("/").removeprefix("v1").strip("/")
    if not path.startswith(_OF_THE_GATEWAY):
        return ""
    return f"; models answer at the gateway, whose base URL is {context_of(request).settings.gateway_url}"


def _methods_of(request: Request) -> tuple[str, ...]:
    """All methods of the path: each has a route of its own."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found.update(getattr(route, "methods", None) or ())
    return tuple(sorted(found))


def _noted(request: Request, error: ComputilityError, status: int | None = None) -> JSONResponse:
    exchange_of(request.scope).error_code = error.code
    return error_response(error, status)
