"""Events of control become Events of Kubernetes, where there is a custom resource that they are about."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from prometheus_client import Counter

from common.errors import ComputilityError, Conflict, NotFound
from common.store.authorship import WRITTEN_BY
from common.telemetry import get_logger
from operators.control.view import Item
from operators.core.events import Budgets, Told, event_of
from operators.guard import guarded
from operators.kube.client import core_path
from operators.parts import Parts

LOOK_SECONDS = 2.0
PAGE = 500
RECENT_MS = 600_000
"""What is older when the operator starts is not told any more."""
EVENTS = Counter("computility_operator_events", "Events of control", ("outcome",))
_log = get_logger("operator.events")


class Events:
    """Follows control's events. The same one again is counted up, and no resource takes the room of all."""

    def __init__(self, parts: Parts, per_minute: int) -> None:
        self._parts = parts
        self._budgets, self._told = Budgets(per_minute), Told()
        self._after: str | None = None
        self._per_minute = per_minute
        self._own_key = ""

    async def follow(self) -> None:
        """Look until cancelled."""
        await self._parts.view.synced.wait()
        since_ms = self._parts.clock.now_ms() - RECENT_MS
        while self._per_minute:
            with guarded("events"):
                while await self._look(since_ms):
                    pass
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, since_ms: int) -> bool:
        """One page; whether there may be more."""
        self._own_key = self._own_key or await self._parts.link.own_key()
        page = await self._parts.link.events(self._after, PAGE)
        for said in page:
            with guarded("events", str(said["id"])):  # one that cannot be told holds up no other
                if said["timeMs"] >= since_ms and not self._is_own(said):
                    await self._tell(said)
            self._after = said["id"]
        return len(page) == PAGE

    def _is_own(self, said: Mapping[str, Any]) -> bool:
        """Whether it tells of a write of this operator, which somebody made in Kubernetes."""
        return (said.get("data") or {}).get(WRITTEN_BY) == self._own_key

    async def _tell(self, said: Mapping[str, Any]) -> None:
        cluster = self._parts.cluster
        for key in list(cluster.keys_of(Item(said["kind"], said.get("project") or "", said["name"]))):
            body = cluster.find(key)
            if body is None:
                continue
            if not self._budgets.take(body["metadata"]["uid"], self._parts.clock.monotonic_seconds()):
                EVENTS.labels("dropped").inc()
                continue
            namespace = key.namespace or "default"
            event = event_of(body, said, namespace)
            try:
                await self._write(namespace, event, self._told.count(event["metadata"]["name"]))
                EVENTS.labels("told").inc()
            except ComputilityError as error:
                EVENTS.labels("refused").inc()
                _log.info("an event is not told", key="/".join(key), error=error.message)

    async def _write(self, namespace: str, event: Mapping[str, Any], count: int) -> None:
        kube, name = self._parts.kube, event["metadata"]["name"]
        if count == 1:
            try:
                await kube.create(core_path(namespace, "events"), event)
                return
            except Conflict:  # told before this operator started
                count = 0
        patch = {"lastTimestamp": event["lastTimestamp"], **({"count": count} if count else {})}
        try:
            await kube.merge(core_path(namespace, "events", name), patch)
        except NotFound:  # Kubernetes keeps them for an hour
            await kube.create(core_path(namespace, "events"), event)
