"""What holds for every pod of the chart, whatever is chosen."""

import re

import pytest

from tests.unit.chart.rendering import PRESETS, Document, containers, pods, preset, render


@pytest.fixture(params=PRESETS, scope="module")
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return render(preset(request.param))


def test_pods_pass_the_restricted_standard(documents: list[Document]) -> None:
    for name, spec in pods(documents):
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not any(spec.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")), name
        assert not any("hostPath" in volume for volume in spec.get("volumes", [])), name
        for container in containers(spec):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name


def test_containers_say_what_they_run_and_need(documents: list[Document]) -> None:
    for name, spec in pods(documents):
        for container in containers(spec):
            assert container["command"], name
            assert container["resources"]["requests"], name
            assert container["image"], name
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert "/tmp" in mounts, f"{name}: nothing else may be written"
            assert {mount["name"] for mount in container["volumeMounts"]} <= {
                *(volume["name"] for volume in spec["volumes"]),
                *("spool", "data"),  # of volumeClaimTemplates
            }, name


def test_nobody_listens_everywhere(documents: list[Document]) -> None:
    assert not re.search(r"(?<![0-9.])0\.0\.0\.0", str(documents))


def test_ports_have_names_and_protocols(documents: list[Document]) -> None:
    for name, spec in pods(documents):
        for container in containers(spec):
            for port in container.get("ports", []):
                assert port["name"], name
                assert port["protocol"] == "TCP", name
    for document in documents:
        if document["kind"] == "Service":
            for port in document["spec"].get("ports", []):
                assert port["name"], document["metadata"]["name"]
                assert port["protocol"] == "TCP", document["metadata"]["name"]
                assert port["port"] == port["targetPort"], document["metadata"]["name"]


def test_tokens_of_the_api_server_are_the_operators_alone(documents: list[Document]) -> None:
    for name, spec in pods(documents):
        if not name.endswith("-operator"):
            assert spec["automountServiceAccountToken"] is False, name
