"""Nodes of control as nodes of pools: which are there, which are in use, what they have."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from operators.control.link import Document
from operators.core.pools import Place, PoolNode, Shape

POOL = "computility.io/pool"
POD = "computility.io/node"
DRAINED = "computility.io/drained-by"
"""The annotation in control of a node that was drained here; others drain for reasons of their own."""
ENDED = ("Succeeded", "Failed")
GONE = ("Exited", "Lost")
P = TypeVar("P", int, str)
"""Places are all of one type in a pool."""


def status_of(document: Document) -> Document:
    """What is observed; nothing yet where there is no status."""
    return document.get("status") or {}


def is_there(node: Document) -> bool:
    """Whether the node is not lost: one that left is known for a while yet."""
    conditions = status_of(node).get("conditions") or ()
    return not any(c.get("type") == "Ready" and c.get("status") == "False" for c in conditions)


def is_ours(node: Document) -> bool:
    """Whether it was drained here."""
    notes: dict[str, str] = node["metadata"].get("annotations", {})
    return notes.get(DRAINED) == "pools"


def used_nodes(workloads: Iterable[Document]) -> set[str]:
    """The nodes on which something runs, is to run, or has places held."""
    used: set[str] = set()
    for workload in workloads:
        status = status_of(workload)
        if status.get("phase") in ENDED:
            continue
        for ranks in (
            status.get("ranks", ()),
            (status.get("next") or {}).get("ranks", ()),
            (status.get("nominated") or {}).get("ranks", ()),
        ):
            used |= {rank.get("node", "") for rank in ranks or () if rank.get("state") not in GONE}
    return used


def by_place(
    place: Callable[[Mapping[str, str]], P | None], nodes: Mapping[str, Document]
) -> dict[P, Document]:
    """A pool's nodes, in the order of their places. ``place`` by a node's labels; None = not the pool's."""
    found: dict[P, Document] = {}
    for node in nodes.values():
        where = place(status_of(node).get("labels") or {})
        if where is not None:
            found[where] = node
    return dict(sorted(found.items()))


def pool_nodes(mine: Mapping[P, Document], idle_since: Mapping[str, float]) -> tuple[PoolNode, ...]:
    """They, with since when each is idle. ``idle_since`` by the names of nodes."""
    return tuple(_pool_node(place, node, idle_since) for place, node in mine.items())


def _pool_node(place: Place, node: Document, idle_since: Mapping[str, float]) -> PoolNode:
    """One that somebody else cordoned or drained is not ours to judge: it counts as in use."""
    name, spec = node["metadata"]["name"], node.get("spec") or {}
    if (spec.get("drain") or spec.get("cordoned")) and not is_ours(node):
        return PoolNode(name, place)
    return PoolNode(name, place, idle_since.get(name), bool(spec.get("drain")))


def shape_in(mine: Mapping[P, Document], told: Shape) -> Shape:
    """What a node of the pool has: what the first says that has joined, else what was told. No node says
    what its devices are capable of, and not all how fast they are."""
    seen = next((shape_of(node) for node in mine.values()), None)
    if seen is None:
        return told
    return Shape(
        *(seen.vendor, seen.model, seen.devices, seen.memory_bytes, seen.cpu_millis),
        *(seen.host_memory_bytes, seen.labels, told.capabilities, seen.tflops or told.tflops),
    )


def shape_of(node: Document) -> Shape | None:
    """What a node has that has joined; None where it shows no devices."""
    status = status_of(node)
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


def told_json(text: str | None) -> Any:
    """What an annotation says; an empty object where it says nothing that is understood."""
    try:
        return json.loads(text or "{}")
    except (ValueError, TypeError, RecursionError):
        return {}


def told_shape(told: Any) -> Shape:
    """What is told that a node has; nothing where that is not understood."""
    try:
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


def told_number(told: Any, otherwise: int) -> int:
    """A number of nodes as text or JSON has it; ``otherwise`` where it is none."""
    text = str(told)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else otherwise
