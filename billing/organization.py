"""Usage and costs in the shape of OpenAI's administration API: buckets of time, page by page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from billing.reports import MAX_ROWS
from billing.store import ChargeRow, Ledger, UsageFilter, UsageRow
from billing.store.columns import DAY_MS, STEPS_MS, day_text, shown
from common.errors import InvalidInput
from common.vocabulary import shortened

CURRENCY = "credits"
WIDTHS_MS: Mapping[str, int] = {"1m": STEPS_MS["minute"], "1h": STEPS_MS["hour"], "1d": DAY_MS}
_STEPS = {"1m": "minute", "1h": "hour", "1d": "day"}
LIMITS: Mapping[str, tuple[int, int]] = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}
"""Width -> buckets of a page where none are asked for, and at most."""
COST_LIMIT = (7, 180)
FIELDS: Mapping[str, str] = {
    "project_id": "project",
    "user_id": "user",
    "api_key_id": "key",
    "model": "model",
}
"""What OpenAI calls our groups."""
COST_FIELDS: Mapping[str, str] = {
    "project_id": "project",
    "user_id": "user",
    "api_key_id": "key",
    "line_item": "model",
}
CONSTANTS: Mapping[str, Any] = {"batch": False, "service_tier": "default", "api_source": "unlabeled"}
"""Groups in which all usage is alike."""
TASKS: Mapping[str, tuple[str, ...]] = {
    "completions": ("", "chat", "completions"),
    "embeddings": ("embeddings",),
}
"""Kinds of usage that there are, and the tasks of each; what was used before tasks were told counts as
completions."""
RESULTS: Mapping[str, str] = {
    **{kind: kind for kind in ("completions", "embeddings", "moderations", "images", "audio_speeches")},
    **{kind: kind for kind in ("audio_transcriptions", "vector_stores", "code_interpreter_sessions")},
    "file_search_calls": "file_searches",
    "web_search_calls": "web_searches",
}
"""Paths that OpenAI has, and what their results are called. Of most there is nothing here to count."""
UNITS: Mapping[str, str] = {
    "device_seconds": "duration_seconds",
    "covered_device_seconds": "duration_seconds",
    "covered_microcredits": "microcredits",
}


@dataclass(frozen=True)
class Question:
    """Buckets of ``width`` from ``begin_ms`` (down to a whole bucket) to ``end_ms``, at most ``limit``."""

    begin_ms: int
    end_ms: int
    limit: int
    width: str = "1d"
    group_by: Sequence[str] = ()
    among: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def width_ms(self) -> int:
        return WIDTHS_MS[self.width]

    @property
    def first_ms(self) -> int:
        """When the first bucket begins."""
        return self.begin_ms - self.begin_ms % self.width_ms

    @property
    def last_ms(self) -> int:
        """When the page's last bucket ends."""
        buckets = -(-(self.end_ms - self.first_ms) // self.width_ms)
        return self.first_ms + min(buckets, self.limit) * self.width_ms

    def narrowed(self, scope: UsageFilter) -> UsageFilter:
        """What of the scope the page is about."""
        among = {**scope.among, **self.among}
        return replace(scope, from_ms=self.first_ms, to_ms=min(self.last_ms, self.end_ms), among=among)


async def usage_page(ledger: Ledger, kind: str, question: Question, scope: UsageFilter) -> dict[str, Any]:
    """Usage of one of ``RESULTS``, within ``scope``. Raises ``InvalidInput`` where rows are too many."""
    if kind not in TASKS:
        return _page(question, {})
    groups = _groups(question, FIELDS)
    where = question.narrowed(scope)
    where = replace(where, among={**where.among, "task": TASKS[kind], "kind": ("inference",)})
    rows = await ledger.usage([_STEPS[question.width], *groups], where, MAX_ROWS + 1)
    _check_size(rows)
    buckets: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        result = _completions(row) if kind == "completions" else _embeddings(row)
        told = {name: row.group[FIELDS[name]] or None for name in question.group_by if name in FIELDS}
        same = {name: CONSTANTS[name] for name in question.group_by if name in CONSTANTS}
        buckets.setdefault(row.group[_STEPS[question.width]], []).append({**result, **told, **same})
    return _page(question, buckets)


async def costs_page(ledger: Ledger, question: Question, scope: UsageFilter) -> dict[str, Any]:
    """Costs within ``scope``, in credits. Raises ``InvalidInput`` where there are too many rows."""
    groups = _groups(question, COST_FIELDS)
    rows = await ledger.charges(["day", *groups], question.narrowed(scope), MAX_ROWS + 1)
    _check_size(rows)
    buckets: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
    for row in rows:
        told = {name: _cost_field(name, row) for name in question.group_by if name in COST_FIELDS}
        found = buckets.setdefault(row.group["day"], {}).setdefault(tuple(told.values()), _cost(row, told))
        found["amount"]["value"] += row.microcredits
        if "line_item" in told:
            found["quantity"] += row.quantity
    results = {day: list(found.values()) for day, found in buckets.items()}
    for result in (one for found in results.values() for one in found):
        result["amount"]["value"] /= 1_000_000
    return _page(question, results)


def _groups(question: Question, fields: Mapping[str, str]) -> list[str]:
    for name in question.group_by:
        if name not in fields and name not in CONSTANTS:
            raise InvalidInput(
                f"group_by: {shortened(name, 80)!r} is unknown; choose from "
                f"{', '.join((*fields, *CONSTANTS))}",
                param="group_by",
            )
    return list(dict.fromkeys(fields[name] for name in question.group_by if name in fields))


def _check_size(rows: Sequence[object]) -> None:
    if len(rows) > MAX_ROWS:
        raise InvalidInput(
            f"limit: more than {MAX_ROWS} results; ask for fewer buckets or groups", param="limit"
        )


def _completions(row: UsageRow) -> dict[str, Any]:
    uncached = row.prompt_tokens - row.cached_tokens
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": row.prompt_tokens,
        "input_cached_tokens": row.cached_tokens,
        "input_uncached_tokens": uncached,
        "input_cache_write_tokens": 0,
        "output_tokens": row.completion_tokens,
        "input_audio_tokens": 0,
        "output_audio_tokens": 0,
        "num_model_requests": row.requests,
        **dict.fromkeys((*FIELDS, *CONSTANTS)),
    }


