"""Elastic node pools: StatefulSets of Ray nodes follow what waits in control.

A StatefulSet is a pool where it has the label ``computility.io/pool``, with the name that its nodes tell
control in their label of that name. Annotations say its limits, and what a node of it has until one has
joined.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from prometheus_client import Counter

from common.errors import NotFound
from common.resources.meta import API_VERSION
from common.settings import Settings
from common.telemetry import get_logger
from operators.control.link import Document
from operators.control.view import item_of
from operators.core.pools import Demand, Pool, PoolNode, Resize, Shape, demand_of, resize, tried
from operators.documents import Body
from operators.guard import guarded
from operators.parts import Parts

POOL = "computility.io/pool"
POD = "computility.io/node"
LEAST, MOST = "computility.io/min-replicas", "computility.io/max-replicas"
SHAPE = "computility.io/node-shape"
DRAINED = "computility.io/drained-by"
"""The annotation in control of a node that was drained here; others drain for reasons of their own."""
ENDED = ("Succeeded", "Failed")
GONE = ("Exited", "Lost")
RESIZED = Counter("computility_operator_resized_pools", "Changes of pools", ("direction",))
_log = get_logger("operator.pools")


class Pools:
    """Looks, decides and does, until cancelled."""

    def __init__(self, parts: Parts, settings: Settings) -> None:
        self._parts = parts
        self._namespace = settings.operator.pools_namespace
        self._look_seconds = settings.operator.pools_look_seconds
        self._cool_seconds = settings.operator.pools_cool_seconds
        self._idle_since: dict[str, float] = {}
        self._absent_since: dict[tuple[str, int], float] = {}
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
        path = f"/apis/apps/v1/namespaces/{quote(self._namespace)}/statefulsets"
        sets = {
            found["metadata"]["labels"][POOL]: found
            async for found in self._parts.kube.each(path, labelSelector=POOL)
        }
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
        for name, found in sorted(sets.items()):
            with guarded("pools", name):
                pools.append(pool_of(name, found, nodes, self._idle_since))
        pools = self._with_absent(pools, now)
        demands = self._untried(pools, _demands(workloads), now)
        for pool, wanted in zip(pools, resize(pools, demands, now, self._cool_seconds), strict=True):
            scale = f"{path}/{quote(sets[pool.name]['metadata']['name'])}/scale"
            with guarded("pools", pool.name):
                await self._do(scale, pool, wanted, nodes)

    def _with_absent(self, pools: list[Pool], now_seconds: float) -> list[Pool]:
        """The pools, with since when those have been missing that have not joined."""
        absent = {
            (pool.name, ordinal): self._absent_since.get((pool.name, ordinal), now_seconds)
            for pool in pools
            for ordinal in set(range(pool.replicas)) - {node.ordinal for node in pool.nodes}
        }
        self._absent_since = absent
        return [
            replace(
                pool, absent=tuple((o, since) for (name, o), since in absent.items() if name == pool.name)
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

    async def _do(self, path: str, pool: Pool, wanted: Resize, nodes: Mapping[str, Document]) -> None:
        for name in wanted.drain:
            await self._drain(nodes[name], True)
        for name in wanted.keep:
            await self._drain(nodes[name], False)
        if wanted.replicas != pool.replicas:
            await self._parts.kube.merge(path, {"spec": {"replicas": wanted.replicas}})
            RESIZED.labels("up" if wanted.replicas > pool.replicas else "down").inc()
            _log.info("a pool is resized", pool=pool.name, replicas=wanted.replicas, reason=wanted.reason)

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


def is_there(node: Document) -> bool:
    """Whether the node is not lost: one that left is known for a while yet."""
    conditions = _status(node).get("conditions") or ()
    return not any(c.get("type") == "Ready" and c.get("status") == "False" for c in conditions)


def _status(document: Document) -> Document:
    """What is observed; nothing yet where there is no status."""
    return document.get("status") or {}


def is_ours(node: Document) -> bool:
    """Whether it was drained here."""
    notes: dict[str, str] = node["metadata"].get("annotations", {})
    return notes.get(DRAINED) == "pools"


def used_nodes(workloads: list[Document]) -> set[str]:
    """The nodes on which something runs, is to run, or has places held."""
    used: set[str] = set()
    for workload in workloads:
        status = _status(workload)
        if status.get("phase") in ENDED:
            continue
        for ranks in (
            status.get("ranks", ()),
            (status.get("next") or {}).get("ranks", ()),
            (status.get("nominated") or {}).get("ranks", ()),
        ):
            used |= {rank.get("node", "") for rank in ranks or () if rank.get("state") not in GONE}
    return used


def pool_of(name: str, found: Body, nodes: Mapping[str, Document], idle_since: Mapping[str, float]) -> Pool:
    """The pool that a StatefulSet stands for."""
    metadata, replicas = found["metadata"], int(found["spec"].get("replicas", 1))
    notes = metadata.get("annotations") or {}
    mine = {}
    for node in nodes.values():
        labels = _status(node).get("labels") or {}
        ordinal = labels.get(POD, "").removeprefix(f"{metadata['name']}-")
        if labels.get(POOL) == name and ordinal.isdecimal():
            mine[int(ordinal)] = node
    told = _told_shape(notes)
    seen = next((shape_of(node) for _, node in sorted(mine.items())), None)
    if seen is not None:  # no node says what its devices are capable of, and not all how fast they are
        seen = replace(seen, capabilities=told.capabilities, tflops=seen.tflops or told.tflops)
    return Pool(
        name,
        replicas,
        _number(notes.get(LEAST), replicas),
        _number(notes.get(MOST), replicas),
        seen or told,
        tuple(_pool_node(ordinal, node, idle_since) for ordinal, node in sorted(mine.items())),
    )


def _pool_node(ordinal: int, node: Document, idle_since: Mapping[str, float]) -> PoolNode:
    """One that somebody else cordoned or drained is not ours to judge: it counts as in use."""
    name, spec = node["metadata"]["name"], node.get("spec") or {}
    if (spec.get("drain") or spec.get("cordoned")) and not is_ours(node):
        return PoolNode(name, ordinal)
    return PoolNode(name, ordinal, idle_since.get(name), bool(spec.get("drain")))


def shape_of(node: Document) -> Shape | None:
    """What a node has that has joined; None where it shows no devices."""
    status = _status(node)
    devices = [device for device in status.get("devices") or () if device.get("healthy", True)]
    if not devices:
        return None
    first = devices[0]
    alike = [device for device in devices if device["model"] == first["model"]]
    labels = {key: value for key, value in (status.get("labels") or {}).items() if key != POD}
    return Shape(
        first["vendor"],
        first["model"],
        sum(device.get("slots", 1) for device in alike),
        min(device.get("memoryBytes", 0) for device in alike),
        status.get("cpuCores", 0) * 1000,
        status.get("memoryBytes", 0),
        tuple(sorted(labels.items())),
        tflops=tuple(sorted((first.get("tflops") or {}).items())),
    )


def _told_shape(notes: Mapping[str, str]) -> Shape:
    """What the annotation says that a node has; nothing where it says nothing that is understood."""
    try:
        told: Any = json.loads(notes.get(SHAPE, "{}"))
        labels = {str(key): str(value) for key, value in dict(told.get("labels", {})).items()}
        return Shape(
            str(told.get("vendor", "")),
            str(told.get("model", "")),
            int(told.get("devices", 0)),
            int(told.get("memoryBytes", 0)),
            int(told.get("cpuMillis", 0)),
            int(told.get("hostMemoryBytes", 0)),
            tuple(sorted(labels.items())),
            frozenset(str(name) for name in told.get("capabilities", ())),
            tuple(sorted((str(k), float(v)) for k, v in dict(told.get("tflops", {})).items())),
        )
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return Shape("")


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 7 else otherwise
