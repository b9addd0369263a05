"""How many nodes a pool should have: more where what waits fits on them, fewer where they are idle for long.

A pool grows only for what waits for devices; who waits for a quota, a budget or a repair would wait on more
nodes too. It drains a node before it takes it. Where nodes have ordinals it shrinks from the last one down,
as a StatefulSet does; where they have names alone each one that goes is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

WHOLE_MILLIS = 1000
FOR_DEVICES = frozenset(
    (
        *(
            "VendorMismatch",
            "ModelMismatch",
            "CapabilityMissing",
            "DeviceMemory",
            "DeviceTflops",
            "NodeLabels",
        ),
        *("DeviceCount", "HostTooSmall", "GangSize", "NoNodes"),
        *("DevicesBusy", "HostBusy", "NodeLost", "NodeCordoned"),
    )
)
"""Reasons of control that more nodes may do away with, and of which ``fits`` can say whether they would."""
JOIN_SECONDS = 900.0
"""So long a node that was asked for may take until it has joined: images are large."""
LEAST_TRIED_SECONDS = 30.0
"""What could have been placed for so long (or for the time to cool, where that is longer), and was not, waits
for something else than nodes."""


@dataclass(frozen=True)
class Shape:
    """What a node of a pool has. CPUs are one device with so many slots."""

    vendor: str
    model: str = ""
    devices: int = 0
    memory_bytes: int = 0
    cpu_millis: int = 0
    host_memory_bytes: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    capabilities: frozenset[str] = frozenset()
    tflops: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Need:
    """What one rank asks for of a node. Empty texts and 0 ask for nothing."""

    millis: int = WHOLE_MILLIS
    vendors: tuple[str, ...] = ()
    not_vendors: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    not_models: tuple[str, ...] = ()
    memory_bytes: int = 0
    cpu_millis: int = 0
    host_memory_bytes: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    capabilities: tuple[str, ...] = ()
    tflops: float = 0
    dtype: str = "bf16"


@dataclass(frozen=True)
class Demand:
    """A workload that waits: all its ranks start together, or none does. ``since_seconds``: since when it was
    seen to wait (None = just now)."""

    key: str
    ranks: tuple[Need, ...]
    since_seconds: float | None = None


Place = int | str
"""A node's place in its pool: an ordinal, or the name of its pod where pods have no ordinals."""


@dataclass(frozen=True)
class PoolNode:
    """A node that has joined. ``idle_since_seconds`` None = in use."""

    name: str
    place: Place
    idle_since_seconds: float | None = None
    is_draining: bool = False


@dataclass(frozen=True)
class Pool:
    """``replicas`` nodes are asked for now; ``nodes`` are those of them that have joined, ``absent`` since
    when others (by their places) have been missing; those that are not named are missing since now.

    ``pods`` are those that there are and nobody is taking, where they are taken by their names; None where
    places are ordinals.
    """

    name: str
    replicas: int
    least: int
    most: int
    shape: Shape
    nodes: tuple[PoolNode, ...] = ()
    absent: tuple[tuple[Place, float], ...] = ()
    pods: frozenset[str] | None = None

    def missing(self) -> set[Place]:
        """The places whose nodes have not joined; numbers stand for pods that are not made yet."""
        pods = self.pods or frozenset()
        places = {*pods, *range(self.replicas - len(pods))}
        return places - {node.place for node in self.nodes}

    def overdue(self, now_seconds: float, patience_seconds: float) -> set[Place]:
        """The places that have been missing for so long."""
        return {place for place, since in self.absent if now_seconds - since >= patience_seconds}


@dataclass(frozen=True)
class Resize:
    """What a pool should be: ``drain`` are nodes that are to be emptied, ``keep`` those that are not any
    more. ``take`` are the pods that go, where they are taken by their names."""

    pool: str
    replicas: int
    drain: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    reason: str = ""
    take: tuple[str, ...] = ()


def resize(
    pools: Sequence[Pool], demands: Sequence[Demand], now_seconds: float, cool_seconds: float
) -> list[Resize]:
    """What each pool should be, in the order of the pools. Demands come in the order in which they wait; each
    goes to a pool that can take it whole, first to one that needs no more nodes than are there or coming."""
    free = {pool.name: _Room(pool, len(pool.overdue(now_seconds, JOIN_SECONDS))) for pool in pools}
    served: dict[str, list[str]] = {pool.name: [] for pool in pools}
    for demand in demands:
        for name in sorted(free, key=lambda n: (free[n].needs(demand) or 0, n)):
            if free[name].needs(demand) is not None:
                free[name].take(demand)
                served[name].append(demand.key)
                break
    return [
        _grown(pool, free[pool.name].nodes, served[pool.name])
        if served[pool.name]
        else _shrunk(pool, now_seconds, cool_seconds)
        for pool in pools
    ]


