"""The definition of each kind, as a document and as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from common.resources.meta import API_VERSION
from common.vocabulary import LONG_NAME_CHARACTERS, NAME_CHARACTERS
from operators.crds.structural import Schema, plain, structural, without_boundless, without_defaults
from operators.crds.table import CRDS, Column, Crd

GROUP, _, VERSION = API_VERSION.partition("/")
FOLDER = Path(__file__).resolve().parents[2] / "deploy/helm/computility/files/crds"
HEAD = "# Made by `make crds` from common/resources; change it there.\n"
_CONDITION = '.status.conditions[?(@.type=="{}")].{}'
_TAIL = (
    Column("Synced", _CONDITION.format("Synced", "status")),
    Column("Ready", _CONDITION.format("Ready", "status")),
    Column("Reason", _CONDITION.format("Ready", "reason"), wide=True),
    Column("Refused", _CONDITION.format("Synced", "message"), wide=True),
    Column("Age", ".metadata.creationTimestamp", "date"),
)
_STATUS: Schema = {
    "type": "object",
    "description": "What control observed.",
    "x-kubernetes-preserve-unknown-fields": True,
    "properties": {
        "observedGeneration": {"type": "integer", "format": "int64"},
        "conditions": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": {
                "type": "object",
                "required": ["type", "status"],
                "properties": {
                    "type": {"type": "string"},
                    "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                    "reason": {"type": "string"},
                    "message": {"type": "string"},
                    "lastTransitionTime": {"type": "string", "format": "date-time"},
                    "observedGeneration": {"type": "integer", "format": "int64"},
                },
            },
        },
    },
}


def definition(crd: Crd) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema_of(crd)},
        "subresources": _subresources(crd),
        "additionalPrinterColumns": [_column(column) for column in (*crd.columns, *_TAIL)],
    }
    names: dict[str, Any] = {
        "kind": crd.kind,
        "listKind": f"{crd.kind}List",
        "plural": crd.plural,
        "singular": crd.kind.lower(),
        "shortNames": list(crd.short),
        "categories": ["computility"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{crd.plural}.{GROUP}",
            "labels": {"app.kubernetes.io/part-of": "computility"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if crd.namespaced else "Cluster",
            "names": names,
            "versions": [version],
        },
    }


def schema_of(crd: Crd) -> Schema:
    """What a document of the kind may be."""
    spec = without_boundless(structural(crd.spec_type.model_json_schema(by_alias=True)))
    if crd.is_observed:
        spec = without_defaults(spec)
    longest = LONG_NAME_CHARACTERS if crd.resource.DERIVED_NAMES else NAME_CHARACTERS
    schema: Schema = {
        "type": "object",
        "description": plain(crd.spec_type.__doc__ or ""),
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": longest}},
            },
            "spec": spec,
            "status": _STATUS,
        },
    }
    if spec.get("required"):
        schema["required"] = ["spec"]
    else:
        spec["default"] = {}
    if crd.rules:
        rules = [{"rule": rule.rule, "message": rule.message} for rule in crd.rules]
        schema["x-kubernetes-validations"] = rules
    return schema


def _subresources(crd: Crd) -> dict[str, Any]:
    if not crd.scales:
        return {"status": {}}
    paths = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.currentReplicas"}
    return {"status": {}, "scale": paths}


def _column(column: Column) -> dict[str, Any]:
    shown = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return {**shown, "priority": 1} if column.wide else shown


def text_of(crd: Crd) -> str:
    """The file of a kind."""
    text: str = yaml.dump(definition(crd), Dumper=_Plain, sort_keys=False, width=120)
    return HEAD + text


class _Plain(yaml.SafeDumper):
    """Without anchors: the same limits stand in many places."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def files() -> dict[Path, str]:
    """Path -> text of all."""
    return {FOLDER / f"{crd.plural}.yaml": text_of(crd) for crd in CRDS}


def write_all() -> list[Path]:
    """Write all files, and take away those of kinds that are no more. Returns what is there."""
    wanted = files()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.yaml"):
        if old not in wanted:
            old.unlink()
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return sorted(wanted)
