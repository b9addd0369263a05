"""The kinds, in one visible table, and how a document becomes one of them."""

from __future__ import annotations

from typing import Any

from common.errors import InvalidInput, Problem
from common.resources.meta import API_VERSION, Metadata, Owner, Resource, Status, parse_model, problems_of
from common.resources.money import Price
from common.resources.people import ApiKey, Project, Tenant
from common.resources.pool import Node, Queue
from common.resources.serving import Adapter, Endpoint, Model
from common.resources.tuning import File, FineTune
from common.resources.workload import Workload

KINDS: dict[str, type[Resource]] = {
    kind.model_fields["kind"].default: kind
    for kind in (
        Tenant,
        Project,
        ApiKey,
        Node,
        Queue,
        Workload,
        Model,
        Adapter,
        Endpoint,
        FineTune,
        File,
        Price,
    )
}
"""Kind name -> class, in the order in which documents of several kinds are best applied."""

PLURALS: dict[str, type[Resource]] = {kind.PLURAL: kind for kind in KINDS.values()}


def parse_resource(document: object) -> Resource:
    """A JSON or YAML document as the resource of its kind.

    Raises ``InvalidInput`` naming every path that is wrong, unknown or missing.
    """
    if not isinstance(document, dict):
        raise InvalidInput("a resource must be a mapping with apiVersion, kind, metadata and spec", param=".")
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        known = ", ".join(KINDS)
        raise InvalidInput(f"kind: {kind!r} is unknown; known kinds: {known}", param="kind")
    version = document.get("apiVersion")
    if version != API_VERSION:
        raise InvalidInput(f"apiVersion: must be {API_VERSION}, not {version!r}", param="apiVersion")
    _refuse_nul(document, "")
    resource = parse_model(KINDS[kind], document)
    _check_scope(resource)
    return resource


def _refuse_nul(value: object, path: str) -> None:
    """No command, file name or database takes a NUL character."""
    if isinstance(value, str) and "\0" in value:
        _refuse(path, "holds a NUL character")
    elif isinstance(value, dict):
        for name, part in value.items():
            _refuse_nul(str(name), path or ".")
            _refuse_nul(part, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _refuse_nul(part, f"{path}[{index}]")


def _check_scope(resource: Resource) -> None:
    scope, project = type(resource).SCOPE, resource.metadata.project
    if scope == "project" and not project:
        _refuse("metadata.project", f"required for kind {resource.kind}")
    if scope == "cluster" and project:
        _refuse("metadata.project", f"not allowed: kind {resource.kind} belongs to no project")


def _refuse(path: str, message: str) -> None:
    raise InvalidInput(f"{path}: {message}", param=path, problems=(Problem(path, message),))


def load_stored(kind: str, document: dict[str, Any]) -> Resource:
    """A resource from the store. Stored documents are ours, so a mistake in one is an internal error."""
    return KINDS[kind].model_validate(document, strict=False)


__all__ = [
    "API_VERSION",
    "KINDS",
    "PLURALS",
    "Adapter",
    "ApiKey",
    "Endpoint",
    "File",
    "FineTune",
    "Metadata",
    "Model",
    "Node",
    "Owner",
    "Price",
    "Project",
    "Queue",
    "Resource",
    "Status",
    "Tenant",
    "Workload",
    "load_stored",
    "parse_resource",
    "problems_of",
]
