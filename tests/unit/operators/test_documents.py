"""Custom resources as documents of control, and namespaces as projects."""

from typing import Any

import pytest

from operators.core.reconcile import FINALIZER, MARK
from operators.documents import NOWHERE, Key, Place, custom_of, key_of, mark_for, place_of


def body(**metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Model",
        "metadata": {"name": "tiny", "namespace": "team", "uid": "u", **metadata},
        "spec": {"source": "Qwen/Qwen3-0.6B"},
    }


def test_a_document_is_as_control_writes_it() -> None:
    custom = custom_of(body(labels={"a": "b"}), Place("agents"), "c/team/tiny")
    assert custom.document == {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Model",
        "metadata": {
            "name": "tiny",
            "project": "agents",
            "labels": {"a": "b"},
            "annotations": {MARK: "c/team/tiny"},
        },
        "spec": {"source": "Qwen/Qwen3-0.6B", "tasks": ["chat", "completions"], "shared": False},
    }


def test_a_refusal_names_the_path() -> None:
    wrong = {**body(), "spec": {"source": "a", "tasks": ["sing"]}}
    custom = custom_of(wrong, Place("agents"), "m")
    assert custom.document is None
    assert custom.refusal is not None
    assert custom.refusal[0] == "InvalidInput"
    assert "spec.tasks[0]" in custom.refusal[1]


def test_what_waits_for_us_and_what_is_kept() -> None:
    leaving = body(
        finalizers=["x", FINALIZER],
        deletionTimestamp="2026-01-01T00:00:00Z",
        annotations={"computility.io/deletion-policy": "orphan"},
    )
    custom = custom_of(leaving, Place("agents"), "m")
    assert (custom.is_leaving, custom.has_finalizer, custom.is_orphaned) == (True, True, True)


@pytest.mark.parametrize(
    ("metadata", "want"),
    [
        ({}, Place("team")),
        ({"labels": {"computility.io/project": "b"}}, Place("b")),
        (
            {"annotations": {"computility.io/project": "a"}, "labels": {"computility.io/project": "b"}},
            Place("a"),
        ),
        ({"annotations": {"computility.io/role": "platform-admin"}}, Place("team", "platform-admin")),
        ({"labels": {"computility.io/role": "platform-admin"}}, Place("team")),
        ({"annotations": {"computility.io/role": "king"}}, Place("team")),
    ],
)
def test_a_namespace_is_a_project(metadata: dict[str, Any], want: Place) -> None:
    assert place_of({"metadata": {"name": "team", **metadata}}) == want


def test_rights_are_those_of_the_namespace() -> None:
    assert Place("a").acts_as == "member/a"
    assert Place("a", "tenant-admin").acts_as == "tenant-admin/a"
    assert Place("a", "platform-admin").acts_as is None
    assert NOWHERE.acts_as is None


def test_marks_tell_clusters_and_namespaces_apart() -> None:
    assert mark_for("c", key_of(body())) == "c/team/tiny"
    assert mark_for("c", Key("Tenant", "", "acme")) == "c/-/acme"
