"""The webhook on a real API server: control's opinion before a document is kept."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.kube.operator_process import Site, endpoint, model
from tests.fixtures.ports import free_port

pytestmark = pytest.mark.integration
NAME = "validate.computility.io"


@pytest.fixture(scope="module")
def guarded(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The operator with its webhook, which the API server asks."""
    folder = tmp_path_factory.mktemp("webhook")
    certificate, key = site.plane.authority.server("localhost")
    (folder / "tls.crt").write_bytes(Path(certificate).read_bytes())
    (folder / "tls.key").write_bytes(Path(key).read_bytes())
    port = free_port()
    site.stop()
    site.settings = {"WEBHOOK_FOLDER": str(folder), "WEBHOOK_PORT": str(port), "WEBHOOK_SECONDS": "2"}
    site.start()
    configure(site, port)
    try:
        yield site
    finally:
        site.plane.kubectl("delete", "validatingwebhookconfiguration", NAME, "--ignore-not-found")


def configure(site: Site, port: int) -> None:
    bundle = base64.b64encode(site.plane.authority.path.read_bytes()).decode()
    webhook = {
        "name": NAME,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "timeoutSeconds": 5,
        "rules": [
            {
                "apiGroups": ["computility.io"],
                "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE", "DELETE"],
                "resources": ["*"],
            }
        ],
        "clientConfig": {"url": f"https://127.0.0.1:{port}/validate", "caBundle": bundle},
    }
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [webhook],
    }
    site.plane.kubectl("apply", "-f", "-", stdin=json.dumps(body))
    site.wait_until(lambda: refused(site, model("probe", "default", "a/b", tasks=["chat"] * 65)))


def refused(site: Site, document: dict[str, Any]) -> str:
    """What kubectl says when it may not; empty where it may."""
    result = site.plane.try_kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(document))
    return result.stderr if result.returncode else ""


def test_what_control_refuses_is_refused_with_the_path(guarded: Site) -> None:
    space = guarded.namespace("guarded")
    for document, path in (
        (model("m", space, "$(HOME_DIR)/models/elsewhere"), "spec.source"),
        (model("m", space, "a/b", shared=True), "shared"),
        (endpoint("e", space, "m", engine={"args": ["--x"]}), "engine"),
        (endpoint("e", space, "m", mode="single", replicas=2), "replicas"),
    ):
        said = refused(guarded, document)
        assert path in said, document


def test_what_refers_to_what_is_on_its_way_passes(guarded: Site) -> None:
    space = guarded.namespace("on-its-way")
    guarded.apply(endpoint("e", space, "m"), model("m", space))
    guarded.wait_synced("endpoints", "e", space)


def test_what_is_in_use_is_not_deleted(guarded: Site) -> None:
    space = guarded.namespace("used")
    guarded.apply(model("m", space), endpoint("e", space, "m"))
    guarded.wait_synced("endpoints", "e", space)
    words = ("delete", "-n", space, "models.computility.io/m", "--wait=false")
    said = guarded.plane.try_kubectl(*words)
    assert said.returncode
    assert f"is used by Endpoint/{space}/e" in said.stderr
    guarded.plane.kubectl("delete", "-n", space, "endpoints.computility.io/e", "--timeout=20s")
    guarded.plane.kubectl(*words)


def test_a_namespace_is_emptied_in_whatever_order(guarded: Site) -> None:
    space = guarded.namespace("emptied")
    guarded.apply(model("m", space), endpoint("e", space, "m"))
    guarded.wait_synced("endpoints", "e", space)
    guarded.plane.kubectl("delete", "namespace", space, "--timeout=60s")


def test_jobs_and_keys_are_judged_here(guarded: Site) -> None:
    space = guarded.namespace("judged")
    job = {**model("j", space), "kind": "FineTune", "spec": {"model": "tiny", "trainingFile": "file-1"}}
    assert not refused(guarded, job)
    assert "set one of them" in refused(guarded, {**job, "spec": {"model": "tiny"}})
    key = {**model("k", space), "kind": "ApiKey", "spec": {"role": "agent", "models": [" "]}}
    assert "spec.models" in refused(guarded, key)


@pytest.mark.parametrize("mode", ["warn", "refuse"])
def test_control_is_away(guarded: Site, mode: str) -> None:
    space = guarded.namespace(f"away-{mode}")
    guarded.stop()
    guarded.settings["WEBHOOK_UNAVAILABLE"] = mode
    guarded.start()
    guarded.control.kill()
    try:
        document = json.dumps(model("m", space))
        said = guarded.plane.try_kubectl("apply", "--dry-run=server", "-f", "-", stdin=document)
        assert (said.returncode != 0) == (mode == "refuse")
        assert "control has no opinion now" in said.stderr
    finally:
        guarded.restart_control()


def test_what_is_no_review_is_refused(guarded: Site) -> None:
    port = guarded.settings["WEBHOOK_PORT"]
    url = f"https://127.0.0.1:{port}/validate"
    for content in (b"", b"{}", b"[1]", b'{"request": 1}'):
        answer = httpx.post(url, content=content, verify=False)
        assert answer.status_code == 400
