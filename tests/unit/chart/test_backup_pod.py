"""The pod of deploy/backup-pod.yaml fits a release that is called as it says."""

import yaml

from tests.unit.chart.kubernetes_schemas import schema_of
from tests.unit.chart.rendering import CHART, Document, one, pods, preset, render

FILE = CHART.parents[1] / "backup-pod.yaml"
RELEASE = "computility"


def documents() -> list[Document]:
    return list(yaml.safe_load_all(FILE.read_text()))


def test_kubernetes_takes_it() -> None:
    for document in documents():
        validator = schema_of(document["kind"], document["apiVersion"])
        assert validator is not None
        assert [error.message for error in validator.iter_errors(document)] == []


def test_it_reaches_what_the_release_has_made() -> None:
    made = render(preset("evaluation"), release=RELEASE)
    pod = one(documents(), "Pod", "computility-backup")
    [container] = pod["spec"]["containers"]
    variables = {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}
    secret = variables["COMPUTILITY_STORE__URL"]["secretKeyRef"]
    assert secret["key"] in one(made, "Secret", secret["name"])["data"]
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in pod["spec"]["volumes"][:2]}
    assert claims == {"computility-home", "computility-backup"}
    assert one(made, "PersistentVolumeClaim", "computility-home")
    control = next(spec for name, spec in pods(made) if name == "Deployment/computility-control")
    theirs = {each["name"]: each.get("value") for each in control["containers"][0]["env"]}
    assert variables["COMPUTILITY_HOME"] == theirs["COMPUTILITY_HOME"]
    same = ("runAsUser", "runAsGroup", "fsGroup")
    assert [pod["spec"]["securityContext"][name] for name in same] == [
        control["securityContext"][name] for name in same
    ], "files stay control's"


def test_the_policies_let_it_reach_the_database_and_nobody_it() -> None:
    made = render(preset("evaluation"), release=RELEASE)
    labels = one(documents(), "Pod", "computility-backup")["metadata"]["labels"]
    [rule] = one(made, "NetworkPolicy", "computility-database")["spec"]["ingress"]
    assert labels in [peer["podSelector"]["matchLabels"] for peer in rule["from"]]
    closed = one(made, "NetworkPolicy", "computility-closed")["spec"]["podSelector"]["matchLabels"]
    assert closed.items() <= labels.items()
    for document in made:
        if document["kind"] == "Service":
            assert not document["spec"]["selector"].items() <= labels.items()


def test_its_image_is_one_of_the_charts() -> None:
    [container] = one(documents(), "Pod", "computility-backup")["spec"]["containers"]
    assert container["image"] in (CHART / "images.txt").read_text().splitlines()