def tried(
    pools: Sequence[Pool], demands: Iterable[Demand], now_seconds: float, cool_seconds: float
) -> list[Demand]:
    """The demands that a pool's idle nodes have had room for, for long: more nodes do nothing for them, and
    none is to be kept for them."""
    seconds = max(cool_seconds, LEAST_TRIED_SECONDS)
    return [
        demand
        for demand in demands
        if demand.since_seconds is not None
        and now_seconds - demand.since_seconds >= seconds
        and any(_placed(demand, [pool.shape] * _idle_for(pool, now_seconds, seconds)) for pool in pools)
    ]


def _idle_for(pool: Pool, now_seconds: float, seconds: float) -> int:
    return sum(
        node.idle_since_seconds is not None
        and not node.is_draining
        and now_seconds - node.idle_since_seconds >= seconds
        for node in pool.nodes
    )


def _placed(demand: Demand, empty: list[Shape]) -> bool:
    """Whether all ranks have their places."""
    left = list(empty)
    for need in demand.ranks:
        index = next((i for i, shape in enumerate(left) if fits(need, shape)), None)
        if index is None:
            return False
        left[index] = _less(left[index], need)
    return True


def _grown(pool: Pool, nodes: int, demands: list[str]) -> Resize:
    keep = tuple(node.name for node in pool.nodes if node.is_draining)
    reason = f"for {', '.join(demands[:3])}{' and others' if len(demands) > 3 else ''}"
    replicas = max(pool.replicas, nodes, pool.least, len(pool.pods or ()))
    return Resize(pool.name, replicas, keep=keep, reason=reason)


def _shrunk(pool: Pool, now_seconds: float, cool_seconds: float) -> Resize:
    """The nodes that are idle for long are first drained, then taken. One that never came is taken too."""
    if pool.pods is None:
        return _shrunk_from_the_end(pool, now_seconds, cool_seconds)
    return _shrunk_by_name(pool, pool.pods, now_seconds, cool_seconds)


def _shrunk_by_name(pool: Pool, pods: frozenset[str], now_seconds: float, cool_seconds: float) -> Resize:
    """Those longest idle go first, wherever they are. Whoever else is drained is kept. Nobody is to choose
    among the pods: all that there are and that are not named are asked for."""
    before = max(pool.replicas, pool.least, len(pods))
    spare = before - pool.least
    late = sorted(pods & pool.overdue(now_seconds, max(JOIN_SECONDS, cool_seconds)))[:spare]
    idle = sorted(
        (node.idle_since_seconds, node.name, node)
        for node in pool.nodes
        if node.idle_since_seconds is not None and now_seconds - node.idle_since_seconds >= cool_seconds
    )[: spare - len(late)]
    goes = [node for *_, node in idle]
    take = (*late, *(str(node.place) for node in goes if node.is_draining))
    drain = tuple(node.name for node in goes if not node.is_draining)
    return Resize(
        pool.name,
        before - len(take),
        drain,
        tuple(node.name for node in pool.nodes if node.is_draining and node not in goes),
        "idle" if drain or take else "",
        take,
    )


def _shrunk_from_the_end(pool: Pool, now_seconds: float, cool_seconds: float) -> Resize:
    """The last nodes, one after the other, as far as they are idle for long."""
    replicas, drain = max(pool.replicas, pool.least), []
    overdue = pool.overdue(now_seconds, max(JOIN_SECONDS, cool_seconds))
    by_ordinal = {node.place: node for node in pool.nodes}
    while replicas > pool.least:
        node = by_ordinal.get(replicas - 1)
        if node is None and replicas - 1 in overdue:
            replicas -= 1
            continue
        if node is None or node.idle_since_seconds is None:
            break
        if now_seconds - node.idle_since_seconds < cool_seconds:
            break
        if not node.is_draining:
            drain.append(node.name)
            break
        replicas -= 1
    return Resize(
        pool.name,
        min(replicas, max(pool.most, pool.least)),
        tuple(drain),
        reason="idle" if drain or replicas < pool.replicas else "",
    )


