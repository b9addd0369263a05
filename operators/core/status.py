"""A status of control as Kubernetes shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

MAX_STATUS_BYTES = 256 * 1024
"""Of a status in Kubernetes: longer lists lose their ends. What is stored there may have 1.5 MB in all."""
SYNCED = "Synced"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOAD = frozenset(("memoryUsedBytes", "utilisationPercent", "temperatureCelsius", "powerWatts"))
"""What of a node's devices changes all the time, and is left out: `computility top` shows it."""


@dataclass(frozen=True)
class Synced:
    """Whether control has what is wanted. ``generation`` is that of the custom resource."""

    holds: bool
    reason: str
    message: str
    generation: int


def status_of(
    seen: Mapping[str, Any] | None,
    old: Mapping[str, Any],
    synced: Synced,
    now_ms: int,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The status that the custom resource should have: what control says (nothing where it has nothing), the
    ``Synced`` condition, and ``extra``."""
    said = dict((seen or {}).get("status") or {})
    conditions = [_condition(c, seen or {}, synced.generation) for c in said.pop("conditions", None) or ()]
    said.pop("observedGeneration", None)
    status = _reduced(said)
    if isinstance(status.get("replicas"), list):
        status["currentReplicas"] = len(status["replicas"])
    status |= extra or {}
    conditions.append(_synced(old.get("conditions") or (), synced, now_ms))
    status["conditions"] = conditions
    if synced.holds:
        status["observedGeneration"] = synced.generation
    elif "observedGeneration" in old:
        status["observedGeneration"] = old["observedGeneration"]
    told: dict[str, Any] = without_empty(status)
    return bounded(told)


def without_empty(value: Any) -> Any:
    """The same without empty texts, which say as much as none. Old servers take them for null, and would be
    told again and again."""
    if isinstance(value, dict):
        return {key: without_empty(part) for key, part in value.items() if part != ""}
    return [without_empty(part) for part in value] if isinstance(value, list) else value


def _condition(said: Mapping[str, Any], seen: Mapping[str, Any], generation: int) -> dict[str, Any]:
    """A condition of control; one of an earlier spec is of an earlier generation here too."""
    is_current = said.get("observedGeneration", 0) >= seen.get("metadata", {}).get("generation", 0)
    return {
        "type": said.get("type", "Unknown"),
        "status": said.get("status", "Unknown"),
        "reason": said.get("reason", ""),
        "message": said.get("message", ""),
        "lastTransitionTime": moment(said.get("lastTransitionMs", 0)),
        "observedGeneration": generation if is_current else max(0, generation - 1),
    }


def _synced(conditions: Sequence[Mapping[str, Any]], synced: Synced, now_ms: int) -> dict[str, Any]:
    """The condition; its time moves only when its status does."""
    status = "True" if synced.holds else "False"
    old = next((c for c in conditions if c.get("type") == SYNCED), None)
    before = old.get("lastTransitionTime") if old and old.get("status") == status else None
    since = before or moment(now_ms)
    return {
        "type": SYNCED,
        "status": status,
        "reason": synced.reason,
        "message": synced.message,
        "lastTransitionTime": since,
        "observedGeneration": synced.generation,
    }


def moment(ms: int) -> str:
    """A time as Kubernetes writes it: whole seconds."""
    return (_EPOCH + timedelta(seconds=ms // 1000)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _reduced(status: dict[str, Any]) -> dict[str, Any]:
    devices = status.get("devices")
    if not isinstance(devices, list):
        return status
    kept = [{key: value for key, value in device.items() if key not in _LOAD} for device in devices]
    return {**{k: v for k, v in status.items() if k != "memoryAvailableBytes"}, "devices": kept}


def bounded(status: dict[str, Any], most_bytes: int = MAX_STATUS_BYTES) -> dict[str, Any]:
    """The status, its longest lists cut to halves until it fits; ``truncated`` names them then."""
    cut: set[str] = set()
    while len(json.dumps(status)) > most_bytes:
        sizes = {
            key: len(json.dumps(value))
            for key, value in status.items()
            if isinstance(value, list) and value and key not in ("conditions", "truncated")
        }
        if not sizes:
            return {key: status[key] for key in ("conditions", "observedGeneration") if key in status}
        longest = max(sizes, key=lambda key: (sizes[key], key))
        cut.add(longest)
        status = {**status, longest: status[longest][: len(status[longest]) // 2], "truncated": sorted(cut)}
    return status
