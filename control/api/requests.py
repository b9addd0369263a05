"""What routes take from a request."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from common.errors import InvalidInput, Unauthenticated
from common.http_server.content import require_json
from common.strict_json import parse_json
from common.vocabulary import MAX_LIST
from control.admission.access import Caller
from control.api.exchange import exchange_of
from control.context import ControlContext

_BEARER = HTTPBearer(auto_error=False, description="an API key (`ck-…`)")
_INTERNAL = HTTPBearer(auto_error=False, scheme_name="Internal", description="the instance's internal token")


def context_of(request: Request) -> ControlContext:
    """The parts of this process."""
    context: ControlContext = request.app.state.context
    return context


def caller_of(request: Request) -> Caller:
    """Who asks; the edge has checked the key already."""
    caller = exchange_of(request.scope).caller
    if caller is None:
        raise Unauthenticated("this needs an API key")
    return caller


FromCaller = Annotated[Caller, Depends(caller_of)]
KEY_REQUIRED: list[Any] = [Depends(_BEARER)]
"""Shows in the OpenAPI document that routes need a key; the edge is what checks it."""

TOKEN_REQUIRED: list[Any] = [Depends(_INTERNAL)]
"""Shows that routes need the internal token."""


async def json_of(request: Request) -> object:
    """The body as JSON; ``InvalidInput`` names the line that is malformed, ``UnsupportedMediaType`` what it
    says it is instead."""
    require_json(request.headers.get("content-type", ""))
    return parse_json(await request.body())


class _StrictRequest(Request):
    async def json(self) -> Any:
        return await json_of(self)


class StrictRoute(APIRoute):
    """A route whose body, parsed by FastAPI, is held to the same JSON as ``json_of`` takes."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler, has_body = super().get_route_handler(), self.body_field is not None

        async def handle(request: Request) -> Response:
            if has_body:
                require_json(request.headers.get("content-type", ""))
            return await handler(_StrictRequest(request.scope, request.receive))

        return handle


def parse_labels(text: str | None) -> dict[str, str]:
    """``a=b,c=d`` as a mapping; ``InvalidInput`` for anything else."""
    labels: dict[str, str] = {}
    for part in filter(None, (text or "").split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise InvalidInput(f"labels: {part!r} is no selector; write key=value", param="labels")
        labels[key] = value
    if len(labels) > MAX_LIST:
        raise InvalidInput(f"labels: at most {MAX_LIST}, not {len(labels)}", param="labels")
    return labels
