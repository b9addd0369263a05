"""Whether a resource is as its spec wants it, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from common.errors import EngineFailed
from control.console.tables.tables import condition, failure_text, ready_count

Document = Mapping[str, Any]
CRASHED = ("CrashLoopBackOff", "Failed")
HOPELESS = (
    "ModelNotFound",
    "PathNotFound",
    "ConfigMissing",
    "ConfigUnreadable",
    "WeightsMissing",
    "LinkLeadsOutside",
    "NameTaken",
    "InvalidInput",
    "TooLittleMemory",
)
"""Reasons of ``Ready`` that no waiting changes."""
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
    _refuse_hopeless(found, replicas)
    if leaving:
        return False, f"{said}; {leaving} old ones finish their requests"
    if any(replica.get("outdated") for replica in replicas):
        return False, found.get("message") or found["reason"]
    if found["status"] != "True":
        is_off = document["spec"].get("replicas") == 0 and not replicas
        return is_off, found.get("message") or found["reason"]
    ready, _, wanted = str(ready_count(document)).partition("/")
    return int(ready) >= int(wanted.split()[0]), said


def _refuse_hopeless(ready: Document, replicas: Sequence[Document]) -> None:
    """Raises where waiting is in vain: nothing can be started, or what was started ends again and again."""
    if ready["reason"] in HOPELESS:
        raise EngineFailed(ready.get("message") or ready["reason"])
    for one in replicas:
        if one.get("neverFits") and not one.get("outdated"):
            why = one.get("message") or "it fits on no node of the pool"
            raise EngineFailed(f"{one['workload']} is {one['phase']}: {why}")
        if one.get("phase") in CRASHED and not one.get("outdated"):
            why = f": {one['message']}" if one.get("message") else ""
            raise EngineFailed(
                f"{one['workload']} is {one['phase']}{why}; `computility logs {one['workload']} -p`"
            )


def _workload(document: Document) -> Progress:
    status = document.get("status") or {}
    phase = status.get("phase", "Pending")
    why = " — ".join(filter(None, (status.get("message"), failure_text(status))))
    if phase in CRASHED:
        raise EngineFailed(f"it is {phase}: {why or 'see `computility logs`'}")
    if status.get("neverFits"):
        raise EngineFailed(f"{phase}: {why}")
    said = f"{phase}: {status['message']}" if status.get("message") else phase
    return phase in ("Running", "Succeeded") and _is_current(
        document, status.get("observedGeneration", 0)
    ), said


def _ready(document: Document) -> Progress:
    found = condition(document, "Ready")
    if found is None or not _is_current(document, found.get("observedGeneration", 0)):
        return False, "not looked at yet"
    _refuse_hopeless(found, ())
    return found["status"] == "True", found.get("message") or found["reason"]


_JUDGES: dict[str, Callable[[Document], Progress]] = {
    "Endpoint": _endpoint,
    "Workload": _workload,
    "Model": _ready,
}
