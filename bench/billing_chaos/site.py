"""A real `up` on either database, and waiting until all that it has counted is in the ledger."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.billing_chaos.postgres import PostgresServer, serving
from bench.billing_chaos.spending import make_budget
from common.client import Client
from common.errors import ComputilityError, NotFound, Unavailable
from common.resources.meta import API_VERSION
from common.settings import Settings, load_settings
from control.demo import story
from control.demo.background import Platform
from control.supervisor.ports import free_ports
from inference.gateway.books.journal import JOURNAL_FILE, read_journal
from inference.gateway.books.spool import segments

WORKERS = 2
USAGE_SECONDS = 2
DRAIN_SECONDS = 600.0
EMBEDS = "embeds"


@dataclass
class Site:
    """``key`` is a member's, ``spender`` that of one with a hard budget; ``models`` are the names of the one
    that chats and the one that embeds, empty = none; ``server`` is None on SQLite."""

    platform: Platform
    server: PostgresServer | None
    project: str
    endpoints: tuple[str, ...]
    models: tuple[str, str]
    key: str
    spender: str

    @property
    def settings(self) -> Settings:
        return self.platform.settings

    def stop_embedding(self) -> None:
        """Remove the Endpoint that embeds, so that its devices are free. Again until control answers."""
        while EMBEDS in self.endpoints:
            try:
                with Client(self.settings.control_url, self.platform.key) as client:
                    client.delete("endpoints", EMBEDS, self.project)
            except NotFound:
                self.endpoints = tuple(name for name in self.endpoints if name != EMBEDS)
            except ComputilityError:
                time.sleep(0.5)

    def wait_drained(self) -> None:
        """Return when engines serve again and no gateway holds anything that is to be billed. Raises
        ``Unavailable`` that says what is left."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while left := self._left():
            if time.monotonic() > deadline:
                raise Unavailable(f"after {DRAIN_SECONDS:.0f} s there is still: {left}")
            time.sleep(0.5)

    def _left(self) -> str:
        try:
            with Client(self.settings.control_url, self.platform.key) as client:
                for name in self.endpoints:
                    if not any(
                        one["ready"] for one in _replicas(client.get("endpoints", name, self.project))
                    ):
                        return f"the endpoint {name} without an engine"
        except ComputilityError as error:
            return f"control that does not answer ({error.message})"
        for folder in sorted((self.settings.home / "spool").iterdir()):
            if folder.is_dir() and (segments(folder) or read_journal(folder / JOURNAL_FILE).events):
                return f"usage in {folder.name}"
        return ""

    def engines(self) -> list[tuple[tuple[str, str], str]]:
        """Endpoint (``project/name``), Workload and URL of each engine that is ready."""
        with Client(self.settings.control_url, self.platform.key) as client:
            found = [(name, client.get("endpoints", name, self.project)) for name in self.endpoints]
        return [
            ((f"{self.project}/{name}", one["workload"]), one["url"])
            for name, endpoint in found
            for one in _replicas(endpoint)
            if one["ready"]
        ]

    def set_aside(self) -> list[str]:
        """Usage that control refused: there must be none."""
        files = (self.settings.home / "spool").glob("*/rejected.ndjson")
        return [line for file in files for line in file.read_text().splitlines()]


@contextmanager
def running(database: str, model: str, embeds: bool) -> Iterator[Site]:
    """The platform on ``sqlite`` or ``postgresql``, with engines that answer; gone with its files afterwards.
    ``model``: a folder with the tiny model, empty = made first."""
    home = Path(tempfile.mkdtemp(prefix="computility-chaos-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        server = stack.enter_context(serving()) if database == "postgresql" else None
        options = ("--model", model) if model else ()
        platform = Platform(_settings(home, server), options)
        stack.callback(platform.stop)
        platform.start()
        yield _site(platform, server, embeds)


def _settings(home: Path, server: PostgresServer | None) -> Settings:
    gateway, control = free_ports(2)
    return load_settings(
        home=home,
        scheduler={"usage_interval_seconds": USAGE_SECONDS},
        gateway={"port": gateway, "workers": WORKERS},
        control={"port": control},
        store={"url": server.url if server is not None else ""},
    )


def _site(platform: Platform, server: PostgresServer | None, embeds: bool) -> Site:
    project, endpoint = story.the_endpoint(story.example_manifests())
    names = (endpoint, EMBEDS) if embeds else (endpoint,)
    with Client(platform.settings.control_url, platform.key) as client:
        served = [_ready(client, project, endpoint)]
        if embeds:
            client.apply_all(_embedder(client, project, endpoint))
            served.append(_ready(client, project, EMBEDS))
        key = client.create_key("chaos", "member", project=project)["secret"]
        spender = make_budget(client, project)
    return Site(platform, server, project, names, (served[0], served[1] if embeds else ""), key, spender)


def _ready(client: Client, project: str, name: str) -> str:
    """What clients call the Endpoint's model, once it answers."""
    ready = story.wait_ready(client, project, name, lambda _: None)
    assert ready is not None
    return str(ready["status"]["servedName"])


def _embedder(client: Client, project: str, endpoint: str) -> list[dict[str, Any]]:
    """An Endpoint of the same weights that makes embeddings."""
    served = client.get("endpoints", endpoint, project)
    model = client.get("models", served["spec"]["model"], project)
    metadata = {"name": EMBEDS, "project": project}
    spec = {"source": model["spec"]["source"], "tasks": ["embeddings"]}
    return [
        {"apiVersion": API_VERSION, "kind": "Model", "metadata": metadata, "spec": spec},
        {
            "apiVersion": API_VERSION,
            "kind": "Endpoint",
            "metadata": metadata,
            "spec": {"model": EMBEDS, "servedName": EMBEDS, "replicas": 1, "devices": {"count": 1}},
        },
    ]


def _replicas(endpoint: Any) -> list[Any]:
    return list(endpoint.get("status", {}).get("replicas", []))
