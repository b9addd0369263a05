"""How ``explain endpoint/x`` tells why an Endpoint is served as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from common.clock import SYSTEM_CLOCK
from control.console.output import print_table
from control.console.told.moments import since

Document = Mapping[str, Any]


def print_endpoint(out: Console, endpoint: Document, now_ms: int | None = None) -> None:
    """Its mode, devices and duties with the reasons; how many engines there are, and why."""
    now = now_ms or SYSTEM_CLOCK.now_ms()
    metadata, spec, status = endpoint["metadata"], endpoint["spec"], endpoint.get("status") or {}
    auto = status.get("auto") or {}
    mode = spec.get("mode") or ("replicated" if spec.get("replicas", 1) > 1 else "single")
    chosen = f", now {auto['mode']}" if auto.get("mode") else ""
    out.print(f"[bold]{metadata.get('project') or ''}/{metadata['name']}[/bold] ", end="")
    out.print(f"mode {mode}{chosen}", markup=False)
    for title, value in (*_lines(auto, status, now), *_roles(spec, status)):
        out.print(f"  {title + ':':12}{value}", markup=False)
    for reason in auto.get("reasons") or ():
        out.print(f"  - {reason}", markup=False)
    replicas: Sequence[Document] = status.get("replicas") or ()
    if replicas:
        rows = [
            [one["workload"], _duty(one), one.get("phase", ""), one.get("deviceClass", "")]
            for one in replicas
        ]
        print_table(["ENGINE", "DOES", "STATE", "DEVICES"], rows, out)


def _lines(auto: Document, status: Document, now_ms: int) -> Iterator[tuple[str, str]]:
    ready = next((one for one in status.get("conditions") or () if one.get("type") == "Ready"), None)
    if ready is not None:
        yield "ready", f"{ready['status']}: {ready.get('message') or ready.get('reason') or ''}"
    if auto.get("deviceClass"):
        size = auto.get("devicesPerEngine") or 0
        yield "devices", auto["deviceClass"] + (f", {size} an engine" if size else "")
    if auto.get("readers"):
        readers = ", ".join(f"{one['engines']} x {one['deviceClass']}" for one in auto["readers"])
        yield "prefill", f"{readers}; shorter than {auto.get('minPromptTokens', 0):,} tokens: by the others"
    if auto.get("sinceMs"):
        yield "decided", since(auto["sinceMs"], now_ms)


def _roles(spec: Document, status: Document) -> Iterator[tuple[str, str]]:
    """Of roles that have devices of their own: on which their engines are, and which they may have."""
    if spec.get("mode") != "disaggregated":
        return
    for role in ("prefill", "decode"):
        mine = [one for one in status.get("replicas") or () if one.get("role") == role]
        ready = Counter(one.get("deviceClass") or "?" for one in mine if one.get("ready"))
        there = ", ".join(f"{engines} x {name}" for name, engines in sorted(ready.items())) or "none answers"
        yield role, f"{there}; may be on {_devices((spec.get(role) or {}).get('devices') or {})}"


def _devices(request: Document) -> str:
    """What a request for devices allows, in words."""
    vendors, models = request.get("vendors") or (), request.get("models") or ()
    parts = ["/".join(vendors) or "any vendor", ", ".join(models) or "any model"]
    parts += [f"not {name}" for name in request.get("notModels") or ()]
    parts += [f"{key}={value}" for key, value in (request.get("nodeLabels") or {}).items()]
    parts += list(request.get("capabilities") or ())
    return " ".join(parts[:2]) + "".join(f", {part}" for part in parts[2:])


def _duty(replica: Document) -> str:
    return replica.get("duty") or replica.get("role") or "both"
