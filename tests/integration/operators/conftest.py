"""A Kubernetes control plane with our kinds, a control process, and the operator between them."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from operators.crds.manifests import FOLDER, GROUP
from operators.crds.table import CRDS
from tests.fixtures.control_process import ControlProcess
from tests.fixtures.kube.operator_process import Site
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


@pytest.fixture(scope="module")
def site(cluster: Plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running operator, with a control of its own. What tests leave in the cluster goes with them."""
    folder = tmp_path_factory.mktemp("site")
    control = ControlProcess(folder / "control")
    asyncio.run(_started(control))
    made = Site(cluster, control, folder)
    try:
        made.start()
        yield made
    finally:
        made.kill()
        control.kill()
        take_away(cluster)


async def _started(control: ControlProcess) -> None:
    await control.start()
    await control.populate()


def take_away(plane: Plane) -> None:
    """Delete all custom resources, with nobody there to take finalizers off."""
    for crd in CRDS:
        name = f"{crd.plural}.{GROUP}"
        everywhere = ["-A"] if crd.namespaced else []
        for item in plane.get(name, *everywhere)["items"]:
            where = ["-n", item["metadata"]["namespace"]] if crd.namespaced else []
            target = [name, item["metadata"]["name"], *where]
            plane.try_kubectl("patch", *target, "--type=merge", '-p={"metadata":{"finalizers":[]}}')
            plane.try_kubectl("delete", *target, "--ignore-not-found")
