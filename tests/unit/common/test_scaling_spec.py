"""What an Endpoint may say about its scaling, and which field is named when it may not."""

from typing import Any

import pytest

from common.errors import InvalidInput
from common.resources import Endpoint, parse_resource
from common.resources.scaling import RoleScaling
from common.resources.serving import Replica

CPU = {"devices": {"vendors": ["cpu"]}}


def endpoint(**spec: Any) -> Endpoint:
    resource = parse_resource(
        {
            "apiVersion": "computility.io/v1alpha1",
            "kind": "Endpoint",
            "metadata": {"name": "chat", "project": "lab"},
            "spec": {"model": "tiny", **spec},
        }
    )
    assert isinstance(resource, Endpoint)
    return resource


def test_an_empty_section_works() -> None:
    made = endpoint(autoscaling={})
    scaling = made.spec.roles[""].autoscaling
    assert scaling is not None
    assert (scaling.min_replicas, scaling.max_replicas) == (1, 4)
    assert (made.spec.engines, made.is_elastic, made.spec.may_sleep) == (4, True, False)
    assert endpoint(autoscaling={"minReplicas": 0}).spec.may_sleep


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}, "spec.autoscaling: minReplicas: 3 is above"),
        ({"autoscaling": {"minReplicas": 5}}, "spec.autoscaling: minReplicas: 5 is above maxReplicas, 4"),
        ({"autoscaling": {"maxReplicas": 0}}, "spec.autoscaling.maxReplicas"),
        ({"autoscaling": {"maxReplicas": 10**9}}, "spec.autoscaling.maxReplicas"),
        ({"autoscaling": {"minReplicas": -1}}, "spec.autoscaling.minReplicas"),
        (
            {"autoscaling": {"targets": {"requestsPerReplica": 0}}},
            "spec.autoscaling.targets.requestsPerReplica",
        ),
        ({"autoscaling": {"targets": {"kvCacheUse": 1.5}}}, "spec.autoscaling.targets.kvCacheUse"),
        ({"autoscaling": {"scaleToZeroAfterSeconds": 0}}, "spec.autoscaling.scaleToZeroAfterSeconds"),
        ({"autoscaling": {"schedules": [{"window": "noon"}]}}, "spec.autoscaling.schedules[0].window"),
        (
            {"autoscaling": {"schedules": [{"window": "8:00-9:00", "timeZone": "../etc/passwd"}]}},
            "spec.autoscaling.schedules[0].timeZone",
        ),
        (
            {"autoscaling": {"schedules": [{"window": "8:00-9:00", "minReplicas": 9}]}},
            "schedules[0].minReplicas: 9 is above",
        ),
        (
            {"autoscaling": {"schedules": [{"window": "8:00-9:00", "maxReplicas": 9}]}},
            "schedules[0].maxReplicas: 9 is above",
        ),
        ({"autoscaling": {"schedules": [{"window": "8:00-9:00"}] * 33}}, "spec.autoscaling.schedules"),
        ({"replicas": 2, "autoscaling": {}}, "replicas: leave it out with autoscaling"),
        ({"mode": "single", "autoscaling": {}}, "autoscaling.maxReplicas: mode single has one engine"),
        (
            {"mode": "disaggregated", "autoscaling": {}, "prefill": CPU, "decode": CPU},
            "autoscaling: leave it out in mode disaggregated",
        ),
        (
            {
                "mode": "disaggregated",
                "prefill": {**CPU, "autoscaling": {"minReplicas": 0}},
                "decode": {**CPU, "autoscaling": {}},
            },
            "prefill.autoscaling.minReplicas: 0 needs decode.autoscaling.minReplicas: 0",
        ),
    ],
)
def test_what_may_not_be_is_named(spec: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput) as error:
        endpoint(**spec)
    assert named in error.value.message


def test_each_role_has_its_own() -> None:
    made = endpoint(
        mode="disaggregated",
        prefill={**CPU, "autoscaling": {"maxReplicas": 2}},
        decode={**CPU, "replicas": 3},
    )
    assert made.spec.engines == 5
    assert made.wanted == {"prefill": 1, "decode": 3}


def test_wanted_is_what_load_asks_for_within_the_limits() -> None:
    made = endpoint(autoscaling={"minReplicas": 2, "maxReplicas": 5})
    assert made.wanted == {"": 2}
    made.status.replicas = [Replica(workload=f"chat-{i}") for i in range(4)]
    assert made.wanted == {"": 4}, "turning it on takes no engine away"
    made.status.scaling = [RoleScaling(wanted=99)]
    assert made.wanted == {"": 5}
    assert endpoint(replicas=3).wanted == {"": 3}
