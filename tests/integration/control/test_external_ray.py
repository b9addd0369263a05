"""`up` in a Ray that somebody else has started: it runs there, and leaves nothing of itself behind."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from common.client import Client
from common.settings import load_settings
from control.demo.background import Platform
from control.supervisor.instance import RunFolder
from control.supervisor.ports import free_ports
from tests.fixtures.probe import eventually
from tests.fixtures.ray import ForeignRay
from tests.integration.control.conftest import document

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

LIST_ACTORS = """
import json, sys, ray
ray.init(address=sys.argv[1], namespace="looking", log_to_driver=False, logging_level="error")
print(json.dumps([actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]))
"""


def named_actors(address: str) -> list[str]:
    """All named actors of a cluster, asked by a process that has nothing to do with the instance."""
    command = [sys.executable, "-c", LIST_ACTORS, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return names


def run_workload(client: Client) -> int:
    """Apply a workload that does nothing; the pid of its rank once that runs."""
    role = {"name": "main", "command": ["sleep", "600"]}
    tenancy = (document("Tenant", "acme"), document("Project", "search"), document("Queue", "default"))
    for wanted in (*tenancy, document("Workload", "w", "search", roles=[role])):
        client.apply(wanted)

    def rank() -> dict[str, object]:
        ranks = client.get("workloads", "w", "search")["status"].get("ranks")
        return ranks[0] if ranks else {}

    eventually(lambda: rank().get("state") == "Running", what="the workload")
    pid = rank()["pid"]
    assert isinstance(pid, int)
    return pid


def test_up_runs_in_a_ray_of_others_and_leaves_it_as_it_was(foreign_ray: ForeignRay, tmp_path: Path) -> None:
    control, gateway = ({"port": port} for port in free_ports(2))
    settings = load_settings(
        home=tmp_path / "home", ray={"address": foreign_ray.address}, control=control, gateway=gateway
    )
    platform = Platform(settings, ("--no-examples",))
    try:
        platform.start()
        state = RunFolder(settings).read_state()
        assert state is not None
        assert {child.name for child in state.children} == {"control", "gateway"}
        with Client(settings.control_url, platform.key) as client:
            pid = run_workload(client)
        assert foreign_ray.process.pid in {parent.pid for parent in psutil.Process(pid).parents()}
        platform.note_ports()
        assert platform.stop() == 0, platform.log_tail()
    finally:
        platform.stop()
    assert platform.leftovers() == []
    assert not psutil.pid_exists(pid)
    assert foreign_ray.process.poll() is None
    assert named_actors(foreign_ray.address) == []
    assert "Traceback" not in (settings.home / "logs" / "control.log").read_text()
