"""What each part of the chart is for: high availability, devices, the ways in, upgrades."""

import re
import subprocess
from typing import Any

import helm_python
import pytest
import yaml

from tests.unit.chart.kubernetes_schemas import schema_of
from tests.unit.chart.rendering import CHART, PRESETS, Document, containers, one, pods, preset, render

PRODUCTION = preset("production")
EVALUATION = preset("evaluation")


def environment(container: Document) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def pod_of(documents: list[Document], name: str) -> Document:
    return next(spec for found, spec in pods(documents) if found == name)


def test_gateways_end_after_their_longest_stream() -> None:
    values = {"gateway": {"drainSeconds": 900, "preStopSeconds": 20}}
    spec = pod_of(render(EVALUATION, values), "StatefulSet/test-computility-gateway")
    [gateway] = spec["containers"]
    assert environment(gateway)["COMPUTILITY_GATEWAY__DRAIN_SECONDS"] == "900"
    assert gateway["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "20"]
    assert spec["terminationGracePeriodSeconds"] > 900 + 20


def test_usage_is_on_a_volume_unless_that_is_not_wanted() -> None:
    with_volume = one(render(EVALUATION), "StatefulSet", "test-computility-gateway")["spec"]
    assert [claim["metadata"]["name"] for claim in with_volume["volumeClaimTemplates"]] == ["spool"]
    values = {"gateway": {"spool": {"persistent": False}}}
    without = one(render(EVALUATION, values), "StatefulSet", "test-computility-gateway")["spec"]
    assert "volumeClaimTemplates" not in without
    assert {"name": "spool", "emptyDir": {}} in without["template"]["spec"]["volumes"]


def test_every_server_has_probes_and_budgets_where_there_are_several() -> None:
    documents = render(PRODUCTION)
    for name in ("control", "gateway", "operator"):
        kind = "StatefulSet" if name == "gateway" else "Deployment"
        [server, *_] = pod_of(documents, f"{kind}/test-computility-{name}")["containers"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            path = "/readyz" if probe == "readinessProbe" else "/healthz"
            assert server[probe]["httpGet"]["path"] == path
        budget = one(documents, "PodDisruptionBudget", f"test-computility-{name}")
        assert budget["spec"]["maxUnavailable"] == 1
    single = render(EVALUATION)
    assert not [each for each in single if each["kind"] == "PodDisruptionBudget"]


def test_control_has_a_ray_node_of_its_own_that_bears_no_agent() -> None:
    spec = pod_of(render(EVALUATION), "Deployment/test-computility-control")
    control, ray = spec["containers"]
    assert spec["shareProcessNamespace"] is True
    assert environment(control)["COMPUTILITY_RAY__DRIVER_ADDRESS"] == "$(POD_IP)"
    assert "--node-ip-address=$(POD_IP)" in ray["command"]
    assert "--labels=computility.io/agent=none" in ray["command"]
    scratch = [{m["mountPath"]: m["name"] for m in each["volumeMounts"]}["/tmp"] for each in (control, ray)]
    assert scratch == ["scratch", "scratch"]


def test_secrets_reach_those_alone_that_need_them() -> None:
    for name, spec in pods(render(EVALUATION)):
        for container in containers(spec):
            shown = str(container.get("env"))
            control = name.endswith(("-control",))
            assert ("COMPUTILITY_CONTROL__ADMIN_KEY" in shown) == (control and container["name"] == "control")
            if name.endswith(("-pool-cpu", "-ray-head", "-gateway")):
                assert "STORE__URL" not in shown, name
            if name.endswith(("-pool-cpu", "-ray-head")):
                assert "INTERNAL_TOKEN" not in shown, name


def test_keys_of_providers_reach_gateways_alone() -> None:
    values = {"gateway": {"providerKeys": {"existingSecret": "providers"}}}
    for name, spec in pods(render(EVALUATION, values)):
        mounted = [v for v in spec["volumes"] if v.get("secret", {}).get("secretName") == "providers"]
        assert bool(mounted) == name.endswith("-gateway"), name
    gateway = one(render(EVALUATION, values), "StatefulSet", "test-computility-gateway")
    [container] = gateway["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each.get("value") for each in container["env"]}
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "provider-keys"]
    assert told["COMPUTILITY_GATEWAY__PROVIDER_KEYS_FOLDER"] == mount["mountPath"]
    assert mount["readOnly"]


@pytest.mark.parametrize(
    ("name", "resource", "count"),
    [
        ("nvidia", "nvidia.com/gpu", "8"),
        ("nvidia-mig", "nvidia.com/mig-3g.40gb", "2"),
        ("ascend", "huawei.com/Ascend910", "8"),
        ("amd", "amd.com/gpu", "8"),
    ],
)
def test_pools_ask_for_their_vendors_devices(name: str, resource: str, count: str) -> None:
    documents = render(preset(name))
    [pool] = [spec for found, spec in pods(documents) if "-pool-" in found]
    [ray] = pool["containers"]
    assert ray["resources"]["limits"][resource] == ray["resources"]["requests"][resource] == count


def test_what_a_pool_does_not_say_its_vendor_says() -> None:
    values = {"nodePools": [{"name": "x", "vendor": "ascend"}, {"name": "y", "vendor": "cpu"}]}
    documents = render(EVALUATION, values)
    npu, cpu = (pod_of(documents, f"StatefulSet/test-computility-pool-{name}") for name in "xy")
    assert npu["containers"][0]["resources"]["limits"] == {"huawei.com/Ascend910": "1"}
    assert "limits" not in cpu["containers"][0]["resources"]


def test_a_pool_gets_its_network_cards_memory_and_labels() -> None:
    pool = {
        "name": "x",
        "sharedMemory": "32Gi",
        "labels": {"computility.io/rack": "r1"},
        "rdma": {"resource": "rdma/hca", "count": 2, "lockMemory": True},
    }
    spec = pod_of(render(EVALUATION, {"nodePools": [pool]}), "StatefulSet/test-computility-pool-x")
    [ray] = spec["containers"]
    assert ray["resources"]["limits"]["rdma/hca"] == "2"
    assert ray["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "32Gi"}
    [labels] = [word for word in ray["command"] if word.startswith("--labels=")]
    assert "computility.io/node=$(POD_NAME)" in labels
    assert labels.endswith(",computility.io/rack=r1")


def test_topology_is_read_with_a_token_that_engines_do_not_have() -> None:
    spec = pod_of(render(EVALUATION), "StatefulSet/test-computility-pool-cpu")
    account = "/var/run/secrets/kubernetes.io/serviceaccount"
    mounts = {each["name"]: [m["mountPath"] for m in each["volumeMounts"]] for each in containers(spec)}
    assert account in mounts["topology"]
    assert account not in mounts["ray"]
    assert "--labels-file=/tmp/node-labels.yaml" in spec["containers"][0]["command"]
    without = render(EVALUATION, {"topology": {"enabled": False}})
    assert "initContainers" not in pod_of(without, "StatefulSet/test-computility-pool-cpu")
    assert not [each for each in without if each["metadata"]["name"].endswith("-topology")]


def test_kuberay_is_asked_for_the_same_pods() -> None:
    values = {"ray": {"mode": "kuberay", "kuberay": {"requireApi": False}}}
    documents = render(PRODUCTION, values)
    cluster = one(documents, "RayCluster", "test-computility")["spec"]
    [group] = cluster["workerGroupSpecs"]
    builtin = pod_of(render(PRODUCTION), "StatefulSet/test-computility-pool-cpu")
    mine, theirs = group["template"]["spec"]["containers"][0], builtin["containers"][0]
    assert [word for word in mine["command"] if "--address" not in word] == [
        word for word in theirs["command"] if "--address" not in word
    ]
    assert "--address=test-computility-head-svc:6379" in mine["command"]
    for template in (cluster["headGroupSpec"]["template"], group["template"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]}
        validator = schema_of("Pod", "v1")
        assert validator is not None
        assert [error.message for error in validator.iter_errors(pod)] == []
    assert not [
        each
        for each in documents
        if each["metadata"]["name"].endswith("-ray-head") and each["kind"] == "StatefulSet"
    ]


def test_kuberay_without_kuberay_is_refused_with_the_way_out() -> None:
    with pytest.raises(helm_python.HelmError, match=r"set ray\.mode=builtin"):
        render(PRODUCTION, {"ray": {"mode": "kuberay"}})


def test_an_external_ray_gets_no_pods_here() -> None:
    values: Document = {"ray": {"mode": "external", "external": {"address": "ray.example:6379"}}}
    values |= {"networkPolicy": {"rayFrom": [{"ipBlock": {"cidr": "10.9.0.0/16"}}]}}
    documents = render(PRODUCTION, values)
    assert not [name for name, _ in pods(documents) if "ray" in name or "pool" in name]
    [control, beside] = pod_of(documents, "Deployment/test-computility-control")["containers"]
    assert environment(control)["COMPUTILITY_RAY__ADDRESS"] == "ray.example:6379"
    assert "--address=ray.example:6379" in beside["command"]


def selected(policy: Document, labels: Document) -> bool:
    return all(labels.get(k) == v for k, v in policy["spec"]["podSelector"]["matchLabels"].items())


@pytest.mark.parametrize("name", PRESETS)
def test_nobody_but_gateways_and_control_reaches_engines(name: str) -> None:
    documents = render(preset(name))
    workers = [
        each["spec"]["template"]["metadata"]["labels"]
        for each in documents
        if each["kind"] == "StatefulSet" and "-pool-" in each["metadata"]["name"]
    ]
    policies = [each for each in documents if each["kind"] == "NetworkPolicy"]
    for labels in workers:
        mine = [
            each for each in policies if selected(each, labels) and "Ingress" in each["spec"]["policyTypes"]
        ]
        assert len(mine) >= 2, "one that closes all, one that opens"
        for policy in mine:
            for rule in policy["spec"].get("ingress", []):
                for peer in rule["from"]:
                    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "test"
                    component = peer["podSelector"]["matchLabels"].get("app.kubernetes.io/component")
                    assert component in ("control", "gateway", "ray-head", None)
                    if component is None:
                        assert peer["podSelector"]["matchLabels"]["computility.io/ray-node"] == "worker"


@pytest.mark.parametrize("name", PRESETS)
def test_every_pod_is_closed_by_a_policy(name: str) -> None:
    documents = render(preset(name))
    closed = one(documents, "NetworkPolicy", "test-computility-closed")
    assert "ingress" not in closed["spec"]
    for each in documents:
        template = each.get("spec", {}).get("template")
        if template:
            assert selected(closed, template["metadata"]["labels"]), each["metadata"]["name"]


def test_all_images_come_from_the_mirror_and_are_pulled_with_its_secret() -> None:
    for name in PRESETS:
        for found, spec in pods(render(preset(name), preset("air-gapped"))):
            assert spec["imagePullSecrets"] == [{"name": "registry"}], found
            for container in containers(spec):
                assert container["image"].startswith("registry.internal.example/"), found


def test_a_digest_takes_the_place_of_a_tag() -> None:
    digest = f"sha256:{'0' * 64}"
    spec = pod_of(render(EVALUATION, {"image": {"digest": digest}}), "Deployment/test-computility-control")
    assert spec["containers"][0]["image"] == f"computility/computility@{digest}"


def test_an_external_database_is_migrated_before_anything_changes() -> None:
    job = one(render(PRODUCTION), "Job", "test-computility-migrate")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    url = {"database": {"external": {"existingSecret": "", "url": "postgresql+asyncpg://u:p@h/d"}}}
    documents = render(PRODUCTION, url)
    hook = one(documents, "Secret", "test-computility-migrate")
    assert int(hook["metadata"]["annotations"]["helm.sh/hook-weight"]) < -5, "before the Job"
    assert hook["data"] == one(documents, "Secret", "test-computility-database")["data"]


def test_what_is_wanted_of_the_ways_in_is_there() -> None:
    values = {
        "ingress": {"gateway": {"enabled": True, "host": "ai.example", "tlsSecretName": "cert"}},
        "httpRoute": {"control": {"enabled": True, "parentRefs": [{"name": "edge"}]}},
        "networkPolicy": {"controlFrom": [{"namespaceSelector": {}}]},
    }
    documents = render(EVALUATION, values)
    ingress = one(documents, "Ingress", "test-computility-gateway")
    assert ingress["spec"]["tls"] == [{"secretName": "cert", "hosts": ["ai.example"]}]
    assert one(documents, "HTTPRoute", "test-computility-control")["spec"]["parentRefs"] == [{"name": "edge"}]
    with pytest.raises(helm_python.HelmError, match=r"ingress\.gateway\.host is not set"):
        render(EVALUATION, {"ingress": {"gateway": {"enabled": True}}})


def test_alerts_and_dashboards_ask_for_metrics_that_there_are() -> None:
    source = "\n".join(
        path.read_text()
        for part in ("common", "control", "inference", "scheduler", "billing")
        for path in (CHART.parents[2] / part).rglob("*.py")
    )
    known = set(re.findall(r'"(computility_[a-z0-9_]+)"', source))
    asked = set()
    for path in (CHART / "files" / "rules.yaml", *(CHART / "files" / "dashboards").glob("*.json")):
        asked |= set(
            re.findall(
                r"computility_(?:control|gateway|loop|items|device|scheduler|usage|reconciliation)_[a-z_]+",
                path.read_text(),
            )
        )
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked} <= known
    assert yaml.safe_load((CHART / "files" / "rules.yaml").read_text())["groups"]


def test_the_scripts_of_the_chart_are_shells() -> None:
    for path in (CHART / "files").glob("*.sh"):
        subprocess.run(["sh", "-n", str(path)], check=True)


def test_a_pool_with_room_follows_what_waits() -> None:
    pool = {"name": "x", "vendor": "nvidia", "replicas": 1, "minReplicas": 0, "maxReplicas": 4}
    pool |= {"accelerator": {"count": 8}, "shape": {"model": "H100", "memoryBytes": 85_899_345_920}}
    documents = render(EVALUATION, {"nodePools": [pool, {"name": "fixed"}]})
    elastic = one(documents, "StatefulSet", "test-computility-pool-x")["metadata"]
    assert elastic["labels"]["computility.io/pool"] == "x"
    spec = one(documents, "StatefulSet", "test-computility-pool-x")["spec"]
    assert "replicas" not in spec, "the operator's"
    assert one(documents, "StatefulSet", "test-computility-pool-fixed")["spec"]["replicas"] == 1
    alone = render(EVALUATION, {"nodePools": [pool], "operator": {"enabled": False}})
    assert one(alone, "StatefulSet", "test-computility-pool-x")["spec"]["replicas"] == 1
    assert elastic["annotations"]["computility.io/max-replicas"] == "4"
    shape = yaml.safe_load(elastic["annotations"]["computility.io/node-shape"])
    assert (shape["vendor"], shape["devices"], shape["model"]) == ("nvidia", 8, "H100")
    assert shape["labels"] == {"computility.io/pool": "x"}
    assert "annotations" not in one(documents, "StatefulSet", "test-computility-pool-fixed")["metadata"]
    operator = pod_of(documents, "Deployment/test-computility-operator")["containers"][0]
    assert environment(operator)["COMPUTILITY_OPERATOR__POOLS_NAMESPACE"] == "ai"
    role = one(documents, "Role", "test-computility-operator")
    assert "statefulsets/scale" in str(role["rules"])
    still = pod_of(render(EVALUATION), "Deployment/test-computility-operator")["containers"][0]
    assert "COMPUTILITY_OPERATOR__POOLS_NAMESPACE" not in environment(still)