class _Room:
    """A pool's empty nodes: those that are idle, those that are on their way, and those that it may have
    beyond. Those that are ``overdue`` are on their way no longer."""

    def __init__(self, pool: Pool, overdue: int) -> None:
        self._pool = pool
        coming = max(0, pool.replicas - len(pool.nodes) - overdue)
        idle = sum(node.idle_since_seconds is not None for node in pool.nodes)
        self._empty = [pool.shape] * (coming + idle)
        self.nodes = pool.replicas

    def needs(self, demand: Demand) -> int | None:
        """How many more nodes the demand would take; None where it cannot be taken."""
        placed = self._with(demand)
        return None if placed is None else placed[1]

    def take(self, demand: Demand) -> None:
        """Set its places aside."""
        placed = self._with(demand)
        if placed is not None:
            self._empty, more = placed
            self.nodes += more

    def _with(self, demand: Demand) -> tuple[list[Shape], int] | None:
        empty, more = list(self._empty), 0
        for need in demand.ranks:
            index = next((i for i, left in enumerate(empty) if fits(need, left)), None)
            if index is None:
                if self.nodes + more >= self._pool.most or not fits(need, self._pool.shape):
                    return None
                more += 1
                empty.append(self._pool.shape)
                index = len(empty) - 1
            empty[index] = _less(empty[index], need)
        return empty, more


def fits(need: Need, shape: Shape) -> bool:
    """Whether a rank has its place on a node that has so much left."""
    models = {model.lower() for model in need.models}
    return (
        (not need.vendors or shape.vendor in need.vendors)
        and shape.vendor not in need.not_vendors
        and (not models or shape.model.lower() in models)
        and shape.model.lower() not in {model.lower() for model in need.not_models}
        and need.millis <= shape.devices * WHOLE_MILLIS
        and need.memory_bytes <= shape.memory_bytes
        and need.cpu_millis <= shape.cpu_millis
        and need.host_memory_bytes <= shape.host_memory_bytes
        and set(need.labels) <= set(shape.labels)
        and set(need.capabilities) <= shape.capabilities
        and need.tflops <= dict(shape.tflops).get(need.dtype, 0.0)
    )


def _less(shape: Shape, need: Need) -> Shape:
    """What is left: a share takes a whole device, which is never too little."""
    taken = -(-need.millis // WHOLE_MILLIS)
    return replace(
        shape,
        devices=shape.devices - taken,
        cpu_millis=shape.cpu_millis - need.cpu_millis,
        host_memory_bytes=shape.host_memory_bytes - need.host_memory_bytes,
    )


def demand_of(workload: Mapping[str, Any]) -> Demand | None:
    """What a Workload of control waits for; None where it does not wait for devices."""
    status = workload.get("status") or {}
    reasons = status.get("pending") or ()
    if status.get("phase") != "Pending" or not reasons or reasons[0].get("code") not in FOR_DEVICES:
        return None
    metadata = workload["metadata"]
    ranks = [
        _need(role.get("devices") or {})
        for role in workload["spec"]["roles"]
        for _ in range(role.get("minReplicas") or role["replicas"])
        if "equivalence" not in (role.get("devices") or {})
    ]
    wanted = sum(role.get("minReplicas") or role["replicas"] for role in workload["spec"]["roles"])
    if len(ranks) != wanted:
        return None
    return Demand(f"{metadata.get('project', '')}/{metadata['name']}", tuple(ranks))


def _need(devices: Mapping[str, Any]) -> Need:
    count = devices.get("count", 1)
    return Need(
        millis=count * devices.get("shareMillis", WHOLE_MILLIS),
        vendors=tuple(devices.get("vendors", ())),
        not_vendors=tuple(devices.get("notVendors", ())),
        models=tuple(devices.get("models", ())),
        not_models=tuple(devices.get("notModels", ())),
        memory_bytes=devices.get("memoryBytes", 0),
        cpu_millis=devices.get("cpuMillis", 0),
        host_memory_bytes=devices.get("hostMemoryBytes", 0),
        labels=tuple(sorted(devices.get("nodeLabels", {}).items())),
        capabilities=tuple(devices.get("capabilities", ())),
        tflops=devices.get("tflops", 0),
        dtype=devices.get("dtype", "bf16"),
    )
