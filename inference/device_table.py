"""The models of devices that the pool has: few lines, however many nodes there are."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from common.clock import Clock
from common.errors import ComputilityError
from common.loop import in_turns
from common.resources import Node
from common.resources.pool import DeviceRequest
from common.store.port import Store
from common.telemetry import get_logger

FRESH_SECONDS = 60.0
"""So long it is taken that the pool has the models that it had."""
WAIT_SECONDS = 1.0
"""Whoever asks waits no longer for a look at all nodes; the next one has what it found."""

_log = get_logger(__name__)


@dataclass(frozen=True)
class DeviceRow:
    """One model of devices: the memory of the largest, and the most that one node has of them."""

    vendor: str
    model: str
    memory_bytes: int
    most_on_node: int

    @property
    def device_class(self) -> str:
        return f"{self.vendor}/{self.model}"

    def suits(self, request: DeviceRequest) -> bool:
        """Whether the request takes devices of this vendor and model, with as much memory."""
        name = self.model.casefold()
        wanted = {model.casefold() for model in request.models}
        refused = {model.casefold() for model in request.not_models}
        return (
            self.vendor not in request.not_vendors
            and (not request.vendors or self.vendor in request.vendors)
            and (not wanted or name in wanted)
            and name not in refused
            and self.memory_bytes >= request.memory_bytes
        )


class DeviceTable:
    """Looks at all Nodes at most once a minute, beside everything else, and only while somebody asks.

    Devices count whatever state they and their nodes are in: what cannot be on any of them never will. The
    CPU of a node that has accelerators does not: the engines of such a node are built for these.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._rows: Sequence[DeviceRow] = ()
        self._since_seconds = -math.inf
        self._look: asyncio.Task[None] | None = None

    async def rows(self, wait_seconds: float = WAIT_SECONDS) -> Sequence[DeviceRow]:
        """What is known, by device class; nothing before the first look has ended."""
        is_old = self._clock.monotonic_seconds() - self._since_seconds >= FRESH_SECONDS
        if self._look is None and is_old:
            self._look = asyncio.create_task(self._look_at_all())
        if self._look is not None:
            await asyncio.wait({self._look}, timeout=wait_seconds)
        return self._rows

    async def _look_at_all(self) -> None:
        try:
            self._rows = await _rows_of(await self._store.list(Node))
        except ComputilityError as error:
            _log.warning("devices of the pool cannot be listed", error=error.message)
        finally:
            self._since_seconds, self._look = self._clock.monotonic_seconds(), None


async def _rows_of(nodes: Sequence[Node]) -> Sequence[DeviceRow]:
    found: dict[tuple[str, str], DeviceRow] = {}
    async for node in in_turns(nodes):
        here: dict[tuple[str, str], list[int]] = {}
        accelerators = [device for device in node.status.devices if device.vendor != "cpu"]
        for device in accelerators or node.status.devices:
            here.setdefault((str(device.vendor), device.model), []).append(device.memory_bytes)
        for key, sizes in here.items():
            known = found.get(key, DeviceRow(*key, 0, 0))
            largest, most = max(known.memory_bytes, *sizes), max(known.most_on_node, len(sizes))
            found[key] = DeviceRow(*key, largest, most)
    return [found[key] for key in sorted(found)]
