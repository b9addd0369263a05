"""The accelerators of Ray nodes are held in Ray itself, so that no other Ray job is given them.

Per node one detached actor (a second one where more came free later) reserves what Ray still has. What
another job has already is left to it, and those devices are not offered.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from common.clock import Clock
from common.resources.pool import Device
from common.telemetry import get_logger
from common.vendors import VENDORS
from scheduler.adapters.ray.holder import Holder
from scheduler.adapters.ray.threads import in_ray_thread

PREFIX = "computility-holder-"
RETRY_SECONDS = 10.0
"""How often it is tried to get what others have given back."""
ANSWER_SECONDS = 15.0
_log = get_logger(__name__)


@dataclass
class Held:
    """What is held on one node. ``totals``: accelerators that Ray has there; ``amounts``: of them held by us;
    ``ids``: which, as far as Ray says."""

    totals: Mapping[str, float]
    amounts: dict[str, float] = field(default_factory=dict)
    ids: dict[str, set[str]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    tried_seconds: float | None = None

    @property
    def missing(self) -> dict[str, float]:
        """Resource -> how much of it somebody else has."""
        left = {name: total - self.amounts.get(name, 0.0) for name, total in self.totals.items()}
        return {name: amount for name, amount in left.items() if amount > 0}

    @property
    def message(self) -> str:
        """What somebody else has, in words; empty where all is held."""
        parts = [f"{left:g} of {self.totals[name]:g} {name}" for name, left in sorted(self.missing.items())]
        return f"held in Ray by another job: {', '.join(parts)}" if parts else ""


def withheld(devices: Iterable[Device], held: Held | None) -> frozenset[str]:
    """Ids of the devices that another Ray job may be using."""
    missing = held.missing if held else {}
    if held is None or not missing:
        return frozenset()
    return frozenset(device.id for device in devices if _may_be_used(device, held, missing))


def _may_be_used(device: Device, held: Held, missing: Mapping[str, float]) -> bool:
    ours, counted_as = {str(device.index), device.id}, VENDORS[device.vendor].ray_resource
    return any(name == counted_as and not ours & held.ids.get(name, set()) for name in missing)


class Holdings:
    """Holds the accelerators of all nodes of one Ray cluster. ``root``: where the product's packages are."""

    def __init__(self, resources: Sequence[str], namespace: str, root: str, clock: Clock) -> None:
        self._resources = frozenset(resources)
        self._namespace = namespace
        self._root = root
        self._clock = clock
        self._nodes: dict[str, Held] = {}
        self._task: asyncio.Task[None] | None = None

    def of(self, ray_id: str) -> Held | None:
        """What is held on a node; None where Ray has no accelerators."""
        return self._nodes.get(ray_id)

    def follow(self, listing: Sequence[Mapping[str, Any]]) -> None:
        """Take what can be had on these nodes, in the background: nobody waits for it."""
        rows = {row["NodeID"]: self._totals(row) for row in listing}
        self._nodes = {
            ray_id: self._nodes.get(ray_id) or Held(totals) for ray_id, totals in rows.items() if totals
        }
        now = self._clock.monotonic_seconds()
        due = [key for key, held in self._nodes.items() if held.missing and _is_due(held, now)]
        if due and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._take(due))

    def _totals(self, row: Mapping[str, Any]) -> dict[str, float]:
        resources = row.get("Resources") or {}
        return {name: amount for name, amount in resources.items() if name in self._resources and amount > 0}

    async def _take(self, ray_ids: Sequence[str]) -> None:
        try:
            names = await in_ray_thread(_holder_names, self._namespace)
            free = await in_ray_thread(available_resources_per_node)
            await asyncio.gather(*(self._take_on(ray_id, names, free) for ray_id in ray_ids))
        except (RayError, RuntimeError, TimeoutError, ValueError) as error:
            _log.warning("accelerators not held in Ray", error=str(error))

    async def _take_on(self, ray_id: str, names: Sequence[str], free: Mapping[str, Any]) -> None:
        held = self._nodes.get(ray_id)
        if held is None:
            return
        held.tried_seconds = self._clock.monotonic_seconds()
        mine = sorted(name for name in names if name.startswith(f"{PREFIX}{ray_id}/"))
        for name in mine:
            if name not in held.names:
                await self._adopt(name, held)
        wanted = {
            name: float(math.floor(min(left, free.get(ray_id, {}).get(name, 0.0))))
            for name, left in held.missing.items()
        }
        wanted = {name: amount for name, amount in wanted.items() if amount > 0}
        if wanted:
            await self._hold(f"{PREFIX}{ray_id}/{len(mine)}/{_spell(wanted)}", ray_id, wanted, held)

    async def _adopt(self, name: str, held: Held) -> None:
        """Count a holder that is there already: of an earlier control process."""
        actor = await in_ray_thread(ray.get_actor, name, self._namespace)
        await self._count(name, actor, _read(name), held)

    async def _hold(self, name: str, ray_id: str, wanted: Mapping[str, float], held: Held) -> None:
        others = {key: amount for key, amount in wanted.items() if key != "GPU"}
        actor = (
            ray.remote(Holder)
            .options(
                name=name,
                namespace=self._namespace,
                lifetime="detached",
                get_if_exists=True,
                num_cpus=0,
                num_gpus=wanted.get("GPU", 0),
                resources=others or None,
                max_restarts=-1,
                scheduling_strategy=NodeAffinitySchedulingStrategy(ray_id, soft=False),
                runtime_env={"env_vars": {"PYTHONPATH": self._root}},
            )
            .remote()
        )
        await self._count(name, actor, wanted, held)

    async def _count(self, name: str, actor: Any, amounts: Mapping[str, float], held: Held) -> None:
        try:
            ids = await asyncio.wait_for(actor.held.remote(), ANSWER_SECONDS)
        except TimeoutError:
            # Somebody was faster: give up the place in Ray's line, and ask for what is left next time.
            await in_ray_thread(ray.kill, actor, no_restart=True)
            _log.warning("accelerators not held in Ray: another job was faster", holder=name)
            return
        held.names.add(name)
        for key, amount in amounts.items():
            held.amounts[key] = held.amounts.get(key, 0.0) + amount
            held.ids.setdefault(key, set()).update(ids.get(key, ()))
        _log.info("accelerators held in Ray", holder=name)

    async def dismiss(self) -> None:
        """Give all back."""
        await self.pause()
        for name in await in_ray_thread(_holder_names, self._namespace):
            try:
                actor = await in_ray_thread(ray.get_actor, name, self._namespace)
                await in_ray_thread(ray.kill, actor, no_restart=True)
            except (RayError, ValueError) as error:
                _log.warning("accelerators not given back", holder=name, error=str(error))
        self._nodes.clear()

    async def pause(self) -> None:
        """Stop taking; what is held stays held."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None


def _is_due(held: Held, now_seconds: float) -> bool:
    return held.tried_seconds is None or now_seconds - held.tried_seconds >= RETRY_SECONDS


def _holder_names(namespace: str) -> list[str]:
    actors = ray.util.list_named_actors(all_namespaces=True)
    return [
        actor["name"]
        for actor in actors
        if actor["namespace"] == namespace and actor["name"].startswith(PREFIX)
    ]


def _spell(amounts: Mapping[str, float]) -> str:
    """The amounts as part of an actor's name, which is how a later control process learns them."""
    return ",".join(f"{name}={amount:g}" for name, amount in sorted(amounts.items()))


def _read(name: str) -> dict[str, float]:
    parts = name.rpartition("/")[2].split(",")
    return {key: float(amount) for key, _, amount in (part.partition("=") for part in parts)}
