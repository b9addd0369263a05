"""Which engines of an Endpoint of mode ``auto`` read prompts for the others: no engine is started for it."""

from __future__ import annotations

from collections.abc import Sequence

from common.resources import Endpoint
from common.resources.serving import Replica


def assign_duties(endpoint: Endpoint, replicas: Sequence[Replica]) -> None:
    """Set the duty of each replica. There are readers only while at least one other engine answers; those
    that come first by name read, so that a look at the same replicas always says the same."""
    auto = endpoint.status.auto
    if endpoint.spec.mode != "auto" or auto is None or not auto.readers or not auto.connector:
        return
    serving = [one for one in replicas if one.ready and not one.draining and not one.role]
    left = len(serving) - 1
    readers: list[str] = []
    for device_class in dict.fromkeys(one.device_class for one in serving):
        mine = sorted(one.workload for one in serving if one.device_class == device_class)
        some = mine[: min(auto.readers_of(device_class), left)]
        readers += some
        left -= len(some)
    if readers:
        for one in serving:
            one.duty = "prefill" if one.workload in readers else "decode"
