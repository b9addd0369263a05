"""A real `up` with three tenants: who shares an endpoint, who only wants to work, and who attacks."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.client import Client
from common.resources.meta import API_VERSION
from common.settings import load_settings
from control.demo import story
from control.demo.background import Platform
from control.supervisor.ports import free_ports

MARKER = "harbour7q"
"""Part of every name of the tenant that must not be seen by the hostile one."""
VICTIM, VICTIM_PROJECT = f"{MARKER}-tenant", f"{MARKER}-lab"
HOSTILE, HOSTILE_PROJECT = "hostile", "hostile-lab"
HOSTILE_QUEUE = "hostile"
TRAINING_ROW = {
    "messages": [{"role": "user", "content": "What is a pier?"}, {"role": "assistant", "content": "A wall."}]
}


@dataclass(frozen=True)
class Target:
    """All that the hostile tenant was given: two URLs, its keys, and the name of the shared model."""

    control: str
    gateway: str
    model: str
    admin: str
    member: str
    agent: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class World:
    """The running platform, seen by its owner."""

    platform: Platform
    project: str
    endpoint: str
    model: str
    victim_key: str
    target: Target

    def control(self) -> Client:
        """Control, as the platform's admin."""
        return Client(self.platform.settings.control_url, self.platform.key)


@contextmanager
def running() -> Iterator[World]:
    """The platform with its tenants; stopped, and its folder removed, afterwards."""
    home = Path(tempfile.mkdtemp(prefix="computility-hostile-"))
    platform = Platform(_settings(home))
    try:
        platform.start()
        yield _populate(platform)
    finally:
        platform.stop()
        shutil.rmtree(home, ignore_errors=True)


def _settings(home: Path) -> Any:
    settings = load_settings(home=home, scheduler={"usage_interval_seconds": 2})
    gateway, control = free_ports(2)
    update = {
        "gateway": settings.gateway.model_copy(update={"port": gateway}),
        "control": settings.control.model_copy(update={"port": control}),
    }
    return settings.model_copy(update=update)


def _populate(platform: Platform) -> World:
    """Share the example's endpoint; give the others their projects, keys and private things.

    The hostile tenant's queue has no devices: its engines would compete for the cores of this one machine,
    which is no matter of trust.
    """
    settings = platform.settings
    project, endpoint = story.the_endpoint(story.example_manifests())
    with Client(settings.control_url, platform.key) as client:
        ready = story.wait_ready(client, project, endpoint, lambda _: None)
        assert ready is not None
        _share(client, project, ready)
        client.apply_all(
            [
                _document("Queue", HOSTILE_QUEUE, maxDevices=0),
                _document("Tenant", VICTIM),
                _document("Tenant", HOSTILE),
                _document("Project", VICTIM_PROJECT, tenant=VICTIM, displayName=f"{MARKER} plans"),
                _document("Project", HOSTILE_PROJECT, tenant=HOSTILE, queues=[HOSTILE_QUEUE]),
            ]
        )
        victim = client.create_key(f"{MARKER}-key", "member", project=VICTIM_PROJECT)["secret"]
        keys = {
            "admin": client.create_key("hostile-admin", "tenant-admin", tenant=HOSTILE)["secret"],
            "member": client.create_key("hostile-member", "member", project=HOSTILE_PROJECT)["secret"],
            "agent": client.create_key("hostile-agent", "agent", project=HOSTILE_PROJECT)["secret"],
        }
    _make_private_things(settings.control_url, victim)
    served = ready["status"]["servedName"]
    target = Target(settings.control_url, settings.gateway_url.removesuffix("/v1"), served, **keys)
    return World(platform, project, endpoint, served, victim, target)


def _share(client: Client, project: str, ready: Any) -> None:
    for plural, name in (("models", ready["spec"]["model"]), ("endpoints", ready["metadata"]["name"])):
        found = client.get(plural, name, project)
        metadata = {"name": name, "project": project}
        spec = {**found["spec"], "shared": True}
        client.apply_all(
            [{"apiVersion": API_VERSION, "kind": found["kind"], "metadata": metadata, "spec": spec}]
        )


def _make_private_things(url: str, key: str) -> None:
    """A model, an endpoint without replicas and a file, all with the marker in their names."""
    with Client(url, key) as client:
        client.apply_all(
            [
                _document("Model", f"{MARKER}-model", VICTIM_PROJECT, source=f"{MARKER}/weights"),
                _document(
                    "Endpoint",
                    f"{MARKER}-endpoint",
                    VICTIM_PROJECT,
                    model=f"{MARKER}-model",
                    servedName=f"{MARKER}-served",
                    replicas=0,
                ),
            ]
        )


def _document(kind: str, name: str, project: str | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"project": project} if project else {})}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
