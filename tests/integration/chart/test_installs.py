"""The chart on a real API server: what it takes, what an upgrade keeps, what an uninstall leaves."""

import json
from collections.abc import Iterator
from typing import Any

import helm_python
import pytest
import yaml

from tests.fixtures.kube.plane import Plane, running_plane
from tests.unit.chart.rendering import CHART, PRESETS, laid_over, preset

pytestmark = pytest.mark.integration
SECRETS = ("instance", "admin", "database", "webhook")
# Kinds of operators that the server has not got.
BARE = {"monitoring": {"podMonitor": {"enabled": False}, "prometheusRule": {"enabled": False}}}


@pytest.fixture(scope="module")
def server() -> Iterator[Plane]:
    with running_plane() as plane:
        yield plane


def helm(plane: Plane, namespace: str) -> Any:
    return helm_python.Config(kubeconfig_path=str(plane.kubeconfig), namespace=namespace)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_taken_by_the_server(server: Plane, name: str) -> None:
    values = laid_over(preset(name), BARE)
    space = f"dry-{name}"
    server.kubectl("create", "namespace", space)
    made = helm(server, space).install(str(CHART), "r", values, namespace=space, dry_run="server")
    assert made["name"] == "r"
    assert server.get("all", "-n", space)["items"] == []


def test_pools_reach_the_api_server_where_the_cluster_says_that_it_is(server: Plane) -> None:
    said = {"addresses": [{"ip": "10.9.8.7"}], "ports": [{"name": "https", "port": 7443}]}
    # The server tells no address of its own while that is loopback.
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "kubernetes"},
        "subsets": [said],
    }
    server.kubectl("apply", "-n", "default", "-f", "-", stdin=json.dumps(endpoints))
    values = laid_over(preset("production"), BARE)
    config = helm(server, "egress")
    made = config.install(
        str(CHART), "r", values, namespace="egress", create_namespace=True, dry_run="server"
    )
    policies = [one for one in yaml.safe_load_all(made["manifest"]) if one and one["kind"] == "NetworkPolicy"]
    [rules] = [one["spec"]["egress"] for one in policies if one["metadata"]["name"].endswith("-pool-egress")]
    [rule] = [rule for rule in rules if any(port["port"] == 7443 for port in rule.get("ports", ()))]
    cluster = server.get("service", "kubernetes", "-n", "default")["spec"]["clusterIP"]
    assert [peer["ipBlock"]["cidr"] for peer in rule["to"]] == ["10.9.8.7/32", f"{cluster}/32"]


def test_an_upgrade_keeps_secrets_and_an_uninstall_what_says_keep(server: Plane) -> None:
    config = helm(server, "kept")
    pool = {"name": "cpu", "replicas": 1, "minReplicas": 0, "maxReplicas": 5}
    values = laid_over(preset("evaluation"), {"examples": {"enabled": False}, "nodePools": [pool]})
    config.install(str(CHART), "r", values, namespace="kept", create_namespace=True)
    before = {name: server.get("secret", f"r-computility-{name}", "-n", "kept")["data"] for name in SECRETS}
    server.kubectl("scale", "statefulset/r-computility-pool-cpu", "--replicas=3", "-n", "kept")
    config.upgrade(
        str(CHART), "r", laid_over(values, {"settings": {"engine": {"omp_threads": 2}}}), namespace="kept"
    )
    after = {name: server.get("secret", f"r-computility-{name}", "-n", "kept")["data"] for name in SECRETS}
    assert before == after
    grown = server.get("statefulset", "r-computility-pool-cpu", "-n", "kept")
    assert grown["spec"]["replicas"] == 3, "what the operator has made of an elastic pool"
    settings = server.get("configmap", "r-computility-settings", "-n", "kept")["data"]
    assert settings["COMPUTILITY_ENGINE__OMP_THREADS"] == "2"
    hook = server.get("validatingwebhookconfiguration", "r-computility-kept")["webhooks"][0]
    assert hook["clientConfig"]["caBundle"] == after["webhook"]["ca.crt"]

    config.uninstall("r")
    left = {each["metadata"]["name"] for each in server.get("secret", "-n", "kept")["items"]}
    assert {name for name in left if name.startswith("r-computility")} == {"r-computility-database"}
    kinds = [each["metadata"]["name"] for each in server.get("crd")["items"]]
    assert "endpoints.computility.io" in kinds
    again = helm(server, "kept").install(str(CHART), "r", values, namespace="kept")
    assert again["revision"] == 1
    assert server.get("secret", "r-computility-database", "-n", "kept")["data"] == after["database"]
