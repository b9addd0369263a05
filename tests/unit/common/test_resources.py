"""Documents become resources, or every mistake is named with its path."""

import json
from copy import deepcopy
from typing import Any

import pytest

from common.errors import InvalidInput
from common.resources import KINDS, PLURALS, Resource, Status, Workload, load_stored, parse_resource

WORKLOAD: dict[str, Any] = {
    "apiVersion": "computility.io/v1alpha1",
    "kind": "Workload",
    "metadata": {"name": "train-1", "project": "web", "labels": {"team": "a"}},
    "spec": {
        "roles": [
            {
                "name": "main",
                "replicas": 2,
                "command": ["python", "-m", "http.server", "$(PORT:http)"],
                "ports": ["http"],
                "devices": {"count": 1, "notVendors": ["cpu"], "memoryBytes": 1024},
                "readiness": {"port": "http"},
            }
        ],
        "restart": {"policy": "OnFailure", "maxRestarts": 3},
    },
}
PRICE: dict[str, Any] = {
    "apiVersion": "computility.io/v1alpha1",
    "kind": "Price",
    "metadata": {"name": "standard"},
    "spec": {
        "effectiveFrom": "2026-01-01T00:00:00Z",
        "items": [{"meter": "prompt_tokens", "microcreditsPerMillion": 5}],
    },
}


def changed(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with the value at ``a.b.0.c`` replaced."""
    copy = deepcopy(document)
    place: Any = copy
    *parents, last = path.split(".")
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    place[last] = value
    return copy


def problems(document: object) -> dict[str, str]:
    with pytest.raises(InvalidInput) as refused:
        parse_resource(document)
    error = refused.value
    return {p.path: p.message for p in error.problems} or {error.param or "": error.message}


def test_a_document_goes_through_the_store_and_back() -> None:
    resource = parse_resource(WORKLOAD)
    assert isinstance(resource, Workload)
    assert resource.key == "Workload/web/train-1"
    assert resource.spec.roles[0].devices.not_vendors == ["cpu"]
    stored = resource.to_dict()
    assert stored["spec"]["roles"][0]["devices"]["memoryBytes"] == 1024
    assert load_stored("Workload", json.dumps(stored)) == resource
    assert parse_resource(stored) == resource


@pytest.mark.parametrize(
    ("path", "value", "where", "says"),
    [
        ("spec.colour", "red", "spec.colour", "unknown field"),
        ("spec.roles.0.replica", 2, "spec.roles[0].replica", "unknown field"),
        ("metadata.resource", "x", "metadata.resource", "unknown field"),
        ("spec.roles.0.replicas", "2", "spec.roles[0].replicas", "must be a whole number"),
        ("spec.roles.0.replicas", 0, "spec.roles[0].replicas", "at least 1"),
        ("spec.roles.0.command", [], "spec.roles[0].command", "at least one entry"),
        ("spec.roles.0.command", ["x", 5], "spec.roles[0].command[1]", "must be a text"),
        ("spec.roles.0.devices.vendors", ["intel"], "spec.roles[0].devices.vendors[0]", "'nvidia'"),
        ("spec.roles.0.readiness", {"port": "grpc"}, "spec.roles[0]", "'grpc' is not in ports"),
        ("spec.restart.policy", "Sometimes", "spec.restart.policy", "'Always'"),
        ("spec.suspend", "yes", "spec.suspend", "true or false"),
        ("metadata.name", "Train_1", "metadata.name", "a-z, 0-9"),
        ("metadata.name", "a" * 254, "metadata.name", "at most 253 characters"),
        ("metadata.labels", {"n": 1}, "metadata.labels.n", "must be a text"),
        ("metadata.project", None, "metadata.project", "required"),
        ("kind", "Wrkload", "kind", "'Wrkload' is unknown; did you mean Workload? (kinds: Tenant"),
        ("apiVersion", "v2", "apiVersion", "must be computility.io/v1alpha1"),
    ],
)
def test_a_mistake_is_named_with_its_path(path: str, value: object, where: str, says: str) -> None:
    found = problems(changed(WORKLOAD, path, value))
    assert says in found[where]


def test_every_mistake_is_named() -> None:
    document = changed(WORKLOAD, "spec.roles.0.replicas", "two")
    document["spec"]["roles"][0]["name"] = "Main!"
    document["spec"]["colour"] = "red"
    assert set(problems(document)) == {"spec.roles[0].replicas", "spec.roles[0].name", "spec.colour"}


def test_what_is_missing_is_named() -> None:
    document = deepcopy(WORKLOAD)
    del document["spec"]
    assert problems(document) == {"spec": "required, but missing"}


@pytest.mark.parametrize("document", [None, "text", ["a list"], 3])
def test_only_a_mapping_is_a_resource(document: object) -> None:
    assert "must be a mapping" in problems(document)["."]


def test_a_cluster_kind_has_no_project() -> None:
    assert "belongs to no project" in problems(changed(PRICE, "metadata.project", "web"))["metadata.project"]


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("spec.effectiveFrom", "2026-01-01T00:00:00", "spec.effectiveFrom"),
        ("spec.effectiveFrom", "soon", "spec.effectiveFrom"),
        ("spec.items", [], "spec.items"),
        ("spec.items.0.meter", "tokens", "spec.items[0].meter"),
        ("spec.items.0.microcreditsPerMillion", 1.5, "spec.items[0].microcreditsPerMillion"),
        ("spec.items.0.microcreditsPerMillion", -1, "spec.items[0].microcreditsPerMillion"),
        ("spec.items.0.microcreditsPerMillion", 10**13, "spec.items[0].microcreditsPerMillion"),
    ],
)
def test_a_price_book_with_a_mistake_is_refused(path: str, value: object, where: str) -> None:
    assert where in problems(changed(PRICE, path, value))


def test_values_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"metadata\.labels\.when: is no value that JSON has"):
        parse_resource(changed(WORKLOAD, "metadata.labels", {"when": object()}))


def test_kinds_and_plurals_name_the_same_classes() -> None:
    assert set(KINDS.values()) == set(PLURALS.values())
    assert all(
        issubclass(kind, Resource) and kind.model_fields["kind"].default == name
        for name, kind in KINDS.items()
    )


class TestConditions:
    def test_the_time_moves_only_with_the_status(self) -> None:
        status = Status()
        assert status.set_condition("Ready", False, "Loading", now_ms=10)
        assert status.set_condition("Ready", False, "Warming", "almost", now_ms=20)
        assert not status.set_condition("Ready", False, "Warming", "almost", now_ms=30)
        ready = status.condition("Ready")
        assert ready is not None
        assert (ready.reason, ready.last_transition_ms, status.is_true("Ready")) == ("Warming", 10, False)
        assert status.set_condition("Ready", True, "Answers", now_ms=40)
        assert status.is_true("Ready")
        assert [c.last_transition_ms for c in status.conditions] == [40]

    def test_a_condition_that_was_not_observed_is_not_true(self) -> None:
        assert Status().condition("Ready") is None
        assert not Status().is_true("Ready")
