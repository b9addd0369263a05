"""Stored documents that today's kinds do not take any more: an older version wrote them. They are set aside,
so that lists, watches and loops go on without them. Their names stay taken."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import Counter
from pydantic import ValidationError

from common.errors import Conflict
from common.resources import KINDS, Resource, load_stored, problems_of
from common.telemetry import get_logger

MOST_KNOWN = 10_000
"""So many documents are remembered as logged; then logging begins anew."""
_UNREADABLE = Counter(
    "computility_documents_set_aside", "Stored resources that today's kinds do not take", ("kind",)
)
_log = get_logger(__name__)
_known: set[int] = set()


@dataclass(frozen=True)
class SetAside:
    """A stored resource that is set aside, and what is wrong with it."""

    kind: str
    name: str
    project: str | None
    reason: str


def read_document(kind: str, document: str) -> Resource | None:
    """A stored document as the resource of its kind; None when it is set aside, which is logged once."""
    try:
        return load_stored(kind, document)
    except (ValidationError, KeyError) as error:
        mark = hash((kind, document))
        if mark not in _known:
            if len(_known) >= MOST_KNOWN:
                _known.clear()
            _known.add(mark)
            _UNREADABLE.labels(kind).inc()
            _log.error("stored resource set aside", kind=kind, reason=reason_of(error))
        return None


def what_is_wrong(kind: str, document: str) -> str:
    """Why a stored document is set aside; empty when it is not."""
    try:
        load_stored(kind, document)
    except (ValidationError, KeyError) as error:
        return reason_of(error)
    return ""


def reason_of(error: ValidationError | KeyError) -> str:
    """What is wrong with a document: places and rules, never its values."""
    if isinstance(error, KeyError):
        return "kind: is unknown"
    return "; ".join(f"{p.path}: {p.message}" for p in problems_of(error)[:10])


def check_free(kind: str, name: str, document: str) -> None:
    """Refuse to write over what is set aside where the name itself gives rights: of a project, a tenant, a
    key. Within a project whoever may write the resource may write it anew."""
    scope = KINDS[kind].SCOPE if kind in KINDS else "cluster"
    reason = what_is_wrong(kind, document) if scope != "project" else ""
    if reason:
        raise Conflict(
            f"the name of {kind} {name!r} is taken by a resource of an older version that is set aside "
            f"({reason}); a platform-admin removes it with DELETE /api/v1/set-aside",
            code="set_aside",
        )
