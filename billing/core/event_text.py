"""The JSON of an event that its digest is of, put together of what is the same in many events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from billing.core.events import UsageEvent

_OLD = ("base_model", "device_class", "key", "kind", "model", "outcome", "project", "resource", "tenant")
_YOUNG = ("model_identity", "endpoint", "adapter_identity", "service_tier")
"""Left out where they are empty, as all that is younger than the first events."""
_NAMES = (*_OLD, *_YOUNG)
_METERS = ("cached_tokens", "completion_tokens", "device_seconds", "prompt_tokens", "trained_tokens")
_names_of = attrgetter(*_NAMES)
_quoted = json.JSONEncoder().encode


class _Parts(NamedTuple):
    """Pieces that only the names of an event decide."""

    first: str
    second: str
    endpoint: str
    third: str
    fourth: str
    fifth: str
    last: str


def sorted_json(event: UsageEvent) -> str:
    """What ``json.dumps`` makes, sorted, of all that the event says, without meters at zero."""
    part = _parts(event.model_shared, *_names_of(event))
    admitted = f'"admitted_ms": {event.admitted_ms}, ' if event.admitted_ms else ""
    tags = f'"tags": {_texts(event.tags)}, ' if event.tags else ""
    user = f', "user": {_quoted(event.user)}' if event.user else ""
    return (
        f'{part.first}{admitted}{part.second}"ended_ms": {event.ended_ms}, {part.endpoint}'
        f'"id": {_quoted(event.id)}, {part.third}"labels": {_texts(event.labels)}, '
        f'{part.fourth}"quantities": {_amounts(event.quantities)}, '
        f'{part.fifth}"started_ms": {event.started_ms}, {tags}{part.last}{user}}}'
    )


@lru_cache(maxsize=4096)
def _parts(shared: bool, *names: str) -> _Parts:
    said = dict(zip(_NAMES, names, strict=True))

    def piece(*wanted: str) -> str:
        there = [name for name in wanted if said[name] or name not in _YOUNG]
        return "".join([f'"{name}": {_quoted(said[name])}, ' for name in there])

    model = piece("model", "model_identity") + ('"model_shared": true, ' if shared else "")
    return _Parts(
        first="{" + piece("adapter_identity"),
        second=piece("base_model", "device_class"),
        endpoint=piece("endpoint"),
        third=piece("key", "kind"),
        fourth=model + piece("outcome", "project"),
        fifth=piece("resource", "service_tier"),
        last=piece("tenant").removesuffix(", "),
    )


def _texts(mapping: Mapping[str, str]) -> str:
    return f"{{{', '.join([f'{_quoted(name)}: {_quoted(mapping[name])}' for name in sorted(mapping)])}}}"


def _amounts(quantities: Mapping[str, int]) -> str:
    amounts = [f'"{meter}": {quantities[meter]}' for meter in _METERS if quantities.get(meter)]
    return f"{{{', '.join(amounts)}}}"
