"""Small readings that several probes share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil

from common.resources.pool import Device
from common.vendors import Vendor

PCI_DEVICES = Path("/sys/bus/pci/devices")

UNREADABLE = (ValueError, TypeError, LookupError, AttributeError)
"""What a vendor's bindings raise for a reading of another form than they know; it costs that reading only."""

_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,9})?")
_BUS_ID = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-9a-f])", re.IGNORECASE)


def whole(text: object) -> int | None:
    """A number as vendor tools print it, rounded; None for ``-``, ``NA``, ``N/A`` and anything else."""
    match = _NUMBER.fullmatch(str(text).strip())
    return round(float(match[0])) if match else None


def bus_address(text: str) -> str:
    """A PCI address in the kernel's form: ``00000000:0E:00.0`` → ``0000:0e:00.0``; "" where it is none."""
    match = _BUS_ID.fullmatch(text.strip())
    if match is None:
        return ""
    domain = int(match[1] or "0", 16)
    return f"{domain:04x}:{match[2]}:{match[3]}.{match[4]}".lower()


def numa_node(bus_id: str, pci_devices: Path = PCI_DEVICES) -> int | None:
    """The NUMA node of a PCI device as the kernel says; None where it does not (one node, or a VM)."""
    try:
        node = whole((pci_devices / bus_id / "numa_node").read_text()) if bus_id else None
    except (OSError, UnicodeDecodeError):
        return None
    return node if node is not None and node >= 0 else None


def host_memory_bytes() -> int:
    """All memory of this machine."""
    return int(psutil.virtual_memory().total)


def shared_indexes(devices: Iterable[Device]) -> list[int]:
    """Indexes that stand for several devices: none of these can be used, as another would be used instead."""
    count = Counter(device.index for device in devices)
    return [index for index, times in count.items() if times > 1]


def silent_device(vendor: Vendor, node: str, index: int, fault: str) -> Device:
    """A device that is there but says nothing of itself."""
    return Device(
        id=f"{vendor}-{node}-{index}",
        index=index,
        vendor=vendor,
        model="unknown",
        memory_bytes=0,
        healthy=False,
        fault=fault,
    )
