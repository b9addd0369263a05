"""The status of an Endpoint, from what is found of its Model, its engines and what these hold."""

from __future__ import annotations

from collections.abc import Sequence

from common.resources import Endpoint, Model
from common.resources.scaling import EngineRole
from common.resources.serving import Replica
from inference.adapter_status import ReplicaReport
from inference.canary.status import report_canary
from inference.endpoint_readiness import readiness
from inference.model_files import ModelFiles
from inference.parsers.choose import reasoning_of, tools_of

Trouble = tuple[str, str] | None
"""Why no engine can be started: reason and message."""


def fill_status(
    endpoint: Endpoint,
    found: tuple[Model, ModelFiles] | None,
    replicas: list[Replica],
    reports: Sequence[ReplicaReport],
    trouble: Trouble,
    canary_trouble: Trouble,
    now_ms: int,
    too_little: str = "",
) -> None:
    """Set all of the status but the project of the Model. ``found``: its Model and the files;
    ``too_little``: why no devices can hold its engines."""
    status = endpoint.status
    status.observed_generation = endpoint.metadata.generation
    status.served_name = endpoint.served_name
    status.replicas = replicas
    serving = [one for one in replicas if one.ready and not one.draining and one.role != "canary"]
    status.ready_replicas = len(serving)
    status.updated_replicas = sum(not one.outdated for one in serving)
    status.scaling = [one for one in status.scaling if _follows_load(endpoint, one.role)]
    if endpoint.spec.mode != "auto":
        status.auto = None
    status.context_tokens = _context_tokens(endpoint, found[1] if found else None, reports)
    model, args = found[0] if found else None, endpoint.spec.engine_args
    status.tools, status.reasoning = tools_of(endpoint, model, args), reasoning_of(endpoint, model, args)
    report_canary(endpoint, replicas, canary_trouble, now_ms)
    ready, reason, message = readiness(endpoint, trouble, too_little)
    status.set_condition(
        "Ready", ready, reason, message, now_ms=now_ms, generation=endpoint.metadata.generation
    )


def _follows_load(endpoint: Endpoint, role: EngineRole) -> bool:
    spec = endpoint.spec.roles.get(role)
    return spec is not None and spec.autoscaling is not None


def _context_tokens(
    endpoint: Endpoint, files: ModelFiles | None, reports: Sequence[ReplicaReport]
) -> int | None:
    """As the engines say; before one is up, as the endpoint or the model's config says."""
    held = (report.held for report in reports if report.held is not None)
    said = [one.context_tokens for one in held if one.context_tokens is not None]
    if said:
        return min(said)
    return endpoint.spec.engine.max_context_tokens or (files.context_tokens if files else None)
