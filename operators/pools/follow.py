"""Elastic node pools follow what waits in control."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from prometheus_client import Counter

from common.errors import NotFound
from common.resources.meta import API_VERSION
from common.settings import Settings
from common.telemetry import get_logger
from operators.control.link import Document
from operators.control.view import item_of
from operators.core.pools import Demand, Place, Pool, Resize, demand_of, resize, tried
from operators.guard import guarded
from operators.kube.client import Kube
from operators.parts import Parts
from operators.pools.groups import worker_groups
from operators.pools.nodes import DRAINED, is_ours, is_there, used_nodes
from operators.pools.sets import node_sets

RESIZED = Counter("computility_operator_resized_pools", "Changes of pools", ("direction",))
_log = get_logger("operator.pools")


class Sized(Protocol):
    """What Kubernetes has for a pool."""

    @property
    def name(self) -> str:
        """The pool's."""

    def pool(self, nodes: Mapping[str, Document], idle_since: Mapping[str, float]) -> Pool:
        """The pool as it is. ``idle_since`` by the names of nodes."""

    async def resize(self, kube: Kube, wanted: Resize) -> None:
        """Have it so. Raises errors of ``common.errors``."""


FOUND: dict[str, Callable[[Kube, str], Awaitable[Sequence[Sized]]]] = {
    "StatefulSet": node_sets,
    "RayCluster": worker_groups,
}
"""All pools in a namespace, by the kind that they are of."""


class Pools:
    """Looks, decides and does, until cancelled."""

    def __init__(self, parts: Parts, settings: Settings) -> None:
        self._parts = parts
        self._namespace = settings.operator.pools_namespace
        self._found = FOUND[settings.operator.pools_kind]
        self._look_seconds = settings.operator.pools_look_seconds
        self._cool_seconds = settings.operator.pools_cool_seconds
        self._idle_since: dict[str, float] = {}
        self._absent_since: dict[tuple[str, Place], float] = {}
        self._waits_since: dict[Demand, float] = {}
        self._tried: set[Demand] = set()

    async def follow(self) -> None:
        """Look every few seconds, while control is followed."""
        await self._parts.view.synced.wait()
        while self._namespace:
            if self._parts.view.trouble:
                self._waits_since.clear()  # nothing could be placed meanwhile
            else:
                with guarded("pools"):
                    await self._look()
            await asyncio.sleep(self._look_seconds)

    async def _look(self) -> None:
        view, now = self._parts.view, self._parts.clock.monotonic_seconds()
        found = {one.name: one for one in await self._found(self._parts.kube, self._namespace)}
        workloads = sorted(view.all_of("Workload"), key=_age)
        used = used_nodes(workloads)
        nodes = {
            node["metadata"]["name"]: node
            for node in view.all_of("Node")
            if is_there(node) or node["metadata"]["name"] in used
        }
        await self._forget_taken()
        self._idle_since = {name: self._idle_since.get(name, now) for name in nodes if name not in used}
        pools: list[Pool] = []
        for name, one in sorted(found.items()):
            with guarded("pools", name):
                pools.append(one.pool(nodes, self._idle_since))
        pools = self._with_absent(pools, now)
        demands = self._untried(pools, _demands(workloads), now)
        for pool, wanted in zip(pools, resize(pools, demands, now, self._cool_seconds), strict=True):
            with guarded("pools", pool.name):
                await self._do(found[pool.name], pool, wanted, nodes)

    def _with_absent(self, pools: list[Pool], now_seconds: float) -> list[Pool]:
        """The pools, with since when those have been missing that have not joined."""
        absent = {
            (pool.name, place): self._absent_since.get((pool.name, place), now_seconds)
            for pool in pools
            for place in pool.missing()
        }
        self._absent_since = absent
        return [
            replace(
                pool, absent=tuple((at, since) for (name, at), since in absent.items() if name == pool.name)
            )
            for pool in pools
        ]

    def _untried(self, pools: list[Pool], demands: list[Demand], now_seconds: float) -> list[Demand]:
        """The demands that nodes may still help, with since when they wait. What did not start though there
        was room holds nothing, until it waits for something else."""
        self._waits_since = {demand: self._waits_since.get(demand, now_seconds) for demand in demands}
        waiting = {demand: replace(demand, since_seconds=self._waits_since[demand]) for demand in demands}
        new = {
            replace(demand, since_seconds=None)
            for demand in tried(pools, waiting.values(), now_seconds, self._cool_seconds)
        }
        self._tried = (self._tried & waiting.keys()) | new
        return [found for demand, found in waiting.items() if demand not in self._tried]

    async def _forget_taken(self) -> None:
        """Nodes that were taken away here are gone for good: nobody is to wait for them to come back."""
        taken = [node for node in self._parts.view.all_of("Node") if is_ours(node) and not is_there(node)]
        for node in taken:
            name = node["metadata"]["name"]
            with guarded("pools", name):
                with suppress(NotFound):
                    await self._parts.link.delete("nodes", name)
                self._parts.view.forget(item_of(node))

    async def _do(self, sized: Sized, pool: Pool, wanted: Resize, nodes: Mapping[str, Document]) -> None:
        for name in wanted.drain:
            await self._drain(nodes[name], True)
        for name in wanted.keep:
            await self._drain(nodes[name], False)
        if wanted.replicas != pool.replicas or wanted.take:
            await sized.resize(self._parts.kube, wanted)
            RESIZED.labels("up" if wanted.replicas > pool.replicas else "down").inc()
            _log.info(
                "a pool is resized",
                pool=pool.name,
                replicas=wanted.replicas,
                reason=wanted.reason,
                taken=list(wanted.take),
            )

    async def _drain(self, node: Document, drains: bool) -> None:
        metadata = node["metadata"]
        notes = {key: value for key, value in metadata.get("annotations", {}).items() if key != DRAINED}
        kept = {key: metadata[key] for key in ("name", "labels", "resourceVersion") if key in metadata}
        document = {
            "apiVersion": API_VERSION,
            "kind": "Node",
            "metadata": {**kept, "annotations": {**notes, DRAINED: "pools"} if drains else notes},
            "spec": {**node["spec"], "drain": drains},
        }
        self._parts.view.learn((await self._parts.link.apply(document))["resource"])


def _demands(workloads: list[Document]) -> list[Demand]:
    demands = []
    for workload in workloads:
        with guarded("pools", workload["metadata"]["name"]):
            demands.append(demand_of(workload))
    return [demand for demand in demands if demand is not None]


def _age(document: Document) -> tuple[int, str]:
    return document["metadata"].get("createdMs", 0), document["metadata"]["name"]
