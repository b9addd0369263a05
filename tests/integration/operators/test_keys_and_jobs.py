"""ApiKeys end in Secrets, FineTunes in jobs; killed in between, nothing is doubled or left."""

import base64
import json
import time
from typing import Any

import httpx
import pytest

from operators.keys import ROTATE
from tests.fixtures.kube.operator_process import API, Site, model

pytestmark = pytest.mark.integration


def api_key(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "ApiKey",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"role": "member", **spec},
    }


def secret_of(site: Site, namespace: str, name: str) -> str:
    """The key that lies in a Secret; empty where there is none."""
    text = site.plane.kubectl("get", "secret", name, "-n", namespace, "-o", "json", "--ignore-not-found")
    return base64.b64decode(json.loads(text)["data"]["api-key"]).decode() if text.strip() else ""


def opens(site: Site, key: str) -> bool:
    url = f"{site.control.settings.control_url}/api/v1/whoami"
    return httpx.get(url, headers={"Authorization": f"Bearer {key}"}).status_code == 200


def in_force(site: Site, project: str) -> list[str]:
    return [
        key["metadata"]["name"]
        for key in site.client.list_keys()
        if key["spec"].get("project") == project and not key["spec"]["revoked"]
    ]


def test_a_key_is_made_rotated_and_revoked(site: Site) -> None:
    space = site.namespace("keys")
    site.apply(api_key("agent", space))
    site.wait_synced("apikeys", "agent", space)
    first = secret_of(site, space, "agent")
    assert opens(site, first)
    who = httpx.get(
        f"{site.control.settings.control_url}/api/v1/whoami", headers={"Authorization": f"Bearer {first}"}
    ).json()
    assert (who["role"], who["project"]) == ("member", space)

    site.plane.kubectl("annotate", "apikeys.computility.io/agent", "-n", space, f"{ROTATE}=1")
    site.wait_until(lambda: secret_of(site, space, "agent") != first)
    site.wait_until(lambda: not opens(site, first))
    second = secret_of(site, space, "agent")
    assert opens(site, second)
    assert len(in_force(site, space)) == 1

    site.plane.kubectl("delete", "apikeys.computility.io/agent", "-n", space, "--timeout=20s")
    site.wait_until(lambda: not opens(site, second))
    site.wait_until(lambda: secret_of(site, space, "agent") == "")


def test_a_lost_secret_is_made_anew_and_one_of_others_is_left_alone(site: Site) -> None:
    space = site.namespace("secrets")
    site.apply(api_key("lost", space))
    site.wait_synced("apikeys", "lost", space)
    first = secret_of(site, space, "lost")
    site.plane.kubectl("delete", "secret", "lost", "-n", space)
    site.plane.kubectl("label", "apikeys.computility.io/lost", "-n", space, "look=again")
    site.wait_until(lambda: secret_of(site, space, "lost") not in ("", first))
    site.wait_until(lambda: not opens(site, first))

    site.plane.kubectl("create", "secret", "generic", "taken", "-n", space, "--from-literal=api-key=theirs")
    site.apply(api_key("taken", space))
    site.wait_synced("apikeys", "taken", space, "False")
    assert secret_of(site, space, "taken") == "theirs"
    assert "somebody else" in site.synced("apikeys", "taken", space)["message"]


def test_a_key_of_a_namespace_cannot_be_an_admins(site: Site) -> None:
    space = site.namespace("no-admins")
    document = json.dumps(api_key("root", space, role="platform-admin"))
    refused = site.plane.try_kubectl("apply", "--validate=false", "-f", "-", stdin=document)
    assert refused.returncode
    assert "spec.role" in refused.stderr


def test_killed_while_keys_are_made_and_deleted(site: Site) -> None:
    space = site.namespace("killed-keys")
    names = [f"k-{i}" for i in range(8)]
    site.apply(*(api_key(name, space) for name in names))
    for pause in (0.05, 0.15, 0.3):
        time.sleep(pause)
        site.kill()
        site.start(wait=False)
    for name in names:
        site.wait_synced("apikeys", name, space)
    keys = {secret_of(site, space, name) for name in names}
    assert len(keys) == len(names)
    assert all(opens(site, key) for key in keys)
    assert len(in_force(site, space)) == len(names)
    site.plane.kubectl("delete", "apikeys.computility.io", "--all", "-n", space, "--wait=false")
    time.sleep(0.1)
    site.kill()
    site.start()
    site.wait_until(lambda: in_force(site, space) == [])
    site.wait_until(lambda: not site.plane.get("apikeys.computility.io", "-n", space)["items"])


def lines(count: int) -> str:
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    return "\n".join(json.dumps(row) for _ in range(count))


def job(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "FineTune",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": "base", "trainingData": {"configMap": "data", "key": "rows.jsonl"}, **spec},
    }


def test_a_job_is_made_once_mirrored_and_cancelled(site: Site) -> None:
    space = site.namespace("jobs")
    data = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "data", "namespace": space},
        "data": {"rows.jsonl": lines(12), "bad.jsonl": "no json"},
    }
    site.apply(data, model("base", space))
    site.wait_synced("models", "base", space)
    site.apply(job("tune", space, suffix="mine", metadata={"team": "a"}))
    for pause in (0.1, 0.3):
        time.sleep(pause)
        site.kill()
        site.start(wait=False)
    site.wait_synced("finetunes", "tune", space)
    site.wait_until(lambda: "state" in (site.find("finetunes", "tune", space) or {})["status"])
    [made] = site.client.list("finetunes", space)
    body = site.find("finetunes", "tune", space)
    assert body is not None
    assert body["status"]["job"] == made["metadata"]["name"]
    assert made["spec"]["suffix"] == "mine"
    assert len(site.client.list("files", space)) == 1

    site.apply(job("tune", space, suffix="other"))
    site.wait_until(lambda: site.synced("finetunes", "tune", space).get("reason") == "Immutable")
    site.plane.kubectl("delete", "finetunes.computility.io/tune", "-n", space, "--timeout=30s")
    assert site.client.get("finetunes", made["metadata"]["name"], space)["status"]["state"] == "cancelled"


def test_a_bad_data_set_is_refused_with_its_lines(site: Site) -> None:
    space = site.namespace("bad-jobs")
    data = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "data", "namespace": space},
        "data": {"rows.jsonl": lines(9) + "\nno json"},
    }
    site.apply(data, model("base", space), job("tune", space))
    site.wait_until(lambda: "line 10" in site.synced("finetunes", "tune", space).get("message", "").lower())
    site.apply(job("other", space, trainingData={"configMap": "none", "key": "rows.jsonl"}))
    site.wait_synced("finetunes", "other", space, "False")
    assert "ConfigMap none" in site.synced("finetunes", "other", space)["message"]
    site.plane.kubectl("delete", "finetunes.computility.io", "--all", "-n", space, "--timeout=20s")
