"""``/v1/organization``: usage and costs as OpenAI's administration API tells them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request

from billing.organization import COST_LIMIT, LIMITS, RESULTS, Question, costs_page, usage_page
from common.errors import InvalidInput, NotFound
from common.vocabulary import MAX_TIME_MS, shortened
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.api.usage_scope import scope_of

MAX_VALUES = 100
"""Of one filter."""
_PAGE = re.compile(r"page_(\d{1,11})", re.ASCII)
_FILTERS = {"project_ids": "project", "user_ids": "user", "api_key_ids": "key", "models": "model"}
_COST_FILTERS = {name: _FILTERS[name] for name in ("project_ids", "user_ids", "api_key_ids")}

router = APIRouter(
    prefix="/v1/organization", tags=["usage"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES
)


@router.get("/usage/{kind}", summary="Usage by buckets of time, as OpenAI tells it")
async def get_usage(request: Request, caller: FromCaller, kind: str) -> dict[str, Any]:
    """``start_time`` (seconds; required), ``end_time``, ``bucket_width`` (1m, 1h, 1d), ``limit``, ``page``,
    ``group_by`` (project_id, user_id, api_key_id, model, …), ``project_ids``, ``user_ids``, ``api_key_ids``,
    ``models``."""
    context = context_of(request)
    scope = await scope_of(caller, context.store)
    if kind not in RESULTS:
        raise NotFound(f"there is no usage of {shortened(kind, 80)!r}; there is {', '.join(RESULTS)}")
    width = _one(request, "bucket_width") or "1d"
    if width not in LIMITS:
        raise _wrong("bucket_width", f"must be one of {', '.join(LIMITS)}")
    question = _question(request, context.clock.now_ms(), width, LIMITS[width], _FILTERS)
    return await usage_page(context.ledger, kind, question, scope)


@router.get("/costs", summary="Costs by day, as OpenAI tells them, in credits")
async def get_costs(request: Request, caller: FromCaller) -> dict[str, Any]:
    """``start_time`` (seconds; required), ``end_time``, ``limit``, ``page``, ``group_by`` (project_id,
    user_id, api_key_id, line_item), ``project_ids``, ``user_ids``, ``api_key_ids``."""
    context = context_of(request)
    scope = await scope_of(caller, context.store)
    if (_one(request, "bucket_width") or "1d") != "1d":
        raise _wrong("bucket_width", "must be 1d")
    question = _question(request, context.clock.now_ms(), "1d", COST_LIMIT, _COST_FILTERS)
    return await costs_page(context.ledger, question, scope)


def _question(
    request: Request, now_ms: int, width: str, limits: tuple[int, int], filters: Mapping[str, str]
) -> Question:
    begin_ms = _seconds(request, "start_time")
    if begin_ms is None:
        raise InvalidInput(
            "missing required parameter: start_time", "missing_required_parameter", "start_time"
        )
    end_ms = _seconds(request, "end_time")
    end_ms = now_ms if end_ms is None else end_ms
    page = _one(request, "page")
    if page:
        found = _PAGE.fullmatch(page)
        if found is None or not begin_ms <= int(found[1]) * 1000 < end_ms:
            raise _wrong("page", "is not what next_page said of this question")
        begin_ms = int(found[1]) * 1000
    if end_ms <= begin_ms:
        raise _wrong("end_time", "must be after start_time")
    return Question(
        begin_ms,
        end_ms,
        _limit(request, *limits),
        width,
        [name for text in _many(request, "group_by") for name in text.split(",") if name],
        {group: values for name, group in filters.items() if (values := _many(request, name))},
    )


def _limit(request: Request, usual: int, most: int) -> int:
    text = _one(request, "limit")
    if text is None:
        return usual
    if not text.isdecimal() or len(text) > 6 or not 1 <= int(text) <= most:
        raise _wrong("limit", f"must be a whole number from 1 to {most}")
    return int(text)


def _seconds(request: Request, name: str) -> int | None:
    """The time in milliseconds; None where there is none."""
    text = _one(request, name)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 15 or int(text) * 1000 > MAX_TIME_MS:
        raise _wrong(name, "must be a time in seconds since 1970")
    return int(text) * 1000


def _one(request: Request, name: str) -> str | None:
    return request.query_params.get(name)


def _many(request: Request, name: str) -> Sequence[str]:
    """A list, as ``name=a&name=b`` or ``name[]=a&name[]=b``."""
    given = (*request.query_params.getlist(name), *request.query_params.getlist(f"{name}[]"))
    found = list(dict.fromkeys(filter(None, given)))
    if len(found) > MAX_VALUES:
        raise _wrong(name, f"at most {MAX_VALUES} values, not {len(found)}")
    return found


def _wrong(name: str, message: str) -> InvalidInput:
    return InvalidInput(f"{name}: {message}", param=name)
