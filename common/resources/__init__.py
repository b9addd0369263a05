"""The kinds, in one visible table, and how a document becomes one of them."""

from __future__ import annotations

from difflib import get_close_matches

from common.errors import InvalidInput, Problem
from common.resources.batches import Batch
from common.resources.budgets import Budget
from common.resources.guardrails import Guardrail
from common.resources.jobs import Job
from common.resources.meta import (
    API_VERSION,
    Metadata,
    Owner,
    Resource,
    Status,
    parse_text,
    to_json,
)
from common.resources.money import Price
from common.resources.one_door import ExternalModel, Route
from common.resources.people import ApiKey, Project, Tenant
from common.resources.pool import Node, Queue
from common.resources.saying import problems_of
from common.resources.serving import Adapter, Endpoint, Model
from common.resources.tuning import File, FineTune
from common.resources.workload import Workload
from common.vocabulary import (
    MAX_DEPTH,
    MAX_DOCUMENT_BYTES,
    MAX_LIST,
    NAME_CHARACTERS,
    odd_character,
    quoted,
    shortened,
)

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
        ExternalModel,
        Route,
        Job,
        FineTune,
        File,
        Batch,
        Price,
        Budget,
        Guardrail,
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
        raise InvalidInput(f"kind: {_why_no_kind(kind)} (kinds: {', '.join(KINDS)})", param="kind")
    version = document.get("apiVersion")
    if version != API_VERSION:
        said = "" if version is None else f", not {quoted(version)}"
        raise InvalidInput(f"apiVersion: must be {API_VERSION}{said}", param="apiVersion")
    document = _as_in_kubernetes(document)
    text = to_json(document)
    if len(text) > MAX_DOCUMENT_BYTES:
        raise InvalidInput(
            f"has {len(text)} bytes as JSON, but may have at most {MAX_DOCUMENT_BYTES}", param="."
        )
    _check_characters(document, "", 0)
    resource = parse_text(KINDS[kind], text)
    _check_scope(resource)
    return resource


def _why_no_kind(kind: object) -> str:
    if kind is None:
        return "required, but missing"
    wanted = kind.lower().replace("-", "") if isinstance(kind, str) else ""
    names = {name.lower(): name for name in KINDS} | {kind.PLURAL: name for name, kind in KINDS.items()}
    near = get_close_matches(wanted[:NAME_CHARACTERS], names, n=1)
    return f"{quoted(kind)} is unknown" + (f"; did you mean {names[near[0]]}?" if near else "")


def _as_in_kubernetes(document: dict[str, object]) -> dict[str, object]:
    """``metadata.namespace`` is another word for ``metadata.project``, so that one file is for both."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or "namespace" not in metadata:
        return document
    rest = {name: value for name, value in metadata.items() if name != "namespace"}
    if rest.setdefault("project", metadata["namespace"]) != metadata["namespace"]:
        _refuse("metadata.namespace", "must be metadata.project, where both are given")
    return {**document, "metadata": rest}


def _check_characters(value: object, path: str, depth: int) -> None:
    """No command, file name or database takes a NUL character or half a surrogate pair."""
    if depth > MAX_DEPTH:
        _refuse(shortened(path, 200), f"is nested more than {MAX_DEPTH} deep")
    if isinstance(value, str):
        found = odd_character(value, lines=True)
        if found:
            _refuse(path, f"holds the character {found}")
    elif isinstance(value, dict):
        for name, part in value.items():
            _check_characters(str(name), path or ".", depth + 1)
            _check_characters(part, f"{path}.{shortened(str(name), 80)}".lstrip("."), depth + 1)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _check_characters(part, f"{path}[{index}]", depth + 1)


def _check_scope(resource: Resource) -> None:
    scope, project = type(resource).SCOPE, resource.metadata.project
    if scope == "project" and not project:
        _refuse("metadata.project", f"required for kind {resource.kind}")
    if scope == "cluster" and project:
        _refuse("metadata.project", f"not allowed: kind {resource.kind} belongs to no project")
    if not resource.DERIVED_NAMES:
        _check_length("metadata.name", resource.name)
    _check_length("metadata.project", project or "")
    labels = len(resource.metadata.labels)
    if labels > MAX_LIST:
        _refuse("metadata.labels", f"must have at most {MAX_LIST} entries, not {labels}")


def _check_length(path: str, name: str) -> None:
    """Only where a document enters: what is stored under a longer name is still read."""
    if len(name) > NAME_CHARACTERS:
        _refuse(path, f"must have at most {NAME_CHARACTERS} characters, not {len(name)}")


def _refuse(path: str, message: str) -> None:
    raise InvalidInput(f"{path}: {message}", param=path, problems=(Problem(path, message),))


def load_stored(kind: str, document: str) -> Resource:
    """A resource from the store, where it is JSON.

    Raises ``ValidationError`` or ``KeyError`` where an older version wrote what is not taken any more.
    """
    return KINDS[kind].model_validate_json(document, strict=False)


__all__ = [
    "API_VERSION",
    "KINDS",
    "PLURALS",
    "Adapter",
    "ApiKey",
    "Batch",
    "Budget",
    "Endpoint",
    "ExternalModel",
    "File",
    "FineTune",
    "Guardrail",
    "Job",
    "Metadata",
    "Model",
    "Node",
    "Owner",
    "Price",
    "Project",
    "Queue",
    "Resource",
    "Route",
    "Status",
    "Tenant",
    "Workload",
    "load_stored",
    "parse_resource",
    "problems_of",
]
