"""What an ApiKey asks for and when its Secret holds it; what the request for a job says."""

import base64
from typing import Any

import pytest

from common.errors import InvalidInput
from operators.crds.specs import FineTuneManifest
from operators.documents import Key, manifest_of
from operators.jobs import TAG, request_of
from operators.keys import FIELD, KEY_UID, ROTATE, holds, is_ours, prefix_of, wanted_of

KEY = Key("ApiKey", "team", "agent")


def body(notes: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "agent", "namespace": "team", "uid": "u-1", "annotations": notes or {}}
    return {"kind": "ApiKey", "metadata": metadata, "spec": {"role": "agent", **spec}}


def test_another_right_or_rotation_is_another_key_of_the_same_prefix() -> None:
    bodies = [body(), body({ROTATE: "1"}), body(models=["a"]), body(role="member"), body(expiresMs=5)]
    names = [wanted_of(KEY, one, "proj").name for one in bodies]
    assert len(set(names)) == len(names)
    assert all(name.startswith(prefix_of(KEY, "u-1")) for name in names)
    assert max(map(len, names)) <= 63
    assert wanted_of(KEY, body({"other": "x"}), "proj").name == names[0]
    assert not names[0].startswith(prefix_of(KEY, "u-2"))


def test_names_of_any_length_are_names_in_control() -> None:
    key = Key("ApiKey", "n" * 63, "k" * 63)
    wanted = wanted_of(key, {**body(), "metadata": {"name": "k" * 63, "uid": "u"}}, "p")
    assert len(wanted.name) <= 63
    assert wanted.secret == "k" * 63


def test_a_key_is_of_the_namespaces_project_and_made_with_an_admins_rights_there() -> None:
    wanted = wanted_of(KEY, body(secretName="mine"), "proj")
    assert wanted.request["project"] == "proj"
    assert (wanted.acts_as, wanted.secret) == ("tenant-admin/proj", "mine")


@pytest.mark.parametrize("role", ["platform-admin", "tenant-admin"])
def test_no_admin_comes_out_of_a_namespace(role: str) -> None:
    with pytest.raises(InvalidInput, match=r"spec\.role"):
        wanted_of(KEY, body(role=role), "proj")


def secret(content: str = "ck-12345678", uid: str = "k-1") -> dict[str, Any]:
    return {
        "metadata": {"annotations": {KEY_UID: uid}, "ownerReferences": [{"uid": "u-1"}]},
        "data": {FIELD: base64.b64encode(content.encode()).decode()},
    }


SEEN = {"metadata": {"uid": "k-1"}, "status": {"hint": "ck-12345"}}


@pytest.mark.parametrize(
    ("found", "want"),
    [
        (None, False),
        (secret(), True),
        (secret("ck-other"), False),
        (secret(uid="k-2"), False),
        ({**secret(), "data": {FIELD: "%%"}}, False),
        ({**secret(), "data": None}, False),
        ({"metadata": {}}, False),
    ],
)
def test_a_secret_holds_the_key_or_not(found: dict[str, Any] | None, want: bool) -> None:
    assert holds(found, SEEN) is want


def test_a_secret_of_others_is_not_ours() -> None:
    assert is_ours(secret(), body())
    assert not is_ours({"metadata": {}}, body())


def job(**spec: Any) -> dict[str, Any]:
    return {"kind": "FineTune", "metadata": {"name": "j", "uid": "u"}, "spec": {"model": "m", **spec}}


def test_the_request_for_a_job_is_openais() -> None:
    manifest = manifest_of(
        job(
            trainingFile="file-1",
            hyperparameters={"nEpochs": 3},
            metadata={"team": "a"},
            adapterRank=8,
            devices={"count": 2},
        )
    )
    assert isinstance(manifest, FineTuneManifest)
    request = request_of(manifest, "u", "file-1", None)
    assert request["metadata"] == {"team": "a", TAG: "u"}
    assert request["method"]["supervised"]["hyperparameters"]["n_epochs"] == 3
    assert request["computility"]["adapter_rank"] == 8
    assert request["computility"]["devices"]["count"] == 2
    assert "seed" not in request
    full = manifest_of(job(trainingFile="f", metadata={str(i): "x" for i in range(16)}))
    assert isinstance(full, FineTuneManifest)
    with pytest.raises(InvalidInput, match=r"spec\.metadata"):
        request_of(full, "u", "f", None)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"trainingFile": "f", "trainingData": {"configMap": "c", "key": "k"}},
        {"trainingFile": "f", "validationFile": "f", "validationData": {"configMap": "c", "key": "k"}},
        {"trainingFile": "f", "suffix": "-"},
    ],
)
def test_wrong_jobs_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"spec\."):
        manifest_of(job(**spec))


def test_a_job_is_made_once() -> None:
    with pytest.raises(InvalidInput, match="made once"):
        manifest_of(job(trainingFile="b"), job(trainingFile="a"))
    assert manifest_of({"kind": "Model", "spec": {}}) is None
