"""What a Queue may say of the pool that there is."""

from __future__ import annotations

from collections.abc import Iterable

from common.errors import InvalidInput, Problem
from common.resources import Node, Queue
from common.resources.pool import DeviceBudget, DeviceQuota

_CPU = "cpu"


def check_classes(queue: Queue, old: Queue | None, nodes: Iterable[Node]) -> None:
    """Raise for a quota or budget that leaves its class out where all devices are CPUs: it would count none
    of them. What was said before may be said again; who writes ``*`` means accelerators that are to come."""
    vendors = {device.vendor for node in nodes for device in node.status.devices}
    if vendors != {_CPU}:
        return
    known: list[DeviceQuota | DeviceBudget] = [*old.spec.quotas, *old.spec.budgets] if old is not None else []
    for field, entries in (("quotas", queue.spec.quotas), ("budgets", queue.spec.budgets)):
        for place, entry in enumerate(entries):
            if "device_class" not in entry.model_fields_set and entry not in known:
                path = f"spec.{field}[{place}].deviceClass"
                message = (
                    "unset means *, all accelerators, and the pool has only CPUs, which are not among them: "
                    "write cpu, or * for accelerators that are to come"
                )
                raise InvalidInput(f"{path}: {message}", param=path, problems=(Problem(path, message),))