def _embeddings(row: UsageRow) -> dict[str, Any]:
    return {
        "object": "organization.usage.embeddings.result",
        "input_tokens": row.prompt_tokens,
        "num_model_requests": row.requests,
        **dict.fromkeys(FIELDS),
    }


def _cost_field(name: str, row: ChargeRow) -> str | None:
    if name != "line_item":
        return row.group[COST_FIELDS[name]] or None
    return f"{row.group['model']}, {row.meter}" if row.group["model"] else row.meter


def _cost(row: ChargeRow, told: Mapping[str, Any]) -> dict[str, Any]:
    by_line = "line_item" in told
    return {
        "object": "organization.costs.result",
        "amount": {"value": 0, "currency": CURRENCY},
        **dict.fromkeys((*COST_FIELDS, "api_source")),
        "quantity": 0 if by_line else None,
        "quantity_unit": UNITS.get(row.meter, "tokens") if by_line else None,
        **told,
    }


def _page(question: Question, buckets: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    data = []
    for begin_ms in range(question.first_ms, question.last_ms, question.width_ms):
        step = _STEPS[question.width]
        name = day_text(begin_ms // DAY_MS) if step == "day" else shown(step, str(begin_ms))
        data.append(
            {
                "object": "bucket",
                "start_time": begin_ms // 1000,
                "end_time": (begin_ms + question.width_ms) // 1000,
                "results": buckets.get(name, []),
            }
        )
    more = question.last_ms < question.end_ms
    next_page = f"page_{question.last_ms // 1000}" if more else None
    return {"object": "page", "data": data, "has_more": more, "next_page": next_page}
