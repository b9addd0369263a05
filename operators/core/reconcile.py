"""One step for one custom resource: what is wanted in control, what is there, and what comes next.

A step is taken, and the next one decided anew from what is there then. So a process may be killed after any
step: the next one goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

FINALIZER = "computility.io/mirror"
MARK = "computility.io/kubernetes"
"""The annotation in control that says whose a resource is: cluster, namespace and name."""
POLICY = "computility.io/deletion-policy"
"""The annotation in Kubernetes: with ``orphan`` what is in control stays when this is deleted."""


class Do(Enum):
    """A step."""

    NOTHING = "nothing"
    ADD_FINALIZER = "add finalizer"
    REMOVE_FINALIZER = "remove finalizer"
    APPLY = "apply"
    DELETE = "delete"
    RELEASE = "release"
    """Take the mark off, and leave the rest."""


@dataclass(frozen=True)
class Custom:
    """What is known of the custom resource. ``document`` is what control should have, with the mark; None
    where it cannot be said, and ``refusal`` says why."""

    mark: str
    document: Mapping[str, Any] | None
    refusal: tuple[str, str] | None = None
    is_leaving: bool = False
    has_finalizer: bool = False
    is_orphaned: bool = False


@dataclass(frozen=True)
class Step:
    """What is done next. ``synced``: whether control has what is wanted; None = that is not known yet."""

    do: Do
    synced: bool | None = None
    reason: str = ""
    message: str = ""


def next_step(custom: Custom, seen: Mapping[str, Any] | None, settled: bool) -> Step:
    """The next step. ``seen`` is control's resource of the name (None = there is none), ``settled`` whether
    control was seen to make of the document what it is now."""
    if custom.is_leaving:
        return _leave(custom, seen)
    if custom.document is None:
        reason, message = custom.refusal or ("Unknown", "")
        return Step(Do.NOTHING, False, reason, message)
    owner = mark_of(seen)
    if owner not in ("", custom.mark):
        message = f"control has it for {owner}; delete that, or take its annotation {MARK} away in control"
        return Step(Do.NOTHING, False, "OwnedElsewhere", message)
    if not custom.has_finalizer:
        return Step(Do.ADD_FINALIZER)
    if seen is None or not (settled or is_same(custom.document, seen)):
        return Step(Do.APPLY)
    return Step(Do.NOTHING, True, "Applied", "control has it")


def _leave(custom: Custom, seen: Mapping[str, Any] | None) -> Step:
    if not custom.has_finalizer:
        return Step(Do.NOTHING)
    if seen is None or mark_of(seen) != custom.mark:
        return Step(Do.REMOVE_FINALIZER)
    return Step(Do.RELEASE if custom.is_orphaned else Do.DELETE)


def mark_of(seen: Mapping[str, Any] | None) -> str:
    """Whose a resource of control is; empty = nobody's in Kubernetes."""
    annotations = (seen or {}).get("metadata", {}).get("annotations", {})
    return str(annotations.get(MARK, ""))


def is_same(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """Whether what people write is the same in both. Annotations that others made do not count."""
    mine, theirs = wanted["metadata"], seen["metadata"]
    notes = theirs.get("annotations", {})
    return bool(
        wanted["spec"] == seen["spec"]
        and mine.get("labels", {}) == theirs.get("labels", {})
        and all(notes.get(key) == value for key, value in mine.get("annotations", {}).items())
    )


def with_notes_of(wanted: Mapping[str, Any], seen: Mapping[str, Any] | None) -> dict[str, Any]:
    """The document as it is applied: annotations that others made stay, and what changed meanwhile is not
    overwritten unseen."""
    metadata = dict(wanted["metadata"])
    if seen is not None:
        theirs = seen["metadata"]
        metadata["annotations"] = {**theirs.get("annotations", {}), **metadata.get("annotations", {})}
        metadata["resourceVersion"] = theirs.get("resourceVersion", 0)
    return {**wanted, "metadata": metadata}


def released(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Control's resource as it is applied without the mark."""
    theirs = seen["metadata"]
    notes = {key: value for key, value in theirs.get("annotations", {}).items() if key != MARK}
    kept = {key: theirs[key] for key in ("name", "project", "labels", "resourceVersion") if key in theirs}
    return {
        "apiVersion": seen["apiVersion"],
        "kind": seen["kind"],
        "metadata": {**kept, "annotations": notes},
        "spec": seen["spec"],
    }
