"""Who may do what in one namespace may do nothing in another, in Kubernetes or in control through it."""

import json
from pathlib import Path

import pytest

from tests.fixtures.kube.operator_process import Site, endpoint, model

pytestmark = pytest.mark.integration


def tenant_in(site: Site, namespace: str) -> Path:
    """The kubeconfig of a service account that may do everything with our kinds in its namespace."""
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "tenant", "namespace": namespace},
    }
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "tenant", "namespace": namespace},
        "rules": [{"apiGroups": ["computility.io"], "resources": ["*"], "verbs": ["*"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "tenant", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"},
        "subjects": [{"kind": "ServiceAccount", "name": "tenant", "namespace": namespace}],
    }
    site.apply(account, role, binding)
    return site.plane.as_service_account(namespace, "tenant")


def test_a_service_account_stays_in_its_namespace(site: Site) -> None:
    mine, theirs = site.namespace("mine"), site.namespace("theirs")
    config = tenant_in(site, mine)
    site.apply(model("m", theirs))
    site.wait_synced("models", "m", theirs)

    def as_tenant(*words: str, document: object = None) -> str:
        text = json.dumps(document) if document else None
        result = site.plane.try_kubectl(*words, stdin=text, config=config)
        return result.stderr if result.returncode else ""

    assert not as_tenant("apply", "-f", "-", document=model("m", mine))
    site.wait_synced("models", "m", mine)
    for words, document in (
        (("apply", "-f", "-"), model("m", theirs, "x/y")),
        (("get", "models.computility.io", "-n", theirs), None),
        (("delete", "models.computility.io/m", "-n", theirs), None),
        (("get", "tenants.computility.io"), None),
        (("annotate", "namespace", mine, "computility.io/role=platform-admin"), None),
        (("label", "namespace", mine, "computility.io/project=theirs"), None),
    ):
        assert "forbidden" in as_tenant(*words, document=document).lower(), words
    stored = site.client.get("models", "m", theirs)
    assert stored["spec"]["source"] == "Qwen/Qwen3-0.6B"


def test_no_document_reaches_another_project_or_more_rights(site: Site) -> None:
    mine, theirs = site.namespace("inside"), site.namespace("outside")
    site.apply(model("private", theirs))
    site.wait_synced("models", "private", theirs)
    site.apply(model("shared", mine, shared=True))
    site.apply(endpoint("e", mine, "private"))
    workload = {
        **model("w", mine),
        "kind": "Workload",
        "spec": {"roles": [{"name": "r", "command": ["sleep", "1"]}]},
    }
    adapter = {
        **model("a", mine),
        "kind": "Adapter",
        "spec": {"model": "private", "modelProject": theirs, "servedName": "ft:x", "path": "/etc"},
    }
    site.apply(workload, adapter)
    for plural, name in (("models", "shared"), ("endpoints", "e"), ("workloads", "w"), ("adapters", "a")):
        site.wait_synced(plural, name, mine, "False")
        assert site.stored(plural, name, mine) is None, plural
    assert site.synced("workloads", "w", mine)["reason"] == "Forbidden"
