"""The groups of the chart's RayCluster grow for what waits, and shrink by the names of idle nodes, with the
rights that the chart gives."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import helm_python
import pytest

from common.client import Client
from operators.kube.client import MANAGER
from tests.fixtures.kube.kuberay import CRD, KubeRay
from tests.fixtures.kube.operator_process import Site
from tests.fixtures.kube.plane import Plane
from tests.fixtures.kube.pool_control import DEVICES, PoolControl
from tests.integration.operators.conftest import take_away
from tests.integration.operators.test_pools import workload
from tests.unit.chart.rendering import CHART, Document, laid_over, preset

pytestmark = pytest.mark.integration
SPACE, GROUP = "kuberay", "h100"
TEMPLATES = ("raycluster.yaml", "operator-rbac.yaml")
POOL = {
    "name": GROUP,
    "vendor": "nvidia",
    "replicas": 0,
    "minReplicas": 0,
    "maxReplicas": 3,
    "accelerator": {"count": DEVICES},
    "shape": {"model": "H100", "memoryBytes": 80 << 30},
}
VALUES = laid_over(
    preset("evaluation"),
    {"ray": {"mode": "kuberay"}, "nodePools": [{"name": "none", "replicas": 0, "maxReplicas": 0}, POOL]},
)


class Elastic(NamedTuple):
    site: Site
    ray: KubeRay
    chart: Path

    def helm(self, values: Document) -> None:
        """Upgrade the release."""
        config = helm_python.Config(kubeconfig_path=str(self.site.plane.kubeconfig), namespace=SPACE)
        config.upgrade(str(self.chart), "r", laid_over(VALUES, values), namespace=SPACE)

    def running(self) -> dict[str, str]:
        """The nodes of the workloads that run."""
        found = {}
        for one in self.site.client.list("workloads", "search"):
            status = one["status"]
            if status["phase"] not in ("Pending", "Starting"):
                found[one["metadata"]["name"]] = status["ranks"][0]["node"]
        return found


@pytest.fixture(scope="module")
def elastic(cluster: Plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elastic]:
    """An operator that looks at groups all the time and lets nodes cool for two seconds."""
    folder = tmp_path_factory.mktemp("kuberay")
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(CRD))
    cluster.kubectl("wait", "--for=condition=Established", "crd/rayclusters.ray.io", "--timeout=30s")
    control = PoolControl(folder / "control")
    asyncio.run(_started(control))
    site = Site(cluster, control, folder)
    site.settings = {"POOLS_NAMESPACE": SPACE, "POOLS_KIND": "RayCluster"}
    site.settings |= {"POOLS_LOOK_SECONDS": "0.3", "POOLS_COOL_SECONDS": "2"}
    chart = some_of_the_chart(folder)
    config = helm_python.Config(kubeconfig_path=str(cluster.kubeconfig), namespace=SPACE)
    try:
        site.namespace(SPACE)
        config.install(str(chart), "r", VALUES, namespace=SPACE)
        site.kubeconfig = cluster.as_service_account(SPACE, "r-computility-operator")
        client = Client(control.settings.control_url, control.key)

        def drained(node: str) -> bool:
            return bool(client.get("nodes", node)["spec"]["drain"])

        with KubeRay(cluster, (SPACE, "r-computility"), control.set_nodes, drained) as ray:
            site.start()
            yield Elastic(site, ray, chart)
    finally:
        site.kill()
        control.kill()
        config.uninstall("r")
        cluster.kubectl("delete", "crd", "rayclusters.ray.io")
        take_away(cluster)


async def _started(control: PoolControl) -> None:
    await control.start()
    await control.populate()


def some_of_the_chart(folder: Path) -> Path:
    """The RayCluster and the operator's rights alone."""
    made = folder / "chart"
    shutil.copytree(CHART, made)
    for path in (made / "templates").glob("*.yaml"):
        if path.name not in TEMPLATES:
            path.unlink()
    return made


def test_groups_follow_what_waits_and_keep_what_is_busy(elastic: Elastic) -> None:
    site, ray = elastic.site, elastic.ray
    for name in ("a", "b", "c"):
        site.client.apply(workload(name, 1))
    site.wait_until(lambda: len(elastic.running()) == 3)
    names = ray.names(GROUP)
    assert ray.group(GROUP)["replicas"] == 3

    site.wait_until(lambda: MANAGER not in ray.managers())
    elastic.helm({"image": {"tag": "new"}})
    group = ray.group(GROUP)
    assert group["template"]["spec"]["containers"][0]["image"].endswith(":new")
    assert group["replicas"] == 3, "an upgrade keeps what the operator has made of it"

    middle = {node: name for name, node in elastic.running().items()}[names[1]]
    for name in {"a", "b", "c"} - {middle}:
        site.client.delete("workloads", name, "search")
    site.wait_until(lambda: len(ray.pods(GROUP)) == 1)
    assert ray.taken == dict.fromkeys((names[0], names[2]), True), "drained first"
    assert elastic.running() == {middle: names[1]}
    group = ray.group(GROUP)
    assert (group["replicas"], set(group["scaleStrategy"]["workersToDelete"])) == (1, {names[0], names[2]})

    site.client.apply(workload("gang", 2))
    site.wait_until(lambda: set(elastic.running()) == {middle, "gang"})
    assert ray.group(GROUP)["replicas"] == 3
    assert ray.group(GROUP)["scaleStrategy"] == {"workersToDelete": []}

    site.wait_until(lambda: MANAGER not in ray.managers())
    elastic.helm({"nodePools": [*VALUES["nodePools"][:1], {**POOL, "maxReplicas": 1}]})
    group = ray.group(GROUP)
    assert (group["replicas"], group["maxReplicas"]) == (3, 3), "a lower most is reached node by node"
    for name in (middle, "gang"):
        site.client.delete("workloads", name, "search")
    site.wait_until(lambda: not ray.pods(GROUP))
    assert ray.chosen == [], "all that went was named"
