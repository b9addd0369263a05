"""Nodes that are drained: what is left on each, why it does not go, and when it is empty."""

from __future__ import annotations

from common.clock import Clock, rfc3339
from common.resources import Node, Workload
from common.resources.pool import NodeStatus
from common.store.port import Event, StatusWrite, Store
from common.store.transitions import event_of
from scheduler.core.lifecycle.lifecycle import HOLDING
from scheduler.journal import write_all
from scheduler.translate.kept_world import KeptWorld
from scheduler.translate.observed import is_probed
from scheduler.translate.views import is_group

DRAINED = "Drained"
"""The condition of a node that is to be drained; others have none."""
LOOK_MS = 5000
_MOST_NAMED = 5
_MOST_TOLD = 20
"""Of so many workloads of a node it is told that they wait."""


class DrainWatch:
    """Writes the condition ``Drained`` of nodes, with the events ``Draining``, ``DrainWaits`` and
    ``Drained``. Looks every few seconds, and only while a node is to be drained."""

    def __init__(self, store: Store, clock: Clock, world: KeptWorld) -> None:
        self._store = store
        self._clock = clock
        self._changed = world.reader()
        self._draining: set[str] = set()
        self._due_ms = 0

    async def look(self, world: KeptWorld) -> None:
        """Bring the condition of each such node up to date, and take it from those that are drained no
        more."""
        fresh = self._changed.take_nodes()
        for name in fresh:
            node = world.nodes.get(name)
            wanted = node is not None and (node.spec.drain or node.status.condition(DRAINED) is not None)
            (self._draining.add if wanted else self._draining.discard)(name)
        now_ms = self._clock.now_ms()
        if not self._draining or (now_ms < self._due_ms and not fresh & self._draining):
            return
        self._due_ms = now_ms + LOOK_MS
        left = _left_on(self._draining, world)
        writes = [
            write
            for name in sorted(self._draining & world.nodes.keys())
            if (write := _write_of(world.nodes[name], left.get(name, []), now_ms)) is not None
        ]
        for result in await write_all(self._store, writes) if writes else ():
            if isinstance(result, Node):
                world.nodes[result.name] = result


def _left_on(names: set[str], world: KeptWorld) -> dict[str, list[Workload]]:
    """The workloads that hold places on each of these nodes."""
    left: dict[str, list[Workload]] = {}
    for workload in world.workloads.values():
        if workload.status.phase in HOLDING and not is_group(workload):
            for name in names & {rank.node for rank in workload.status.ranks}:
                left.setdefault(name, []).append(workload)
    return left


def _write_of(node: Node, left: list[Workload], now_ms: int) -> StatusWrite | None:
    """The status that tells it, with its events; None where nothing is new."""
    status: NodeStatus = node.status.model_copy(deep=True)
    known = status.condition(DRAINED)
    if not node.spec.drain:
        status.conditions = [one for one in status.conditions if one.type != DRAINED]
        return StatusWrite(node.model_copy(update={"status": status})) if known is not None else None
    reason, message = ("Left", _text(left)) if left else ("Empty", "nothing runs there any more")
    generation = node.metadata.generation
    if not status.set_condition(DRAINED, not left, reason, message, now_ms=now_ms, generation=generation):
        return None
    return StatusWrite(
        node.model_copy(update={"status": status}), tuple(_events(node, left, message, now_ms))
    )


def _events(node: Node, left: list[Workload], message: str, now_ms: int) -> list[Event]:
    """Each of them is recorded once for a drain, however often it is made."""
    generation = node.metadata.generation
    if not left:
        return [event_of(node, "info", DRAINED, message, now_ms, generation)]
    told = [event_of(node, "info", "Draining", message, now_ms, generation)]
    waiting = [(one, why) for one in left[:_MOST_TOLD] if (why := _why_it_waits(one))]
    for one, why in waiting:
        text = f"{one.project}/{one.name} does not go: {why}"
        told.append(event_of(node, "warning", "DrainWaits", text, now_ms, generation, one.metadata.uid))
    return told


def _text(left: list[Workload]) -> str:
    """``2 left: acme/a (has until …), acme/b (waits for …)``."""
    named = [f"{one.project}/{one.name} ({_how(one)})" for one in left[:_MOST_NAMED]]
    more = f" and {len(left) - len(named)} more" if len(left) > len(named) else ""
    return f"{len(left)} left: {', '.join(named)}{more}"


def _how(workload: Workload) -> str:
    status = workload.status
    if status.leaves_by_ms:
        return f"has until {rfc3339(status.leaves_by_ms)} to end"
    if status.next is not None:
        return "goes when the next one elsewhere is ready"
    return _why_it_waits(workload) or "is to go"


def _why_it_waits(workload: Workload) -> str:
    """Why it cannot go on elsewhere; empty where it is on its way."""
    status = workload.status
    if status.leaves_by_ms or status.next is not None:
        return ""
    if is_probed(workload) and workload.spec.restart.policy == "Never":
        return "it runs to its end, as restart.policy is Never"
    return status.pending[0].message if status.pending else ""
