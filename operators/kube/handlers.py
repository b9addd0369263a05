"""kopf's part: it watches, and tells what changed. Everything else is decided elsewhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import kopf

from common.errors import SetupError, Unavailable
from common.resources.meta import API_VERSION
from operators.crds.table import CRDS
from operators.guard import guarded

GROUP, _, VERSION = API_VERSION.partition("/")
Told = Callable[[str | None, Mapping[str, Any]], None]


def login() -> kopf.ConnectionInfo:
    """The credentials of the pod, else those of the kubeconfig. Raises ``SetupError`` without any."""
    settings = kopf.OperatorSettings()
    try:
        found = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(
            settings=settings
        )
    except (OSError, kopf.LoginError) as error:
        raise SetupError(f"the credentials for Kubernetes cannot be read: {error}") from error
    if found is None:
        raise SetupError("there is neither a service account nor a kubeconfig")
    return found


def registry_of(custom: Told, namespace: Told) -> kopf.OperatorRegistry:
    """Calls ``custom`` and ``namespace`` with the type of each event (None = it was there already) and the
    body."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def log_in(**_: Any) -> kopf.ConnectionInfo:
        return login()

    for crd in CRDS:

        @kopf.on.event(GROUP, VERSION, crd.plural, id=f"watch-{crd.plural}", registry=registry)
        def on_custom(event: Any, **_: Any) -> None:
            custom(event["type"], event["object"])

    @kopf.on.event("", "v1", "namespaces", id="watch-namespaces", registry=registry)
    def on_namespace(event: Any, **_: Any) -> None:
        namespace(event["type"], event["object"])

    return registry


def quiet_settings() -> kopf.OperatorSettings:
    """kopf watches, and writes nothing by itself."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.queueing.idle_timeout = settings.queueing.exit_timeout = 0.5
    settings.watching.server_timeout = 600
    settings.watching.client_timeout = 610
    settings.networking.error_backoffs = (1, 1, 2, 3, 5, 8, 13)
    return settings


async def watch(custom: Told, namespace: Told, namespaces: Sequence[str], stop: asyncio.Event) -> None:
    """Watch until ``stop`` is set; ``custom`` and ``namespace`` are called in this loop. Raises what ends it
    before.

    kopf has a thread and a loop of its own: it takes every task that is made while it runs for one of its
    own, and ends them with it.
    """
    loop, ended = asyncio.get_running_loop(), threading.Event()

    def here(told: Told) -> Told:
        return lambda kind, body: _call(loop, told, kind, body)

    def run() -> None:
        asyncio.run(
            kopf.operator(
                registry=registry_of(here(custom), here(namespace)),
                settings=quiet_settings(),
                namespaces=list(namespaces),
                clusterwide=not namespaces,
                standalone=True,
                stop_flag=ended,
            )
        )

    stopper = asyncio.create_task(stop.wait())
    stopper.add_done_callback(lambda _: ended.set())
    try:
        await asyncio.to_thread(run)
    finally:
        stopper.cancel()
    if not stop.is_set():
        raise Unavailable("Kubernetes is watched no longer")


def _call(loop: asyncio.AbstractEventLoop, told: Told, kind: str | None, body: Mapping[str, Any]) -> None:
    with suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(_tell, told, kind, body)


def _tell(told: Told, kind: str | None, body: Mapping[str, Any]) -> None:
    with guarded("watch"):
        told(kind, body)
