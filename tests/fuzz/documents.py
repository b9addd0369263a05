"""Resources: as the API takes them, as the store gives them back, and as people write them in files."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from common.errors import InvalidInput
from common.resources import KINDS, Resource, load_stored, parse_resource
from common.strict_json import parse_json
from control.console.documents.manifests import read_manifests
from tests.fuzz.target import Target, answer, scratch

_EXAMPLES = Path(__file__).parents[2] / "examples"


def check_resource(raw: bytes) -> None:
    """A document is refused with the path of what is wrong, or is the same after a stay in the store."""
    resource = answer(lambda: parse_resource(parse_json(raw)), InvalidInput)
    if resource is not None:
        _check_stored(resource)


def _check_stored(resource: Resource) -> None:
    text = json.dumps(resource.to_dict(), ensure_ascii=False, allow_nan=False)
    text.encode()
    assert load_stored(resource.kind, text) == resource


def check_manifest(raw: bytes) -> None:
    """A file of resources is refused with the line of what is wrong, or gives resources."""
    with scratch() as folder:
        path = folder / "a.yaml"
        path.write_bytes(raw)
        for manifest in answer(partial(read_manifests, [str(path)]), InvalidInput) or ():
            resource = answer(manifest.parse, InvalidInput)
            if resource is not None:
                _check_stored(resource)


def _document(kind: str, spec: dict[str, Any], project: str | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "a-1", "labels": {"team.io/x": "y"}, "annotations": {"note": "z"}}
    if project:
        metadata["project"] = project
    return {"apiVersion": "computility.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


_ROLE = {
    "name": "w",
    "replicas": 2,
    "command": ["python", "-m", "x"],
    "env": {"A": "b"},
    "devices": {"count": 1, "vendors": ["nvidia"]},
}
_DOCUMENTS = (
    _document("Tenant", {"displayName": "Acme"}),
    _document("Project", {"tenant": "acme"}),
    _document("Queue", {"weight": 2}),
    _document("Workload", {"queue": "default", "roles": [_ROLE]}, "p"),
    _document("Model", {"source": "hub/tiny", "contextTokens": 4096}, "p"),
    _document("Endpoint", {"model": "tiny", "replicas": 1, "queue": "default"}, "p"),
    _document("Price", {"items": [{"meter": "prompt_tokens", "model": "*", "amount": "0.5", "per": 1000}]}),
    _document("Adapter", {"model": "tiny"}, "p"),
)
_FIELDS = sorted(
    {
        field.alias or name
        for kind in KINDS.values()
        for part in (kind, kind.model_fields["spec"].annotation)
        if part is not None and hasattr(part, "model_fields")
        for name, field in part.model_fields.items()
    }
)

TARGETS = (
    Target(
        "resource",
        "resources as the API takes them",
        check_resource,
        tuple(json.dumps(document).encode() for document in _DOCUMENTS),
        (*KINDS, *_FIELDS),
    ),
    Target(
        "manifest",
        "YAML files of resources",
        check_manifest,
        (
            *(path.read_bytes() for path in sorted(_EXAMPLES.glob("*.yaml"))),
            b"a: &a [1, 2]\nb: *a\n---\nc: {<<: {d: 1}}\n--- 5\n",
        ),
        (
            *KINDS,
            *_FIELDS,
            "!!timestamp ",
            "!!int ",
            "!!bool ",
            "!!binary ",
            "!!omap ",
            "<<: ",
            "&a ",
            "*a",
            "---\n",
        ),
        {
            "a time that is none": b"a: !!timestamp x\n",
            "a whole number without digits": b"a: !!int ''\n",
            "a truth that is none": b"a: !!bool maybe\n",
            "a key that is a list": b"? [1]\n: 2\n",
        },
    ),
)
