"""What a pool, the webhook and monitoring may be told to be."""

import pytest
import yaml

from tests.unit.chart.rendering import Document, one, pods, preset, render

PRODUCTION = preset("production")
EVALUATION = preset("evaluation")
DIGEST = f"sha256:{'0' * 64}"


def pool_of(documents: list[Document], name: str = "x") -> Document:
    """The spec of a pool's pods."""
    return next(spec for found, spec in pods(documents) if found.endswith(f"-pool-{name}"))


@pytest.mark.parametrize(
    ("profile", "given"),
    [
        (None, None),
        ({"type": "RuntimeDefault"}, {"type": "RuntimeDefault"}),
        ({"type": "Unconfined"}, {"type": "Unconfined"}),
        ({"type": "Localhost", "localhostProfile": "cells.json"},) * 2,
    ],
)
def test_a_pool_may_ask_more_of_the_kernel(profile: Document | None, given: Document | None) -> None:
    pool = {"name": "x"} | ({"seccompProfile": profile} if profile else {})
    spec = pool_of(render(EVALUATION, {"nodePools": [pool]}))
    assert spec["containers"][0]["securityContext"].get("seccompProfile") == given
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, "of the others"
    assert "hostUsers" not in spec


def test_a_pool_whose_profile_differs_from_the_defaults_has_none_of_their_file() -> None:
    values = {"poolDefaults": {"seccompProfile": {"type": "Localhost", "localhostProfile": "cells.json"}}}
    pools = [{"name": "x", "seccompProfile": {"type": "Unconfined"}}, {"name": "y"}]
    documents = render(EVALUATION, values, {"nodePools": pools})
    profiles = [
        pool_of(documents, name)["containers"][0]["securityContext"]["seccompProfile"] for name in "xy"
    ]
    assert profiles == [{"type": "Unconfined"}, {"type": "Localhost", "localhostProfile": "cells.json"}]


def test_proc_is_unmasked_for_the_ray_container_alone() -> None:
    pool = {"name": "x", "procMount": "Unmasked", "hostUsers": False}
    spec = pool_of(render(EVALUATION, {"nodePools": [pool]}))
    assert spec["hostUsers"] is False
    assert spec["containers"][0]["securityContext"]["procMount"] == "Unmasked"
    assert "procMount" not in spec["initContainers"][0]["securityContext"]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ({}, f"computility/computility@{DIGEST}"),
        ({"repository": "mine"}, "mine:0.1.0"),
        ({"tag": "2"}, "computility/computility:2"),
        ({"repository": "mine", "digest": DIGEST.replace("0", "1")}, f"mine@sha256:{'1' * 64}"),
        ({"registry": "r.example"}, f"r.example/computility/computility@{DIGEST}"),
    ],
)
@pytest.mark.parametrize("below", ["image", "poolDefaults"])
def test_a_digest_is_of_its_own_repository_and_tag(image: Document, name: str, below: str) -> None:
    product = {"repository": "computility/computility", "digest": DIGEST}
    values = {"image": product} if below == "image" else {"poolDefaults": {"image": product}}
    spec = pool_of(render(EVALUATION, values, {"nodePools": [{"name": "x", "image": image}]}))
    assert {each["image"] for each in (*spec["initContainers"], *spec["containers"])} == {name}


@pytest.mark.parametrize("strategy", ["RollingUpdate", "OnDelete"])
def test_a_pool_says_when_an_upgrade_starts_its_engines_anew(strategy: str) -> None:
    pools = [{"name": "x", "updateStrategy": strategy}, {"name": "y"}]
    documents = render(EVALUATION, {"nodePools": pools})
    told = [one(documents, "StatefulSet", f"test-computility-pool-{name}")["spec"] for name in "xy"]
    assert [spec["updateStrategy"]["type"] for spec in told] == [strategy, "RollingUpdate"]


def test_cert_manager_may_put_the_webhooks_authority_in() -> None:
    note = {"cert-manager.io/inject-ca-from": "ai/webhook"}
    webhook = {"existingSecret": "mine", "annotations": note}
    documents = render(EVALUATION, {"operator": {"webhook": webhook}})
    hook = one(documents, "ValidatingWebhookConfiguration", "test-computility-ai")
    assert hook["metadata"]["annotations"] == note
    assert "caBundle" not in hook["webhooks"][0]["clientConfig"]
    webhook = {"existingSecret": "mine", "caBundle": "PEM"}
    documents = render(EVALUATION, {"operator": {"webhook": webhook}})
    hook = one(documents, "ValidatingWebhookConfiguration", "test-computility-ai")
    assert hook["webhooks"][0]["clientConfig"]["caBundle"] == "UEVN"


@pytest.mark.parametrize("webhook", [True, False])
def test_prometheus_reaches_all_that_is_monitored(webhook: bool) -> None:
    documents = render(PRODUCTION, {"operator": {"webhook": {"enabled": webhook}}})
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    for name, port in (("control", 8001), ("operator", 8081)):
        rules = one(documents, "NetworkPolicy", f"test-computility-{name}")["spec"]["ingress"]
        assert any(
            port in {p["port"] for p in rule.get("ports", ())} and monitoring in rule["from"]
            for rule in rules
        )
    rules = one(documents, "NetworkPolicy", "test-computility-gateway")["spec"]["ingress"]
    assert "from" not in rules[0], "everybody"


def test_nobody_seen_is_alerted_like_nobody_leading() -> None:
    rule = one(render(PRODUCTION), "PrometheusRule", "test-computility")["spec"]["groups"][0]["rules"][0]
    assert rule["expr"].endswith('or absent(computility_control_leads{namespace="ai"})')
    assert "$RELEASE" not in yaml.safe_dump(render(PRODUCTION))


def test_kuberays_operator_reaches_the_heads_ports_from_its_namespace() -> None:
    documents = render(PRODUCTION, {"ray": {"mode": "kuberay", "kuberay": {"requireApi": False}}})
    [_, rule] = one(documents, "NetworkPolicy", "test-computility-ray-head")["spec"]["ingress"]
    assert {each["port"] for each in rule["ports"]} == {6379, 8265}
    [peer] = rule["from"]
    assert peer["namespaceSelector"]["matchLabels"], "no tenant's pod becomes it by a label"
    nobody = {"ray": {"mode": "kuberay", "kuberay": {"requireApi": False, "operatorPeers": []}}}
    assert (
        len(one(render(PRODUCTION, nobody), "NetworkPolicy", "test-computility-ray-head")["spec"]["ingress"])
        == 1
    )
