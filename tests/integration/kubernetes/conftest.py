"""A cluster whose nodes run pods, and a namespace of its own for each test."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.kube.kubelet.kubelet import Cluster, running_cluster
from tests.fixtures.kube.kubelet.manifests import listing
from tests.fixtures.kube.kubelet.nodes import NodeSpec

_NUMBERS = itertools.count()
NODES = (NodeSpec("node-1", {"nvidia.com/gpu": "2"}), NodeSpec("node-2", labels={"zone": "b"}))


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    with running_cluster(NODES) as cluster:
        yield cluster
        folder = cluster.kubelet.folder
    assert not folder.exists()
    assert not [line for line in commands() if str(folder) in line]


def commands() -> list[str]:
    """The command lines of all processes of this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return found


@dataclass
class Space:
    """A namespace of a test."""

    cluster: Cluster
    name: str

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        return self.cluster.plane.kubectl(f"--namespace={self.name}", *words, stdin=stdin)

    def get(self, *words: str) -> dict[str, Any]:
        return self.cluster.plane.get(f"--namespace={self.name}", *words)

    def apply(self, *items: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=listing(*items))

    def wait(self, what: str, condition: str, seconds: int = 30) -> None:
        """Until the condition holds; a test that fails shows what the pods wrote."""
        result = self.cluster.plane.try_kubectl(
            f"--namespace={self.name}", "wait", what, f"--for={condition}", f"--timeout={seconds}s"
        )
        assert result.returncode == 0, f"{result.stderr}\n{self.cluster.kubelet.report()}"

    def log(self, pod: str, container: str = "main") -> str:
        """What the container has written; ``pod`` may be the beginning of its name."""
        logs = self.cluster.kubelet.folder / "logs"
        found = [
            path
            for path in logs.iterdir()
            if re.fullmatch(rf"{self.name}\.{pod}[^.]*\.{container}\.log", path.name)
        ]
        return "".join(path.read_text() for path in found)


@pytest.fixture
def space(cluster: Cluster) -> Iterator[Space]:
    name = f"test-{next(_NUMBERS)}"
    cluster.plane.kubectl("create", "namespace", name)
    yield Space(cluster, name)
    cluster.plane.kubectl("delete", "namespace", name, "--wait=false")
