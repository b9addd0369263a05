"""A Kubernetes control plane with our kinds."""

import time
from collections.abc import Iterator

import pytest

from operators.crds.manifests import FOLDER, GROUP
from operators.crds.table import CRDS
from tests.fixtures.kube.plane import Plane, running_plane

ESTABLISHED_SECONDS = 20.0


@pytest.fixture(scope="session")
def cluster() -> Iterator[Plane]:
    """One for all tests of the operator: it has the kinds, and namespaces are made by the tests."""
    with running_plane() as plane:
        # A server older than 1.25 knows no rules of CEL, and takes them for a mistake.
        plane.kubectl("apply", "--validate=false", "-f", str(FOLDER))
        wait_until_established(plane)
        yield plane


def wait_until_established(plane: Plane) -> None:
    """Return when all kinds are served."""
    names = {f"{crd.plural}.{GROUP}" for crd in CRDS}
    deadline = time.monotonic() + ESTABLISHED_SECONDS
    while True:
        found = {
            item["metadata"]["name"]: {c["type"]: c["status"] for c in item["status"].get("conditions", ())}
            for item in plane.get("customresourcedefinitions")["items"]
            if "status" in item
        }
        waiting = {name for name in names if found.get(name, {}).get("Established") != "True"}
        if not waiting:
            return
        assert time.monotonic() < deadline, {name: found.get(name) for name in waiting}
        time.sleep(0.1)
