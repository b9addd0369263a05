"""Custom resources are mirrored to a real control, and its status comes back."""

import json
from pathlib import Path

import httpx
import pytest
import yaml

from operators.core.reconcile import MARK
from tests.fixtures.kube.operator_process import API, Site, endpoint, model

pytestmark = pytest.mark.integration
EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
BACK_SECONDS = 2.0


def test_every_example_is_mirrored_and_its_status_is_back_within_two_seconds(site: Site) -> None:
    site.namespace("acme-agents", role="platform-admin", project="acme-agents")
    for path in EXAMPLES:
        document = yaml.safe_load(path.read_text())
        plural = f"{document['kind'].lower()}s"
        space = document["metadata"].get("namespace", "")
        site.plane.kubectl("apply", "-f", str(path))
        name = document["metadata"]["name"]
        took = site.wait_synced(plural, name, space)
        assert took < BACK_SECONDS, path
        assert site.stored(plural, name, space) is not None
    made = site.find("endpoints", "tiny", "acme-agents")
    assert made is not None
    assert made["status"]["servedName"] == "tiny"
    ready = {c["type"]: c for c in made["status"]["conditions"]}["Ready"]
    assert "there is no folder" in ready["message"]


def test_a_change_goes_over_and_its_status_comes_back(site: Site) -> None:
    space = site.namespace("changes")
    site.apply(model("m", space), endpoint("e", space, "m"))
    site.wait_synced("endpoints", "e", space)
    site.apply(endpoint("e", space, "m", servedName="other"))

    def is_back() -> bool:
        body = site.find("endpoints", "e", space)
        return body is not None and body["status"].get("servedName") == "other"

    assert site.wait_until(is_back) < BACK_SECONDS


def test_what_control_refuses_stands_in_the_status_with_the_path(site: Site) -> None:
    space = site.namespace("refusals")
    site.apply(model("m", space, "$(HOME_DIR)/models/elsewhere"), endpoint("e", space, "missing"))
    for plural, name, path in (("models", "m", "spec.source"), ("endpoints", "e", "spec.model")):
        site.wait_synced(plural, name, space, "False")
        assert path in site.synced(plural, name, space)["message"]
        assert site.stored(plural, name, space) is None
    # What it refers to comes: it is mirrored without anybody's doing.
    site.apply(model("missing", space))
    site.wait_synced("endpoints", "e", space)
    site.plane.kubectl("delete", "-n", space, "models.computility.io/m", "--timeout=20s")


def test_a_namespace_has_the_rights_of_a_member_unless_its_annotation_says_more(site: Site) -> None:
    space = site.namespace("rights")
    flags = endpoint("e", space, "m", engine={"args": ["--trust-remote-code"]})
    site.apply(model("m", space), flags)
    site.wait_until(lambda: site.synced("endpoints", "e", space).get("reason") == "Forbidden")
    site.plane.kubectl("annotate", "namespace", space, "computility.io/role=platform-admin")
    site.wait_synced("endpoints", "e", space)


def test_drift_is_put_right(site: Site) -> None:
    space = site.namespace("drift")
    site.apply(model("m", space), model("n", space))
    for name in ("m", "n"):
        site.wait_synced("models", name, space)
    changed = site.client.get("models", "m", space)
    site.client.apply({**{k: changed[k] for k in ("apiVersion", "kind")}, **_rest(changed, "a/b")})
    site.client.delete("models", "n", space)

    def is_right() -> bool:
        first, second = (site.stored("models", name, space) for name in ("m", "n"))
        return all(one and one["spec"]["source"] == "Qwen/Qwen3-0.6B" for one in (first, second))

    site.wait_until(is_right)


def _rest(resource: dict[str, object], source: str) -> dict[str, object]:
    metadata = resource["metadata"]
    assert isinstance(metadata, dict)
    kept = {key: metadata[key] for key in ("name", "project", "annotations")}
    return {"metadata": kept, "spec": {"source": source}}


def test_deleting_waits_for_control_and_for_what_uses_it(site: Site) -> None:
    space = site.namespace("leaving")
    site.apply(model("m", space), endpoint("e", space, "m"))
    site.wait_synced("endpoints", "e", space)
    site.plane.kubectl("delete", "-n", space, "models.computility.io/m", "--wait=false")
    site.wait_until(lambda: "is used by" in site.synced("models", "m", space).get("message", ""))
    assert site.stored("models", "m", space) is not None
    site.plane.kubectl("delete", "-n", space, "endpoints.computility.io/e", "--timeout=20s")
    site.wait_until(lambda: site.find("models", "m", space) is None)
    assert site.stored("models", "m", space) is None
    assert site.stored("endpoints", "e", space) is None


def test_what_is_there_is_adopted_and_what_is_anothers_is_left_alone(site: Site) -> None:
    space = site.namespace("adopts")
    site.namespace("intruder", project="adopts")
    found = {"apiVersion": API, "kind": "Model", "metadata": {"name": "m", "project": space}}
    site.client.apply({**found, "spec": {"source": "x/y"}})
    uid = site.client.get("models", "m", space)["metadata"]["uid"]
    site.apply(model("m", space))
    site.wait_synced("models", "m", space)
    adopted = site.client.get("models", "m", space)
    assert adopted["metadata"]["uid"] == uid
    assert adopted["metadata"]["annotations"][MARK].endswith("/adopts/m")
    assert adopted["spec"]["source"] == "Qwen/Qwen3-0.6B"

    site.apply(model("m", "intruder", "not/mine"))
    site.wait_until(lambda: site.synced("models", "m", "intruder").get("reason") == "OwnedElsewhere")
    site.plane.kubectl("delete", "-n", "intruder", "models.computility.io/m", "--timeout=20s")
    assert site.client.get("models", "m", space)["metadata"]["uid"] == uid


def test_what_is_to_be_kept_is_kept(site: Site) -> None:
    space = site.namespace("keeps")
    document = model("m", space)
    document["metadata"]["annotations"] = {"computility.io/deletion-policy": "orphan"}
    site.apply(document)
    site.wait_synced("models", "m", space)
    site.plane.kubectl("delete", "-n", space, "models.computility.io/m", "--timeout=20s")
    left = site.client.get("models", "m", space)
    assert MARK not in left["metadata"].get("annotations", {})


def test_a_namespace_can_be_deleted_with_all_that_is_in_it(site: Site) -> None:
    space = site.namespace("whole")
    site.apply(model("m", space), endpoint("e", space, "m"))
    site.wait_synced("endpoints", "e", space)
    site.plane.kubectl("delete", "namespace", space, "--timeout=60s")
    assert site.client.list("models", space) == site.client.list("endpoints", space) == []


def test_readiness_and_metrics(site: Site) -> None:
    base = f"http://127.0.0.1:{site.port}"
    assert httpx.get(f"{base}/healthz").text == "ok"
    told = json.loads(httpx.get(f"{base}/readyz").text)
    assert (told["role"], told["control"]) == ("leader", "")
    assert "computility_operator_connected 1.0" in httpx.get(f"{base}/metrics").text
