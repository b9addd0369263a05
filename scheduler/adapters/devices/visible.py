"""How each vendor's runtime is told which devices a process may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.resources.workload import Grant

VISIBLE_DEVICES: Mapping[str, str | None] = {
    "nvidia": "CUDA_VISIBLE_DEVICES",
    "ascend": "ASCEND_RT_VISIBLE_DEVICES",
    "amd": "HIP_VISIBLE_DEVICES",
    "cpu": None,
}
"""Vendor -> variable; None = nothing to set."""


def visible_environment(grants: Sequence[Grant]) -> dict[str, str | None]:
    """Variables for a process with these grants; None = must not be set.

    A process without an accelerator is shown none. With one, the other vendors' variables are removed,
    because some runtimes (ROCm) also obey that of another vendor.
    """
    held = {grant.vendor for grant in grants if VISIBLE_DEVICES.get(grant.vendor)}
    changes: dict[str, str | None] = {}
    for vendor, variable in VISIBLE_DEVICES.items():
        if variable and vendor in held:
            indexes = sorted({grant.index for grant in grants if grant.vendor == vendor})
            changes[variable] = ",".join(str(index) for index in indexes)
        elif variable:
            changes[variable] = None if held else ""
    if "nvidia" in held:
        changes["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    return changes
