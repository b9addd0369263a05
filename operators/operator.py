"""The operator while it leads: what changed here or there is queued, and workers take steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from prometheus_client import Counter, Gauge

from common.errors import ComputilityError
from common.resources import KINDS
from common.settings import Settings
from common.telemetry import get_logger
from operators.control.view import Item
from operators.documents import Key, key_of
from operators.events import Events
from operators.guard import guarded
from operators.jobs import FineTunes
from operators.keys import ApiKeys
from operators.kube import handlers
from operators.mirror import Mirror
from operators.nodes import Nodes
from operators.parts import Parts
from operators.pools.follow import Pools
from operators.work_queue import WorkQueue

HURRY_SECONDS = 1.0
MOST_HURRIED = 20
"""However much is refused for good, control is not asked more often for every change that it has."""
FIRST_SECONDS = -60.0
"""What people changed goes before what is due for as long: status that waits to be brought back."""
_BY_PEOPLE = ("generation", "deletionTimestamp", "annotations", "labels")
PASSES = Counter("computility_operator_passes", "Looks at a custom resource", ("kind", "outcome"))
WAITING = Gauge("computility_operator_waiting", "Custom resources to be looked at, now or later")
_log = get_logger("operator")
Reconcile = Callable[[Key], Awaitable[None]]


class Operator:
    """``table`` says who takes the steps of which kind; kinds that are not in it are mirrored as they are."""

    def __init__(self, parts: Parts, settings: Settings) -> None:
        self._parts, self._settings = parts, settings
        self.queue: WorkQueue[Key] = WorkQueue(parts.clock.monotonic_seconds, _namespace_of)
        self.mirror = Mirror(parts)
        self.table: dict[str, Reconcile] = {
            "ApiKey": ApiKeys(parts).reconcile,
            "FineTune": FineTunes(parts).reconcile,
            "Node": Nodes(parts).reconcile,
        }
        self._hurried_seconds = 0.0
        parts.view.told, parts.view.back = self.told_by_control, self.queue.hurry

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set, or something ends that must not."""
        parts, settings = self._parts, self._settings.operator
        system = await parts.kube.get("/api/v1/namespaces/kube-system")
        parts.cluster.identity = system["metadata"]["uid"]
        for key in await parts.cluster.read_all(parts.kube, settings.namespaces):
            self.queue.add(key)
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(parts.view.follow()),
                group.create_task(self._resync()),
                group.create_task(Pools(parts, self._settings).follow()),
                group.create_task(Events(parts, settings.events_per_minute).follow()),
                *(group.create_task(self._work()) for _ in range(settings.workers)),
            ]
            group.create_task(handlers.watch(self._custom, self._namespace, settings.namespaces, stop))
            await stop.wait()
            for task in helpers:
                task.cancel()

    def told_by_control(self, item: Item, is_news: bool) -> None:
        """Something changed in control; ``is_news``: more than a status. A key that cannot be handed out is
        made and revoked by ourselves: that is no reason to try again."""
        is_patient = item.kind == "ApiKey" or not (is_news or item.kind == "FineTune")
        if item.kind == "Node":
            self.queue.add(Key("Node", "", item.name))
        for key in self._parts.cluster.keys_of(item):
            self.queue.add(key, is_patient=is_patient)
        if is_news and item.kind != "ApiKey":
            self._hurry()

    def _hurry(self) -> None:
        """What was refused may be possible now: what it refers to came, or what used it went."""
        now = self._parts.clock.monotonic_seconds()
        if now - self._hurried_seconds >= HURRY_SECONDS:
            self._hurried_seconds = now
            self.queue.hurry(MOST_HURRIED)

    def _custom(self, kind: str | None, body: Mapping[str, Any]) -> None:
        cluster, key = self._parts.cluster, key_of(body)
        if kind == "DELETED":
            cluster.forget(body)
            self.queue.add(key)
            return
        old = cluster.find(key)
        cluster.learn(body)
        now = cluster.find(key)
        by_people = not (old and now) or any(_told(old, name) != _told(now, name) for name in _BY_PEOPLE)
        self.queue.add(key, FIRST_SECONDS if by_people else 0.0, is_patient=not by_people)

    def _namespace(self, kind: str | None, body: Mapping[str, Any]) -> None:
        if kind == "DELETED":
            self._parts.cluster.forget_namespace(body)
            return
        for key in self._parts.cluster.learn_namespace(body):
            self.queue.add(key)

    async def _work(self) -> None:
        await self._parts.view.synced.wait()
        while True:
            key = await self.queue.take()
            WAITING.set(len(self.queue))
            failed = True
            try:
                await self.table.get(key.kind, self.mirror.reconcile)(key)
                failed = False
                PASSES.labels(key.kind, "ok").inc()
            except ComputilityError as error:
                PASSES.labels(key.kind, error.code).inc()
                _log.info("not mirrored yet", key="/".join(key), error=error.message, code=error.code)
            except Exception:  # noqa: BLE001 - the loop's boundary: one document must not end the others
                PASSES.labels(key.kind, "bug").inc()
                _log.exception("a look failed", key="/".join(key))
            finally:
                self.queue.done(key, failed=failed)

    async def _resync(self) -> None:
        """Look at everything now and then: what no event told of is found."""
        parts, settings = self._parts, self._settings.operator
        while True:
            await asyncio.sleep(settings.resync_seconds)
            with guarded("resync"):
                for key in await parts.cluster.read_all(parts.kube, settings.namespaces):
                    self.queue.add(key)
            for key in parts.cluster.all_keys():
                self.queue.add(key, is_patient=True)


def _namespace_of(key: Key) -> str:
    return key.namespace


def _told(body: Mapping[str, Any], name: str) -> object:
    return body["metadata"].get(name)


WATCHED = tuple(kind for kind in KINDS if kind != "File")
"""Kinds of control that are followed."""
