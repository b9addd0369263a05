"""Whether a resource is as its spec wants it, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from common.errors import EngineFailed
from control.console.tables.tables import condition, ready_count

Document = Mapping[str, Any]
Progress = tuple[bool, str]


def progress_of(document: Document) -> Progress:
    """Whether it is in place, and in words. Raises ``EngineFailed`` where it never will be by itself."""
    judge = _JUDGES.get(document["kind"])
    return judge(document) if judge else (True, "applied")


def _is_current(document: Document, observed: int) -> bool:
    return observed in (0, document["metadata"].get("generation", 0))


def _endpoint(document: Document) -> Progress:
    found = condition(document, "Ready")
    if found is None or not _is_current(document, found.get("observedGeneration", 0)):
        return False, "the change is not seen yet"
    replicas = (document.get("status") or {}).get("replicas", [])
    leaving = sum(1 for replica in replicas if replica.get("draining"))
    said = f"{ready_count(document)} replicas answer"
    if leaving:
        return False, f"{said}; {leaving} old ones finish their requests"
    if any(replica.get("outdated") for replica in replicas):
        return False, found.get("message") or found["reason"]
    if found["status"] != "True":
        return False, found.get("message") or found["reason"]
    ready, _, wanted = str(ready_count(document)).partition("/")
    return int(ready) >= int(wanted.split()[0]), said


def _workload(document: Document) -> Progress:
    status = document.get("status") or {}
    phase = status.get("phase", "Pending")
    if phase == "Failed":
        raise EngineFailed(f"it has failed: {status.get('message') or 'see `computility logs`'}")
    said = f"{phase}: {status['message']}" if status.get("message") else phase
    return phase in ("Running", "Succeeded") and _is_current(
        document, status.get("observedGeneration", 0)
    ), said


def _ready(document: Document) -> Progress:
    found = condition(document, "Ready")
    if found is None:
        return False, "not looked at yet"
    return found["status"] == "True", found.get("message") or found["reason"]


_JUDGES: dict[str, Callable[[Document], Progress]] = {
    "Endpoint": _endpoint,
    "Workload": _workload,
    "Model": _ready,
}
