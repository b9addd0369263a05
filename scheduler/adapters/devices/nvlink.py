"""Which NVIDIA GPUs of a node are joined by NVLink, and which share a PCIe tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

from common.resources.pool import DeviceLink
from scheduler.adapters.devices.facts import bus_address

_SWITCH = "switch"


class Gpu(NamedTuple):
    """A GPU that answers: NVML's handle, ``Device.id``, PCI address."""

    handle: Any
    id: str
    bus_id: str


def gpu_links(nvml: Any, gpus: Sequence[Gpu]) -> dict[str, list[DeviceLink]]:
    """For each GPU's id its links to the others.

    NVLinks that end at a GPU count for that pair; those that end elsewhere (an NVSwitch) join all GPUs that
    have such, unless the driver says that the pair has no NVLink path. Pairs without NVLink are linked by
    PCIe where no CPU socket lies between them.
    """
    buses = {gpu.bus_id for gpu in gpus}
    lanes = {gpu.id: _lanes(nvml, gpu.handle, buses) for gpu in gpus}
    speeds = {gpu.id: _lane_mbytes(nvml, gpu.handle) if lanes[gpu.id] else None for gpu in gpus}
    links: dict[str, list[DeviceLink]] = {gpu.id: [] for gpu in gpus}
    for one, two in combinations(gpus, 2):
        count = lanes[one.id][two.bus_id] or _switched(nvml, one, two, lanes)
        for gpu, peer in ((one, two), (two, one)):
            if count:
                links[gpu.id].append(_nvlink(peer.id, count, speeds[gpu.id]))
            elif _share_pcie(nvml, one, two):
                links[gpu.id].append(DeviceLink(peer=peer.id, kind="PCIe"))
    return links


def _nvlink(peer: str, lanes: int, lane_mbytes: int | None) -> DeviceLink:
    both_ways = 2 * lanes * lane_mbytes // 1000 if lane_mbytes else None
    return DeviceLink(peer=peer, kind="NVLink", lanes=lanes, bandwidth_gbytes_per_second=both_ways)


def _lanes(nvml: Any, handle: Any, buses: set[str]) -> Counter[str]:
    """How many active NVLinks end at each other GPU (by PCI address) or elsewhere (``_SWITCH``)."""
    ends: Counter[str] = Counter()
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        try:
            if nvml.nvmlDeviceGetNvLinkState(handle, link) != nvml.NVML_FEATURE_ENABLED:
                continue
        except nvml.NVMLError:
            continue
        ends[_far_end(nvml, handle, link, buses)] += 1
    return ends


def _far_end(nvml: Any, handle: Any, link: int, buses: set[str]) -> str:
    try:
        raw = nvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId
    except nvml.NVMLError:
        return _SWITCH
    bus = bus_address(raw.decode(errors="replace") if isinstance(raw, bytes) else raw)
    return bus if bus in buses else _SWITCH


def _switched(nvml: Any, one: Gpu, two: Gpu, lanes: dict[str, Counter[str]]) -> int:
    count = min(lanes[one.id][_SWITCH], lanes[two.id][_SWITCH])
    if not count:
        return 0
    try:
        status = nvml.nvmlDeviceGetP2PStatus(one.handle, two.handle, nvml.NVML_P2P_CAPS_INDEX_NVLINK)
    except nvml.NVMLError:
        return count
    return count if status == nvml.NVML_P2P_STATUS_OK else 0


def _share_pcie(nvml: Any, one: Gpu, two: Gpu) -> bool:
    try:
        level: int = nvml.nvmlDeviceGetTopologyCommonAncestor(one.handle, two.handle)
    except nvml.NVMLError:
        return False
    return level <= int(nvml.NVML_TOPOLOGY_HOSTBRIDGE)


def _lane_mbytes(nvml: Any, handle: Any) -> int | None:
    """What one NVLink carries in one direction."""
    try:
        (field,) = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON])
    except nvml.NVMLError:
        return None
    return int(field.value.uiVal) or None if field.nvmlReturn == nvml.NVML_SUCCESS else None
