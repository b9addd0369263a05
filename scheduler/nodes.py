"""Node resources follow what the fabric observes. Load is rounded, so that the store is not written for
every flicker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import fields
from functools import partial

from common.clock import Clock, rfc3339
from common.errors import Conflict, NotFound
from common.guard import HANDLED, Guard, tell_handled
from common.loop import in_turns
from common.resources import Metadata, Node
from common.resources.pool import LOAD, Device, NodeStatus
from common.store.port import StatusWrite, Store
from scheduler.journal import write_all
from scheduler.node_events import node_events
from scheduler.ports import NodeObservation
from scheduler.translate.kept_world import KeptWorld
from scheduler.translate.observed import Observed
from scheduler.translate.views import LATE, World

LOST = "NodeLost"
"""Reason of the condition Ready, once the fabric has given the node up."""
FLAP_WINDOW_MS = 3_600_000
"""A node that has stayed for so long is no longer taken to be flapping."""
FLAP_MOST_SECONDS = 3600.0
LOAD_PERIOD_MS = 15_000
"""How often a change of load alone is written."""
AT_A_TIME = 500
"""So many nodes are written in one transaction."""
_TOLD = tuple(
    field.name
    for field in fields(NodeObservation)
    if field.name not in ("gangs", "devices", "memory_available_bytes")
)
_TOLD_OF_DEVICE = tuple(name for name in Device.model_fields if name not in LOAD)
_REASONS = {
    "Alive": (True, "AgentAnswers", ""),
    "Lost": (False, LOST, "the node left the Ray cluster or its agent does not answer"),
    "Unseen": (False, "NotSeen", "the node has not been seen since control started"),
}


class NodeWriter:
    """Writes ``Node`` statuses; remembers when load was last written and since when nodes are silent. Looks
    at what has changed, and at nodes of which time alone decides: they are late, back after a loss, or their
    load is to be written.

    ``flap_backoff_seconds`` and ``late_seconds``: see ``settings.scheduler``."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        flap_backoff_seconds: float,
        late_seconds: float,
        guard: Guard,
        world: KeptWorld,
    ) -> None:
        self._guard = guard
        self._changed = world.reader()
        self._open: set[str] = set()
        self._staged: dict[str, tuple[Node, Node]] = {}
        self._store = store
        self._clock = clock
        self._flap_backoff_seconds = flap_backoff_seconds
        self._late_ms = round(late_seconds * 1000)
        self._load_written_ms: dict[str, int] = {}
        self._load_due_ms: dict[str, int] = {}
        self._done: dict[str, tuple[Node, NodeObservation]] = {}
        self._silent_since_ms: dict[str, int] = {}

    async def sync(self, world: World, observed: Observed, moved: Iterable[str]) -> None:
        """Bring the store's nodes (and ``world``) up to date, those that have ``moved``, that have changed in
        the store, or whose time has come. A node never observed here keeps its place, not ready."""
        now_ms = self._clock.now_ms()
        late = [name for name, due_ms in self._load_due_ms.items() if due_ms <= now_ms]
        forced, self._open = {*self._open, *self._aside(), *late}, set()
        async for name in in_turns(sorted({*moved, *self._changed.take_nodes(), *forced})):
            node, observation = world.nodes.get(name), observed.nodes.get(name)
            if name not in forced and self._is_done(node, observation, now_ms):
                self._silent_since_ms.pop(name, None)
                continue
            self._load_due_ms.pop(name, None)
            if observation is not None:
                await self._guarded(world, name, partial(self._sync_one, world, observation))
            elif node is not None:
                await self._guarded(world, name, partial(self._sync_unseen, world, node))
        await self._flush(world)

    def _is_done(self, node: Node | None, observation: NodeObservation | None, now_ms: int) -> bool:
        """Whether its status says already what is observed, or lacks load alone, whose time is to come."""
        done = self._done.get(observation.name) if observation is not None else None
        if done is None or observation is None or done[0] is not node or observation.state != "Alive":
            return False
        last = done[1]
        if not all(getattr(last, name) == getattr(observation, name) for name in _TOLD):
            return False
        if last.memory_available_bytes == observation.memory_available_bytes and (
            last.devices == observation.devices
        ):
            return True
        due_ms = self._load_written_ms.get(observation.name, 0) + LOAD_PERIOD_MS
        self._load_due_ms[observation.name] = due_ms
        return due_ms > now_ms and _are_the_same(last.devices, observation.devices)

    def _aside(self) -> set[str]:
        """Nodes that something about them keeps from being handled."""
        keys = [key for key in self._guard.all_aside() if isinstance(key, tuple)]
        return {str(key[1]) for key in keys if key[0] in ("Node", "sync")}

    async def _flush(self, world: World) -> None:
        """Write what has changed, in few transactions. What is refused is looked at again."""
        staged, self._staged = list(self._staged.values()), {}
        for start in range(0, len(staged), AT_A_TIME):
            part = staged[start : start + AT_A_TIME]
            now_ms = self._clock.now_ms()
            writes = [StatusWrite(after, node_events(before, after, now_ms)) for before, after in part]
            results = await write_all(self._store, writes)
            for (before, _), result in zip(part, results, strict=True):
                if isinstance(result, Node):
                    world.nodes[before.name] = result
                else:
                    world.nodes[before.name] = before
                    self._open.add(before.name)
                    if isinstance(result, Exception) and not isinstance(result, Conflict | NotFound):
                        self._guard.failed("Node", ("sync", before.name), 0, result)

    async def _guarded(self, world: World, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """One node's trouble is not the others': it is left as it was, and tried again in the next pass."""
        with self._guard.item("Node", ("sync", name)) as tried:
            await work()
        node = world.nodes.get(name)
        fault = tried.fault or self._guard.fault_of(("Node", name))
        if node is not None and (fault is not None or _is_aside(node)):
            self._open.add(name)
            await tell_handled(self._store, node, fault, self._clock)

    async def _sync_unseen(self, world: World, node: Node) -> None:
        self._set_ready(world, node, node.status.model_copy(deep=True), "Unseen")

    async def _sync_one(self, world: World, observation: NodeObservation) -> None:
        node = world.nodes.get(observation.name)
        if node is None:
            applied = await self._store.apply(Node(metadata=Metadata(name=observation.name)))
            node = world.nodes[observation.name] = applied.resource
        status = node.status.model_copy(deep=True)
        if observation.state == "Alive":
            status = self._observed_status(node, observation)
        elif observation.state == "Silent":
            self._note_silence(world, node)
            return
        self._set_ready(world, node, status, observation.state)
        self._done.pop(node.name, None)
        if node.name not in self._staged:
            self._done[node.name] = node, observation

    def _note_silence(self, world: World, node: Node) -> None:
        """Once it has been silent for too long, it is given nothing new. One that was asked for the first
        time after a rest has that time from then on."""
        self._open.add(node.name)
        now_ms = self._clock.now_ms()
        since_ms = self._silent_since_ms.setdefault(node.name, now_ms)
        if now_ms - since_ms < self._late_ms or not node.status.is_true("Ready"):
            return
        status = node.status.model_copy(deep=True)
        message = f"its agent has not answered since {rfc3339(since_ms)}; nothing new is placed there"
        generation = node.metadata.generation
        status.set_condition("Responsive", False, LATE, message, now_ms=since_ms, generation=generation)
        self._write(world, node, status)

    def _observed_status(self, node: Node, observation: NodeObservation) -> NodeStatus:
        now_ms = self._clock.now_ms()
        due = now_ms - self._load_written_ms.get(node.name, 0) >= LOAD_PERIOD_MS
        old = {device.id: device for device in node.status.devices}
        told = (_told(device, observation) for device in observation.devices)
        devices = [_rounded(device) if due else _with_load_of(device, old.get(device.id)) for device in told]
        step = max(1, observation.memory_bytes // 32)
        available = _step(observation.memory_available_bytes, step) if due else None
        if due:
            self._load_written_ms[node.name] = now_ms
        else:
            self._load_due_ms[node.name] = self._load_written_ms[node.name] + LOAD_PERIOD_MS
        status = node.status.model_copy(
            update={
                "ray_node_id": observation.ray_node_id,
                "address": observation.address,
                "devices": devices,
                "probe_faults": dict(observation.probe_faults),
                "cpu_cores": observation.cpu_cores,
                "memory_bytes": observation.memory_bytes,
                "memory_available_bytes": available or node.status.memory_available_bytes,
                "cluster": observation.cluster,
                "labels": dict(observation.labels),
                "cached": list(observation.cached),
                "drivers": dict(observation.drivers),
            },
            deep=True,
        )
        self._silent_since_ms.pop(node.name, None)
        self._note_return(status, now_ms)
        if status.condition("Responsive") is not None:
            status.set_condition(
                "Responsive", True, "AgentAnswers", now_ms=now_ms, generation=node.metadata.generation
            )
        _set_held(status, observation, node.metadata.generation, now_ms)
        return status

    def _note_return(self, status: NodeStatus, now_ms: int) -> None:
        """Count returns after a loss; from the second one on within an hour the node has to wait."""
        ready = status.condition("Ready")
        stayed = status.returned_ms is not None and now_ms - status.returned_ms >= FLAP_WINDOW_MS
        if ready is not None and ready.reason == LOST:
            status.flaps = 1 if stayed else status.flaps + 1
            status.returned_ms, status.flapping_until_ms = now_ms, None
            if status.flaps > 1:
                wait = min(FLAP_MOST_SECONDS, self._flap_backoff_seconds * 2.0 ** (status.flaps - 2))
                status.flapping_until_ms = now_ms + round(wait * 1000)
        elif stayed:
            status.flaps, status.returned_ms, status.flapping_until_ms = 0, None, None

    def _set_ready(self, world: World, node: Node, status: NodeStatus, state: str) -> None:
        holds, reason, message = _REASONS[state]
        generation = node.metadata.generation
        status.set_condition(
            "Ready", holds, reason, message, now_ms=self._clock.now_ms(), generation=generation
        )
        status.observed_generation = generation
        self._write(world, node, status)

    def _write(self, world: World, node: Node, status: NodeStatus) -> None:
        """To be written at the end of the pass over the nodes."""
        if status.returned_ms is not None:
            self._open.add(node.name)
        if status != node.status:
            changed = node.model_copy(update={"status": status})
            self._staged[node.name] = node, changed
            world.nodes[node.name] = changed


def _is_aside(node: Node) -> bool:
    known = node.status.condition(HANDLED)
    return known is not None and known.status == "False"


def _set_held(status: NodeStatus, observation: NodeObservation, generation: int, now_ms: int) -> None:
    """Whether the accelerators that Ray has there are ours alone."""
    if not observation.taken:
        if status.condition("AcceleratorsHeld") is not None:
            status.set_condition("AcceleratorsHeld", True, "Held", now_ms=now_ms, generation=generation)
        return
    status.set_condition(
        "AcceleratorsHeld", False, "TakenByOthers", observation.taken, now_ms=now_ms, generation=generation
    )


def _told(device: Device, observation: NodeObservation) -> Device:
    """The device as it is offered: not while another Ray job may have it."""
    if device.id not in observation.withheld:
        return device
    return device.model_copy(update={"healthy": False, "fault": observation.taken})


def _are_the_same(devices: Sequence[Device], others: Sequence[Device]) -> bool:
    """Whether both say the same of all devices but their load."""
    return len(devices) == len(others) and all(
        getattr(one, name) == getattr(other, name)
        for one, other in zip(devices, others, strict=True)
        if one is not other
        for name in _TOLD_OF_DEVICE
    )


def _rounded(device: Device) -> Device:
    """Load in coarse steps: 1/32 of the memory, 10 %, 5 degrees, 25 W."""
    update = {
        "memory_used_bytes": _step(device.memory_used_bytes, max(1, device.memory_bytes // 32)),
        "utilisation_percent": _step(device.utilisation_percent, 10),
        "temperature_celsius": _step(device.temperature_celsius, 5),
        "power_watts": _step(device.power_watts, 25),
    }
    return device.model_copy(update=update)


def _step(value: int | None, step: int) -> int | None:
    return None if value is None else (value + step // 2) // step * step


def _with_load_of(device: Device, old: Device | None) -> Device:
    if old is None:
        return _rounded(device)
    return device.model_copy(update={name: getattr(old, name) for name in LOAD})
