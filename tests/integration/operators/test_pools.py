"""A StatefulSet of nodes grows for what waits in control, and shrinks when its nodes are idle; nodes are
shown in Kubernetes."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.kube.operator_process import API, Site
from tests.fixtures.kube.plane import Plane
from tests.fixtures.kube.pool_control import DEVICES, PoolControl
from tests.integration.operators.conftest import take_away

pytestmark = pytest.mark.integration
SPACE, POOL = "pools", "h100"
SHAPE = {"vendor": "nvidia", "model": "H100", "devices": DEVICES, "memoryBytes": 80 << 30}


@pytest.fixture(scope="module")
def elastic(cluster: Plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An operator that looks at pools all the time and lets them cool for two seconds."""
    folder = tmp_path_factory.mktemp("pools")
    control = PoolControl(folder / "control")
    asyncio.run(_started(control))
    site = Site(cluster, control, folder)
    site.settings = {"POOLS_NAMESPACE": SPACE, "POOLS_LOOK_SECONDS": "0.3", "POOLS_COOL_SECONDS": "2"}
    try:
        site.namespace(SPACE)
        site.apply(stateful_set())
        site.start()
        yield site
    finally:
        site.kill()
        control.kill()
        take_away(cluster)


async def _started(control: PoolControl) -> None:
    await control.start()
    await control.populate()


def stateful_set() -> dict[str, Any]:
    labels = {"app": POOL}
    notes = {"min-replicas": "0", "max-replicas": "3", "node-shape": json.dumps(SHAPE)}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": "pool",
            "namespace": SPACE,
            "labels": {"computility.io/pool": POOL},
            "annotations": {f"computility.io/{name}": value for name, value in notes.items()},
        },
        "spec": {
            "replicas": 0,
            "serviceName": "pool",
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "ray", "image": "none"}]},
            },
        },
    }


def replicas(site: Site, drained: set[str] | None = None) -> int:
    """As many as there are to be; those are made to join, as Ray and the kubelet would. Into ``drained`` go
    the nodes that are drained before any is taken."""
    found = site.plane.get("statefulset", "pool", "-n", SPACE)["spec"]["replicas"]
    assert isinstance(site.control, PoolControl)
    if drained is not None:
        drained |= {node["metadata"]["name"] for node in site.client.list("nodes") if node["spec"]["drain"]}
    site.control.set_nodes(POOL, [f"pool-{i}" for i in range(found)])
    return int(found)


def workload(name: str, ranks: int, devices: int = DEVICES, **spec: Any) -> dict[str, Any]:
    role = {
        "name": "r",
        "replicas": ranks,
        "command": ["sleep", "100"],
        "devices": {"count": devices, "vendors": ["nvidia"]},
    }
    return {
        "apiVersion": API,
        "kind": "Workload",
        "metadata": {"name": name, "project": "search"},
        "spec": {"roles": [role], **spec},
    }


def test_a_pool_follows_what_waits(elastic: Site) -> None:
    site = elastic
    assert replicas(site) == 0
    site.client.apply(workload("gang", 2))
    site.wait_until(lambda: replicas(site) == 2)

    def runs() -> bool:
        replicas(site)
        phase = site.client.get("workloads", "gang", "search")["status"]["phase"]
        return phase not in ("Pending", "Starting")

    site.wait_until(runs)
    assert replicas(site) == 2
    # More than the pool may have, of a kind that it has not: it stays as it is.
    site.client.apply(workload("too-many", 4))
    site.client.apply(workload("too-large", 1, DEVICES + 1))
    site.wait_until(lambda: bool(site.client.get("workloads", "too-many", "search")["status"].get("pending")))

    def shown() -> int:
        return len((site.find("nodes", "pool-1") or {}).get("status", {}).get("devices", ()))

    site.wait_until(lambda: shown() == DEVICES)
    assert replicas(site) == 2
    for name in ("too-many", "too-large", "gang"):
        site.client.delete("workloads", name, "search")
    drained: set[str] = set()
    site.wait_until(lambda: replicas(site, drained) == 0, 60)
    assert drained == {"pool-0", "pool-1"}


def test_what_is_written_into_a_node_goes_to_control(elastic: Site) -> None:
    site = elastic
    site.client.apply(workload("one", 1))
    site.wait_until(lambda: replicas(site) == 1)
    site.wait_until(lambda: site.find("nodes", "pool-0"))
    patch = json.dumps({"spec": {"cordoned": True, "labels": {"rack": "a"}}})
    site.plane.kubectl("patch", "nodes.computility.io", "pool-0", "--type=merge", f"-p={patch}")

    def is_cordoned() -> bool:
        spec = site.client.get("nodes", "pool-0")["spec"]
        return bool(spec["cordoned"]) and spec["labels"] == {"rack": "a"}

    site.wait_until(is_cordoned)
    assert is_cordoned(), "and the operator does not put it back"
    site.client.delete("workloads", "one", "search")
