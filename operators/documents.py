"""Custom resources of Kubernetes as documents of control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from common.errors import ComputilityError, InvalidInput, mapping_of
from common.resources import parse_resource
from common.resources.meta import API_VERSION, parse_model
from operators.core.reconcile import FINALIZER, MARK, POLICY, Custom
from operators.crds.specs import ApiKeyManifest, FineTuneManifest
from operators.crds.table import BY_KIND

PROJECT = "computility.io/project"
ROLE = "computility.io/role"
ADMIN = "platform-admin"
ROLES = ("member", "tenant-admin", ADMIN)
Body = Mapping[str, Any]


class Key(NamedTuple):
    """A custom resource. ``namespace`` is empty where the kind has none."""

    kind: str
    namespace: str
    name: str

    @property
    def plural(self) -> str:
        return BY_KIND[self.kind].plural


@dataclass(frozen=True)
class Place:
    """What a namespace stands for: a project, and the rights with which its resources are applied there."""

    project: str
    role: str = "member"

    @property
    def acts_as(self) -> str | None:
        """As control's header has it; None = as the operator itself, a platform-admin."""
        return None if self.role == ADMIN else f"{self.role}/{self.project}"


NOWHERE = Place("", ADMIN)
"""Where kinds without a namespace are: whoever may write them in Kubernetes is an administrator."""


def key_of(body: Body) -> Key:
    """The key of a custom resource."""
    metadata = body["metadata"]
    return Key(body["kind"], metadata.get("namespace", ""), metadata["name"])


def place_of(namespace: Body) -> Place:
    """The project of a namespace: as an annotation or label says, else the one of its name. Only an
    annotation gives more rights than a member's."""
    metadata = namespace["metadata"]
    notes, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    project = notes.get(PROJECT) or labels.get(PROJECT) or metadata["name"]
    role = notes.get(ROLE) or "member"
    return Place(project, role if role in ROLES else "member")


def mark_for(cluster: str, key: Key) -> str:
    """The mark in control of what belongs to a custom resource."""
    return f"{cluster}/{key.namespace or '-'}/{key.name}"


def document_for(body: Body, place: Place, mark: str) -> dict[str, Any]:
    """What control should have, as control itself would write it down.

    Raises ``InvalidInput`` naming every path that is wrong.
    """
    metadata = body["metadata"]
    wanted: dict[str, Any] = {"name": metadata["name"], "labels": dict(metadata.get("labels") or {})}
    if place.project:
        wanted["project"] = place.project
    document = {
        "apiVersion": API_VERSION,
        "kind": body["kind"],
        "metadata": {**wanted, "annotations": {MARK: mark}},
        "spec": body.get("spec") or {},
    }
    made = parse_resource(document).to_dict()
    kept = ("name", "project", "labels", "annotations")
    return {
        "apiVersion": API_VERSION,
        "kind": made["kind"],
        "metadata": {name: made["metadata"][name] for name in kept if name in made["metadata"]},
        "spec": made["spec"],
    }


def custom_of(body: Body, place: Place, mark: str) -> Custom:
    """What the next step is decided from."""
    document, refusal = None, None
    try:
        document = document_for(body, place, mark)
    except InvalidInput as error:
        refusal = (reason_of(error), error.message)
    return Custom(
        mark,
        document,
        refusal,
        is_leaving=is_leaving(body),
        has_finalizer=has_finalizer(body),
        is_orphaned=is_orphaned(body),
    )


def manifest_of(new: Body, old: Body | None = None) -> ApiKeyManifest | FineTuneManifest | None:
    """The spec of a kind that is written otherwise than in control; None for the others.

    Raises ``InvalidInput`` naming every path that is wrong. ``old``: as it was before a change.
    """
    spec = new.get("spec") or {}
    if new["kind"] == "ApiKey":
        return parse_model(ApiKeyManifest, spec, "spec")
    if new["kind"] != "FineTune":
        return None
    if old is not None and old.get("spec") != spec:
        raise InvalidInput("spec: a job is made once; make another one", param="spec")
    job = parse_model(FineTuneManifest, spec, "spec")
    for path, given, data in (
        ("training", job.training_file, job.training_data),
        ("validation", job.validation_file, job.validation_data),
    ):
        both, none = given is not None and data is not None, given is None and data is None
        if both or (none and path == "training"):
            message = f"spec.{path}File, spec.{path}Data: set one of them"
            raise InvalidInput(message, param=f"spec.{path}File")
    return job


def is_orphaned(body: Body) -> bool:
    """Whether what control has is to stay when it is deleted."""
    return (body["metadata"].get("annotations") or {}).get(POLICY) == "orphan"


def reason_of(error: ComputilityError) -> str:
    """The reason of a condition for an error."""
    return mapping_of(error).reason


def is_leaving(body: Body) -> bool:
    """Whether it is being deleted."""
    return body["metadata"].get("deletionTimestamp") is not None


def has_finalizer(body: Body) -> bool:
    """Whether it waits for us when it is deleted."""
    return FINALIZER in (body["metadata"].get("finalizers") or ())
