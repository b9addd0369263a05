"""What can be said to the scheduler: defaults keep old documents working, mistakes are named by field."""

from typing import Any

import pytest
from pydantic import ValidationError

from common.errors import InvalidInput
from common.resources import Queue, Workload, parse_resource
from common.resources.pool import DeviceQuota, DeviceRequest
from common.settings import load_settings


def workload(role: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    roles = [{"name": "main", "command": ["true"], **(role or {})}]
    return {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Workload",
        "metadata": {"name": "w", "project": "p"},
        "spec": {"roles": roles, **spec},
    }


def devices(**request: Any) -> dict[str, Any]:
    return workload({"devices": request})


def queue(**spec: Any) -> dict[str, Any]:
    document = {"apiVersion": "computility.io/v1alpha1", "kind": "Queue", "metadata": {"name": "q"}}
    return {**document, "spec": spec}


SERVER = {"ports": ["http"], "readiness": {"port": "http"}}


@pytest.mark.parametrize(
    ("document", "where", "says"),
    [
        (devices(shareMillis=0), "spec.roles[0].devices.shareMillis", "at least 1"),
        (devices(shareMillis=1001), "spec.roles[0].devices.shareMillis", "at most 1000"),
        (devices(shareMillis=500, count=2), "spec.roles[0].devices", "shareMillis"),
        (devices(shareMillis=500, count=0), "spec.roles[0].devices", "shareMillis"),
        (devices(equivalence={}), "spec.roles[0].devices.equivalence", "tflops or memoryBytes"),
        (devices(count=2, equivalence={"tflops": 600}), "spec.roles[0].devices", "leave out count"),
        (
            devices(tflops=10, dtype="fp8", equivalence={"tflops": 600, "dtype": "bf16"}),
            "spec.roles[0].devices",
            "equivalence.dtype",
        ),
        (workload({"replicas": 2, "minReplicas": 3}), "spec.roles[0]", "minReplicas"),
        (workload(rollout={"maxSurge": 0, "maxUnavailable": 0}), "spec.rollout", "must not both be 0"),
        (workload(rollout={"maxSurge": 1}), "spec", "rollout.maxSurge: needs readiness"),
        (
            workload({"replicas": 4, "minReplicas": 2}, rollout={"independent": True}),
            "spec",
            "roles.minReplicas",
        ),
        (workload(kind="serving"), "spec.kind", "training"),
        (workload(expectedSeconds=0), "spec.expectedSeconds", "greater than 0"),
        (queue(quotas=[{"deviceClass": "intel"}]), "spec.quotas[0].deviceClass", "a vendor"),
        (queue(quotas=[{"deviceClass": "nvidia/"}]), "spec.quotas[0].deviceClass", "a vendor"),
        (queue(quotas=[{}, {}]), "spec", "each deviceClass only once"),
        (queue(budgets=[{"deviceHours": 1}] * 2), "spec", "each deviceClass and period only once"),
        (queue(parent="No Name"), "spec.parent", "must be 1-63 characters"),
        (queue(weight=-1), "spec.weight", "at least 0"),
    ],
)
def test_a_mistake_is_named(document: dict[str, Any], where: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_resource(document)
    problems = {problem.path: problem.message for problem in refused.value.problems}
    assert says in problems[where]


def test_all_that_can_be_said_is_understood() -> None:
    request = {
        "vendors": ["nvidia", "ascend"],
        "tflops": 200.5,
        "dtype": "fp8",
        "capabilities": ["fp8"],
        "equivalence": {"tflops": 600, "memoryBytes": 80, "maxCount": 8},
        "cpuMillis": 4000,
        "hostMemoryBytes": 1024,
        "nodeLabels": {"zone": "a"},
    }
    document = workload(
        {**SERVER, "replicas": 4, "devices": request},
        kind="inference",
        affinity={"data": ["llama"], "near": {"app": "db"}, "same": "rack", "spread": "zone"},
        preemptible=False,
        movable=True,
        expectedSeconds=60,
        startWithinSeconds=30,
        graceSeconds=2.5,
        rollout={"independent": True, "maxSurge": 1, "maxUnavailable": 0},
    )
    parsed = parse_resource(document)
    assert isinstance(parsed, Workload)
    spec = parsed.spec
    assert spec.roles[0].devices.equivalence is not None
    assert (spec.kind, spec.rollout.max_surge, spec.affinity.same) == ("inference", 1, "rack")
    assert parse_resource(parsed.model_dump(mode="json", by_alias=True)) == parsed
    parsed_queue = parse_resource(
        queue(
            parent="cohort",
            quotas=[{"deviceClass": "nvidia/H100 SXM", "nominalDevices": 4, "lendingDevices": 2}],
            budgets=[{"deviceHours": 100, "period": "month"}],
        )
    )
    assert isinstance(parsed_queue, Queue)
    assert parsed_queue.spec.quotas[0].borrowing_devices is None


def test_documents_of_before_mean_what_they_meant() -> None:
    parsed = parse_resource(workload())
    assert isinstance(parsed, Workload)
    request = parsed.spec.roles[0].devices
    assert (request.share_millis, request.count, request.equivalence) == (1000, 1, None)
    assert (parsed.spec.preemptible, parsed.spec.movable, parsed.spec.rollout.independent) == (
        True,
        False,
        False,
    )


def test_a_wrong_request_made_in_code_is_refused_too() -> None:
    with pytest.raises(ValidationError, match="shareMillis"):
        DeviceRequest(share_millis=300, count=3)
    with pytest.raises(ValidationError, match="device_class"):
        DeviceQuota(device_class="intel")


@pytest.mark.parametrize("name", ["", "A", "a.b", "-a", "a" * 41])
def test_a_cluster_name_must_fit_into_node_names(name: str) -> None:
    with pytest.raises(InvalidInput, match="1-40 characters"):
        load_settings(home="/nowhere", ray={"clusters": {name: "10.0.0.1:6379"}})


def test_a_cluster_needs_an_address() -> None:
    with pytest.raises(InvalidInput, match="needs the address"):
        load_settings(home="/nowhere", ray={"clusters": {"west": ""}})
