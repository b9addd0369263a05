"""What control tells of a resource stands in Kubernetes as an Event, once."""

from typing import Any

import pytest

from tests.fixtures.kube.operator_process import API, Site

pytestmark = pytest.mark.integration


def events_of(site: Site, namespace: str) -> list[dict[str, Any]]:
    """Those about our kinds."""
    items = site.plane.get("events", "-n", namespace)["items"]
    return [item for item in items if item["involvedObject"]["apiVersion"] == API]


def test_a_workload_that_waits_says_so_in_kubernetes(site: Site) -> None:
    space = site.namespace("told", role="platform-admin")
    site.client.apply(
        {"apiVersion": API, "kind": "Project", "metadata": {"name": space}, "spec": {"tenant": "acme"}}
    )
    workload = {
        "apiVersion": API,
        "kind": "Workload",
        "metadata": {"name": "w", "namespace": space},
        "spec": {"roles": [{"name": "r", "replicas": 1, "command": ["sleep", "1"]}]},
    }
    site.apply(workload)
    site.wait_synced("workloads", "w", space)
    site.wait_until(lambda: events_of(site, space))
    [event] = events_of(site, space)
    assert event["reason"] == "Waiting"
    assert event["involvedObject"]["name"] == "w"
    # The next operator tells nothing twice.
    site.kill()
    site.start()
    site.plane.kubectl("label", "workloads.computility.io/w", "-n", space, "look=again")
    site.wait_until(lambda: "look" in (site.stored("workloads", "w", space) or {})["metadata"]["labels"])
    assert len(events_of(site, space)) == 1
    site.plane.kubectl("delete", "workloads.computility.io/w", "-n", space, "--timeout=20s")
