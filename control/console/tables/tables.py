"""The columns of each kind, in one visible table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.clock import SYSTEM_CLOCK
from common.units import format_bytes
from control.console.output import age

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """``wide`` columns show with ``-o wide`` only."""

    title: str
    value: Callable[[Document], object]
    wide: bool = False


def _at(path: str, default: object = "") -> Callable[[Document], object]:
    def read(document: Document) -> object:
        value: Any = document
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return default if value is None else value

    return read


def condition(document: Document, type_: str) -> Document | None:
    """The condition of that type, if the status has it."""
    conditions = (document.get("status") or {}).get("conditions", ())
    return next((c for c in conditions if c["type"] == type_), None)


def _ready(document: Document) -> str:
    found = condition(document, "Ready")
    if found is None:
        return "Pending"
    return "Ready" if found["status"] == "True" else "NotReady"


def _reason(type_: str) -> Callable[[Document], object]:
    """What a condition says that is false, or true with a reason of its own, such as a change under way."""

    def read(document: Document) -> object:
        found = condition(document, type_)
        if found is None or (found["status"] == "True" and found["reason"] == type_):
            return ""
        return found.get("message") or found["reason"]

    return read


def _joined(path: str, empty: str = "") -> Callable[[Document], object]:
    def read(document: Document) -> object:
        values = _at(path, [])(document)
        return ", ".join(str(v) for v in values) if isinstance(values, Sequence) and values else empty

    return read


def _devices(document: Document) -> object:
    devices = document.get("status", {}).get("devices", [])
    counts: dict[str, int] = {}
    for device in devices:
        name = f"{device['vendor']}/{device['model']}"
        counts[name] = counts.get(name, 0) + device.get("slots", 1)
    return ", ".join(f"{count}× {name}" for name, count in counts.items())


def _device_memory(document: Document) -> object:
    devices = document.get("status", {}).get("devices", [])
    return format_bytes(sum(device["memoryBytes"] for device in devices)) if devices else ""


def _why(document: Document) -> object:
    status = document.get("status") or {}
    reasons = status.get("pending", []) if status.get("phase") == "Pending" else []
    waits = status.get("message") or "; ".join(reason["message"] for reason in reasons)
    return " — ".join(filter(None, (waits, failure_text(status), preemption_text(status))))


def preemption_text(status: Mapping[str, Any]) -> str:
    """Why a workload that waits lost its places, where it was stopped for another one."""
    last = status.get("lastPreemption")
    if not last or status.get("phase") != "Pending" or last["attempt"] != status.get("attempt"):
        return ""
    by = f" for {last['by']}" if last.get("by") else ""
    return f"preempted{by} on {', '.join(last.get('nodes', ()))}: {last['message']}"


def failure_text(status: Mapping[str, Any]) -> str:
    """How a workload ended last, of one that has not run well since."""
    failure = status.get("lastFailure")
    if not failure or not (status.get("crashes") or status.get("phase") == "Failed"):
        return ""
    line = failure.get("line")
    return f"exit code {failure['exitCode']}: {line}" if line else f"exit code {failure['exitCode']}"


def _nodes(document: Document) -> object:
    """Where it is, or was at its end; not where it was before it waits."""
    status = document.get("status") or {}
    ranks = () if status.get("phase", "Pending") in ("Pending", "Suspended") else status.get("ranks", ())
    return ", ".join(sorted({rank["node"] for rank in ranks}))


def ready_count(document: Document) -> object:
    """Those that answer, of those that are wanted; and within which limits they follow their load."""
    status, spec = document.get("status", {}), document.get("spec", {})
    named = {name: spec[name] for name in ("prefill", "decode") if spec.get(name)} or {"": spec}
    scaled = {one.get("role", ""): one["wanted"] for one in status.get("scaling", ())}
    wanted, least, most = 0, 0, 0
    for role, content in named.items():
        scaling = content.get("autoscaling", {} if spec.get("mode") == "auto" else None)
        count = content.get("replicas", 1)
        wanted += count if scaling is None else scaled.get(role, scaling.get("minReplicas", 1))
        least += count if scaling is None else scaling.get("minReplicas", 1)
        most += count if scaling is None else scaling.get("maxReplicas", 4)
    limits = f" ({least}-{most})" if least != most else ""
    return f"{status.get('readyReplicas', 0)}/{wanted}{limits}"


def _progress(document: Document) -> object:
    status = document.get("status", {})
    total = status.get("totalSteps", 0)
    return f"{status.get('step', 0)}/{total}" if total else ""


def _guards(document: Document) -> str:
    """What is looked for and what is done, like ``personal: mask``."""
    return ", ".join(f"{one['kind']}: {one['action']}" for one in document["spec"].get("guards", ()))


def _lines_done(document: Document) -> object:
    status = document.get("status", {})
    total = status.get("total", 0)
    return f"{status.get('completed', 0)}/{total}" if total else ""


def _bytes(path: str) -> Callable[[Document], object]:
    def read(document: Document) -> object:
        value = _at(path, None)(document)
        return format_bytes(value) if isinstance(value, int) else ""

    return read


def _quotas(document: Document) -> object:
    """``nvidia/H100 8 (+4)``: the nominal devices of each, and how many more it may borrow."""
    parts = []
    for quota in document["spec"].get("quotas") or ():
        borrowed = quota.get("borrowingDevices")
        more = "" if borrowed is None else f" (+{borrowed:g})"
        parts.append(f"{quota.get('deviceClass', '*')} {quota.get('nominalDevices', 0):g}{more}")
    return ", ".join(parts)


def _duration(document: Document) -> object:
    """How long its processes have run, or ran in all; pauses included."""
    status = document.get("status") or {}
    started_ms = status.get("startedMs")
    if not started_ms:
        return ""
    now_ms = SYSTEM_CLOCK.now_ms()
    return age(started_ms + now_ms - (status.get("finishedMs") or now_ms))


def _cordoned(document: Document) -> object:
    spec, drained = document.get("spec") or {}, condition(document, "Drained")
    if spec.get("drain"):
        return "drained" if drained is not None and drained["status"] == "True" else "draining"
    return bool(spec.get("cordoned"))


def _key_state(document: Document) -> object:
    spec = document["spec"]
    if spec.get("revoked"):
        return "revoked"
    paused = condition(document, "Paused")
    if paused is not None and paused["status"] == "True":
        return "paused"
    return "expired" if spec.get("expiresMs") and spec["expiresMs"] <= SYSTEM_CLOCK.now_ms() else "active"


def _expiry(document: Document) -> object:
    """``in 12d``, ``3d ago``; ``never``."""
    moment_ms = document["spec"].get("expiresMs")
    if not moment_ms:
        return "never"
    ahead = age(2 * SYSTEM_CLOCK.now_ms() - moment_ms)
    return f"in {ahead}" if moment_ms > SYSTEM_CLOCK.now_ms() else f"{age(moment_ms)} ago"


_SHORT_RATES = {
    "requestsPerMinute": "rpm",
    "tokensPerMinute": "tpm",
    "concurrentRequests": "open",
    "sequencesPerRequest": "answers",
}


def _rates(document: Document) -> object:
    """``60 rpm, 10000 tpm``; ``none``."""
    limits = document["spec"].get("rateLimits", {})
    told = [f"{limits[name]} {short}" for name, short in _SHORT_RATES.items() if limits.get(name) is not None]
    return ", ".join(told) or "none"


def _candidates(document: Document) -> object:
    return ", ".join(one["model"] for one in document["spec"].get("candidates", ()))


def _scope(document: Document) -> object:
    return document["spec"].get("project") or document["spec"].get("tenant") or "everything"


COLUMNS: dict[str, tuple[Column, ...]] = {
    "Tenant": (Column("DISPLAY NAME", _at("spec.displayName")),),
    "Project": (
        Column("TENANT", _at("spec.tenant")),
        Column("QUEUES", _joined("spec.queues", "all")),
        Column("DISPLAY NAME", _at("spec.displayName"), wide=True),
    ),
    "ApiKey": (
        Column("ROLE", _at("spec.role")),
        Column("SCOPE", _scope),
        Column("KEY", _at("status.hint")),
        Column("STATE", _key_state),
        Column("EXPIRES", _expiry),
        Column("LIMITS", _rates),
        Column("MODELS", _joined("spec.models", "all"), wide=True),
    ),
    "Node": (
        Column("STATUS", _ready),
        Column("DEVICES", _devices),
        Column("DEVICE MEMORY", _device_memory),
        Column("CORDONED", _cordoned),
        Column("ADDRESS", _at("status.address"), wide=True),
        Column("CORES", _at("status.cpuCores"), wide=True),
        Column("MEMORY", _bytes("status.memoryBytes"), wide=True),
    ),
    "Queue": (
        Column("PENDING", _at("status.pending", 0)),
        Column("RUNNING", _at("status.running", 0)),
        Column("DEVICES", _at("status.devicesInUse", 0)),
        Column("MAX DEVICES", _at("spec.maxDevices")),
        Column("QUOTAS", _quotas, wide=True),
        Column("PRIORITY", _at("spec.defaultPriority", 0), wide=True),
    ),
    "Workload": (
        Column("PHASE", _at("status.phase", "Pending")),
        Column("RESTARTS", _at("status.restarts", 0)),
        Column("NODE", _nodes),
        Column("MESSAGE", _why),
        Column("QUEUE", _at("spec.queue"), wide=True),
        Column("ATTEMPT", _at("status.attempt", 0), wide=True),
    ),
    "Model": (
        Column("SOURCE", _at("spec.source")),
        Column("CONTEXT", _at("status.contextTokens")),
        Column("TASKS", _joined("spec.tasks")),
        Column("SHARED", _at("spec.shared", False), wide=True),
        Column("DIGEST", _at("status.digest"), wide=True),
    ),
    "Adapter": (
        Column("MODEL NAME", _at("spec.servedName")),
        Column("BASE", _at("spec.model")),
        Column("REPLICAS", _at("status.replicas", 0)),
        Column("RANK", _at("spec.rank"), wide=True),
        Column("PATH", _at("spec.path"), wide=True),
    ),
    "Endpoint": (
        Column("STATUS", _ready),
        Column("REPLICAS", ready_count),
        Column("MODEL", _at("spec.model")),
        Column("MESSAGE", _reason("Ready")),
        Column("SERVED NAME", _at("status.servedName"), wide=True),
        Column("CONTEXT", _at("status.contextTokens"), wide=True),
    ),
    "Job": (
        Column("PHASE", _at("status.phase", "Pending")),
        Column("ATTEMPTS", _at("status.attempts", 0)),
        Column("EXIT CODE", _at("status.exitCode")),
        Column("DURATION", _duration),
        Column("MESSAGE", _at("status.message")),
        Column("QUEUE", _at("spec.queue"), wide=True),
        Column("REPLICAS", _at("spec.replicas", 1), wide=True),
        Column("ARTEFACTS", _at("status.artefacts"), wide=True),
    ),
    "FineTune": (
        Column("STATE", _at("status.state")),
        Column("MODEL", _at("spec.model")),
        Column("STEP", _progress),
        Column("FINE-TUNED MODEL", _at("status.fineTunedModel")),
        Column("TRAINED TOKENS", _at("status.trainedTokens"), wide=True),
        Column("ERROR", _at("status.errorMessage"), wide=True),
    ),
    "File": (
        Column("FILENAME", _at("spec.filename")),
        Column("PURPOSE", _at("spec.purpose")),
        Column("SIZE", _bytes("spec.sizeBytes")),
        Column("STATE", _at("status.state")),
    ),
    "ExternalModel": (
        Column("PROVIDER", _at("spec.provider", "external")),
        Column("MODEL", _at("spec.model")),
        Column("REGION", _at("spec.region")),
        Column("DATA", _at("spec.dataClass")),
        Column("URL", _at("spec.url"), wide=True),
    ),
    "Route": (
        Column("MODEL", lambda route: route["spec"].get("servedName") or route["metadata"]["name"]),
        Column("CANDIDATES", _candidates),
    ),
    "Batch": (
        Column("STATE", _at("status.state")),
        Column("DONE", _lines_done),
        Column("FAILED", _at("status.failed", 0)),
        Column("ENDPOINT", _at("spec.endpoint")),
        Column("MODEL", _at("status.model")),
        Column("OUTPUT", _at("status.outputFile"), wide=True),
        Column("ERRORS", _at("status.errorFile"), wide=True),
    ),
    "Price": (
        Column("FROM", _at("spec.effectiveFrom")),
        Column("UNTIL", _at("spec.effectiveUntil")),
        Column("TENANT", _at("spec.tenant", "all")),
        Column("ITEMS", lambda document: len(document["spec"].get("items", ()))),
    ),
    "Budget": (
        Column("TENANT", _at("spec.scope.tenant")),
        Column("PROJECT", _at("spec.scope.project", "all")),
        Column("PERIOD", _at("spec.period")),
        Column("ENFORCEMENT", _at("spec.enforcement")),
        Column("SPENT", lambda document: f"{(document.get('status') or {}).get('spentPercent', 0)}%"),
    ),
    "Guardrail": (
        Column("TENANT", _at("spec.scope.tenant", "all")),
        Column("PROJECT", _at("spec.scope.project", "all")),
        Column("MODEL", _at("spec.scope.model", "all")),
        Column("MANDATORY", _at("spec.mandatory")),
        Column("GUARDS", _guards),
    ),
}


def resource_table(
    kind: str, documents: Sequence[Document], wide: bool
) -> tuple[list[str], list[list[object]]]:
    """Headers and rows; the project shows where documents have one."""
    columns = [column for column in COLUMNS[kind] if wide or not column.wide]
    projects = any(document["metadata"].get("project") for document in documents)
    headers = [*(["PROJECT"] if projects else []), "NAME", *(column.title for column in columns), "AGE"]
    rows = []
    for document in documents:
        metadata = document["metadata"]
        row = [metadata.get("project", "")] if projects else []
        row += [metadata["name"], *(column.value(document) for column in columns)]
        rows.append([*row, age(metadata.get("createdMs"))])
    return headers, rows
