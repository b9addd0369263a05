"""The operator with no more rights than it needs, in the namespaces that it is told to watch."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.kube.operator_process import API, Site, model
from tests.integration.operators.test_keys_and_jobs import api_key, opens, secret_of

pytestmark = pytest.mark.integration
HOME, WATCHED, OTHER = "operator-home", "watched", "not-watched"
RBAC = "rbac.authorization.k8s.io"


def rule(group: str, resources: str, verbs: str) -> dict[str, list[str]]:
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split()}


IN_WATCHED = [
    rule("computility.io", "*", "get list watch update patch"),
    rule("", "secrets", "get create patch"),
    rule("", "configmaps", "get"),
    rule("", "events", "create patch"),
]
EVERYWHERE = [
    rule("", "namespaces", "get list watch"),
    rule("apiextensions.k8s.io", "customresourcedefinitions", "get list watch"),
    rule(
        "computility.io",
        "tenants projects queues prices budgets guardrails nodes tenants/status projects/status "
        "queues/status prices/status budgets/status guardrails/status nodes/status",
        "get list watch update patch",
    ),
    rule("computility.io", "nodes", "create delete"),
]
AT_HOME = [rule("coordination.k8s.io", "leases", "get create update")]


def granted(name: str, rules: list[dict[str, list[str]]], namespace: str = "") -> list[dict[str, Any]]:
    """A role and its binding to the operator's account."""
    prefix = "" if namespace else "Cluster"
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return [
        {"apiVersion": f"{RBAC}/v1", "kind": f"{prefix}Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": f"{prefix}RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": f"{prefix}Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": HOME}],
        },
    ]


@pytest.fixture
def bound(site: Site) -> Iterator[Site]:
    """The operator as a service account with these rights alone."""
    for name in (HOME, WATCHED, OTHER):
        site.namespace(name)
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "operator", "namespace": HOME},
    }
    site.apply(
        account,
        *granted("operator", IN_WATCHED, WATCHED),
        *granted("operator", AT_HOME, HOME),
        *granted("operator-everywhere", EVERYWHERE),
    )
    site.stop()
    kubeconfig = site.kubeconfig
    site.kubeconfig = site.plane.as_service_account(HOME, "operator")
    site.settings = {"NAMESPACES": json.dumps([WATCHED]), "LEASE_NAMESPACE": HOME, "LEASE_SECONDS": "2"}
    site.start()
    yield site
    site.stop()
    site.kubeconfig, site.settings = kubeconfig, {}
    site.start()


def test_it_does_all_that_it_should_and_nothing_elsewhere(bound: Site) -> None:
    site = bound
    site.wait_until(lambda: site.told()["role"] == "leader")
    tenant = {"apiVersion": API, "kind": "Tenant", "metadata": {"name": "rights"}, "spec": {}}
    site.apply(tenant, model("m", WATCHED), model("m", OTHER), api_key("k", WATCHED))
    for plural, name, space in (
        ("tenants", "rights", ""),
        ("models", "m", WATCHED),
        ("apikeys", "k", WATCHED),
    ):
        site.wait_synced(plural, name, space)
    assert opens(site, secret_of(site, WATCHED, "k"))
    for plural, name in (("apikeys", "k"), ("models", "m")):
        site.plane.kubectl("delete", f"{plural}.computility.io", name, "-n", WATCHED, "--timeout=20s")
    site.plane.kubectl("delete", "tenants.computility.io", "rights", "--timeout=20s")
    time.sleep(1)
    assert site.synced("models", "m", OTHER) == {}
    assert site.stored("models", "m", OTHER) is None
    assert "forbidden" not in site.log.read_text().lower()
    site.plane.kubectl("delete", "models.computility.io", "m", "-n", OTHER, "--timeout=20s")
