"""The last look before a placement is written: no device is promised twice, whoever decided so."""

from __future__ import annotations

from collections.abc import Iterable

from common.resources import Node
from scheduler.core.model.types import WHOLE_MILLIS, Assignment, Placement
from scheduler.translate.placements import beyond
from scheduler.translate.views import answers


class Room:
    """What is left of each device, in millis. Only of nodes that may be used now."""

    def __init__(self, nodes: Iterable[Node], held: Iterable[Placement]) -> None:
        self._free = {
            (node.name, device.id): device.slots * WHOLE_MILLIS
            for node in nodes
            if answers(node) and not node.spec.cordoned and not node.spec.drain
            for device in node.status.devices
            if device.healthy
        }
        for placement in held:
            self._book(placement)

    def _book(self, placement: Iterable[Assignment]) -> None:
        for assignment in placement:
            for share in assignment.shares:
                key = (assignment.node, share.device)
                if key in self._free:
                    self._free[key] -= share.millis

    def take(self, placement: Placement, instead_of: Placement = ()) -> bool:
        """Book it if every device has room for it, besides what ``instead_of`` will give back."""
        more = beyond(placement, instead_of)
        wanted: dict[tuple[str, str], int] = {}
        for assignment in more:
            for share in assignment.shares:
                key = (assignment.node, share.device)
                wanted[key] = wanted.get(key, 0) + share.millis
        if any(self._free.get(key, 0) < millis for key, millis in wanted.items()):
            return False
        self._book(more)
        return True
