"""Who reaches whom: the policies, and the ways in."""

import ipaddress
from typing import Any

import pytest

from tests.unit.chart.rendering import PRESETS, Document, laid_over, one, pods, preset, render, texts

PRODUCTION = preset("production")
EVALUATION = preset("evaluation")
CARRIER = "100.64.0.0/10"
"""Shared addresses, which are private to a site though Python does not say so."""
NOTES = "computility/templates/NOTES.txt"


def environment(documents: list[Document], pod: str) -> dict[str, Any]:
    """The plain variables of a pod's first container."""
    spec = next(found for name, found in pods(documents) if name == pod)
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in spec["containers"][0]["env"]}


def egress(values: Document) -> list[Document]:
    """The rules of what pools reach."""
    policy = one(render(PRODUCTION, values), "NetworkPolicy", "test-computility-pool-egress")
    rules: list[Document] = policy["spec"]["egress"]
    return rules


def ports(rule: Document) -> set[int]:
    return {each["port"] for each in rule.get("ports", ())}


@pytest.mark.parametrize("name", PRESETS)
def test_a_pool_that_asks_for_its_nodes_labels_reaches_the_api_server(name: str) -> None:
    documents = render(preset(name))
    for policy in documents:
        if policy["kind"] != "NetworkPolicy" or "Egress" not in policy["spec"]["policyTypes"]:
            continue
        asks = any("initContainers" in spec for found, spec in pods(documents) if "-pool-" in found)
        assert not asks or any(ports(rule) == {443, 6443} for rule in policy["spec"]["egress"])


def test_the_api_servers_addresses_and_ports_can_be_named() -> None:
    told = {"ports": [8443], "cidrs": ["10.0.0.1/32", "fd00::1/128"]}
    [rule] = [
        each for each in egress({"networkPolicy": {"poolEgress": {"apiServer": told}}}) if 8443 in ports(each)
    ]
    assert [peer["ipBlock"]["cidr"] for peer in rule["to"]] == told["cidrs"]
    [usual] = [each for each in egress({}) if ports(each) == {443, 6443}]
    for peer in usual["to"]:
        assert ipaddress.ip_network(peer["ipBlock"]["cidr"]).is_private or peer["ipBlock"]["cidr"] == CARRIER
    assert not [each for each in egress({"topology": {"enabled": False}}) if ports(each) & {443, 6443}]


@pytest.mark.parametrize("wanted", [True, False])
def test_loopback_is_listened_on_for_port_forward(wanted: bool) -> None:
    documents = render(EVALUATION, {"listenOnLoopback": wanted})
    for pod in ("Deployment/test-computility-control", "StatefulSet/test-computility-gateway"):
        variables = environment(documents, pod)
        section = "CONTROL" if "control" in pod else "GATEWAY"
        assert variables[f"COMPUTILITY_{section}__HOST"] == "$(POD_IP)", "what peers are told, IPv6 or not"
        assert (variables.get(f"COMPUTILITY_{section}__LOOPBACK_TOO") == "true") == wanted
    assert ("port-forward" in texts(EVALUATION | {"listenOnLoopback": wanted})[NOTES]) == wanted


def test_controls_with_tls_know_each_other_by_the_services_name() -> None:
    pod = "Deployment/test-computility-control"
    assert "COMPUTILITY_CONTROL__PEER_NAME" not in environment(render(EVALUATION), pod)
    variables = environment(render(EVALUATION, {"control": {"tls": {"secretName": "cert"}}}), pod)
    assert variables["COMPUTILITY_CONTROL__PEER_NAME"] == "test-computility-control"


def test_the_command_line_works_in_controls_pod() -> None:
    variables = environment(render(EVALUATION), "Deployment/test-computility-control")
    assert variables["COMPUTILITY_API_KEY"]["secretKeyRef"]["key"] == "api-key"
    assert variables["COMPUTILITY_GATEWAY_BASE_URL"] == "http://test-computility-gateway:8000/v1"
    assert "exec deploy/test-computility-control -c control -- computility" in texts(EVALUATION)[NOTES]


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({}, "http://127.0.0.1:8000/v1"),
        ({"ingress": {"gateway": {"enabled": True, "host": "ai.example"}}}, "http://ai.example/v1"),
        (
            {"ingress": {"gateway": {"enabled": True, "host": "ai.example", "tlsSecretName": "c"}}},
            "https://ai.example/v1",
        ),
        (
            {
                "httpRoute": {
                    "gateway": {"enabled": True, "parentRefs": [{"name": "x"}], "hostnames": ["b.c"]}
                }
            },
            "https://b.c/v1",
        ),
        ({"gateway": {"service": {"type": "LoadBalancer"}}}, "http://ADDRESS:8000/v1"),
    ],
)
def test_the_notes_tell_the_base_url_of_clients(values: Document, url: str) -> None:
    notes = texts(laid_over(EVALUATION, values))[NOTES]
    assert f"Base URL of OpenAI clients: {url}\n" in notes or f"{url}, with the address of" in notes
    assert "http://test-computility-gateway.ai.svc:8000/v1" in notes


def test_the_notes_warn_where_no_registry_has_the_image() -> None:
    assert "WARNING: image.registry is empty" in texts(EVALUATION)[NOTES]
    for values in ({"image": {"registry": "r.example"}}, {"global": {"imageRegistry": "r.example"}}):
        assert "WARNING" not in texts(laid_over(EVALUATION, values))[NOTES]
