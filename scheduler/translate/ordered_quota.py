"""Quotas of a queue with what is ordered for it."""

from __future__ import annotations

from collections.abc import Sequence

from common.resources import Queue
from common.resources.pool import WHOLE_MILLIS, DeviceQuota
from scheduler.core.model.device_classes import classes_of


def quotas_in_force(queue: Queue) -> Sequence[DeviceQuota]:
    """Its own quotas, each raised by what is ordered of devices that count in it. Where none counts, what is
    ordered is a quota of its own."""
    quotas = list(queue.spec.quotas)
    for ordered in queue.status.ordered:
        vendor, _, model = ordered.device_class.partition("/")
        classes = classes_of((vendor, model))
        more = ordered.devices_millis / WHOLE_MILLIS
        counting = [place for place, quota in enumerate(quotas) if quota.device_class.lower() in classes]
        for place in counting:
            nominal = quotas[place].nominal_devices + more
            quotas[place] = quotas[place].model_copy(update={"nominal_devices": nominal})
        if not counting:
            name = ordered.device_class
            quotas.append(DeviceQuota.model_construct(device_class=name, nominal_devices=more))
    return quotas
