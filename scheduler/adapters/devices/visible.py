"""What a process is told of the node's devices."""

from __future__ import annotations

from collections.abc import Sequence

from common.resources.workload import Grant
from common.vendors import VENDORS

_MIG = "MIG-"


def visible_environment(grants: Sequence[Grant]) -> dict[str, str | None]:
    """Variables for a process with these grants; None = must not be set.

    A process without an accelerator is shown none. With one, the variables of other vendors are removed,
    because some runtimes (ROCm) also obey that of another vendor. Vendors that obey the same variable
    (NVIDIA and MetaX, AMD and Hygon) are taken not to be in one node.
    """
    variables: dict[str, str | None] = {vendor: row.visible_devices for vendor, row in VENDORS.items()}
    shown: dict[str, list[Grant]] = {}
    for grant in grants:
        variable = variables.get(grant.vendor)
        if variable:
            shown.setdefault(variable, []).append(grant)
    changes: dict[str, str | None] = {name: None if shown else "" for name in variables.values() if name}
    changes |= {variable: _names(held) for variable, held in shown.items()}
    if any(grant.vendor == "nvidia" for grant in grants):
        changes["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    return changes


def _names(grants: Sequence[Grant]) -> str:
    """Indexes in their order; MIG instances are named by their ids, since CUDA has no indexes for them."""
    devices = {grant.device: grant.index for grant in grants}
    if any(device.startswith(_MIG) for device in devices):
        return ",".join(sorted(devices))
    return ",".join(str(index) for index in sorted(set(devices.values())))
