"""kopf's part: it watches, and tells what changed. Everything else is decided elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import kopf

from common.resources.meta import API_VERSION
from operators.crds.table import CRDS

GROUP, _, VERSION = API_VERSION.partition("/")
Told = Callable[[str | None, Mapping[str, Any]], None]


def login() -> kopf.ConnectionInfo:
    """The credentials of the pod, else those of the kubeconfig. Raises ``kopf.LoginError`` without any."""
    settings = kopf.OperatorSettings()
    found = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(
        settings=settings
    )
    if found is None:
        raise kopf.LoginError("there is neither a service account nor a kubeconfig")
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


async def watch(registry: kopf.OperatorRegistry, namespaces: Sequence[str], stop: asyncio.Event) -> None:
    """Watch until ``stop`` is set; raises what ends it before."""
    await kopf.operator(
        registry=registry,
        settings=quiet_settings(),
        namespaces=list(namespaces),
        clusterwide=not namespaces,
        standalone=True,
        stop_flag=stop,
    )
