"""AMD GPUs through the amdsmi library; ``amd`` imports it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import Any

from common.errors import SetupError
from common.resources.pool import Device, DeviceLink
from common.units import MIB
from scheduler.adapters.devices.facts import (
    UNREADABLE,
    bus_address,
    numa_node,
    shared_indexes,
    silent_device,
    whole,
)

_NOT_SUPPORTED = "AMDSMI_STATUS_NOT_SUPPORTED"


def read_processors(smi: Any, node: str) -> list[Device]:
    """The GPUs that ``smi`` (the module amdsmi, or one with its names) shows. Raises ``SetupError`` where the
    library does not start or shows none."""
    try:
        smi.amdsmi_init()
    except smi.AmdSmiException as error:
        raise SetupError(f"amdsmi does not start: {_said(error)}") from error
    try:
        handles = smi.amdsmi_get_processor_handles()
        if not handles:
            raise SetupError("the AMD driver shows no GPU")
        gpus = [(handle, _describe(smi, handle, order, node)) for order, handle in enumerate(handles)]
        for index in shared_indexes(device for _, device in gpus):
            gpus = [(handle, device) for handle, device in gpus if device.index != index]
            if not gpus:
                raise SetupError(f"amdsmi: the HIP id {index} stands for several GPUs")
        devices = [device for _, device in gpus]
        _make_unique(devices, node)
        _link(smi, gpus)
    except smi.AmdSmiException as error:
        raise SetupError(f"amdsmi failed: {_said(error)}") from error
    finally:
        smi.amdsmi_shut_down()
    return devices


def _describe(smi: Any, handle: Any, order: int, node: str) -> Device:
    """One GPU. A GPU that is there but does not answer is unhealthy, not absent."""
    hip = _optional(smi, lambda: smi.amdsmi_get_gpu_enumeration_info(handle)["hip_id"])
    index = whole(hip)
    device = silent_device("amd", node, order if index is None else index, "")
    try:
        device.id = _told(smi, lambda: smi.amdsmi_get_gpu_device_uuid(handle)) or ""
        device.bus_id = bus_address(_told(smi, lambda: smi.amdsmi_get_gpu_device_bdf(handle)) or "")
        device.model = _model(smi, handle)
        usage = _told(smi, lambda: smi.amdsmi_get_gpu_vram_usage(handle)) or {}
        device.memory_bytes = (whole(usage.get("vram_total")) or 0) * MIB
        device.memory_used_bytes = (whole(usage.get("vram_used")) or 0) * MIB
    except (smi.AmdSmiException, *UNREADABLE) as error:
        device.fault = _said(error)
        return device
    device.fault = _fault(smi, handle)
    device.healthy = not device.fault
    if device.healthy and not device.memory_bytes:
        device.fault = "amdsmi does not tell its memory"
    numa = whole(_optional(smi, lambda: smi.amdsmi_get_gpu_topo_numa_affinity(handle)))
    device.numa = numa if numa is not None and numa >= 0 else numa_node(device.bus_id)
    busy = _optional(smi, lambda: smi.amdsmi_get_gpu_activity(handle)["gfx_activity"])
    device.utilisation_percent = whole(busy)
    device.temperature_celsius = _temperature(smi, handle)
    device.power_watts = _power(smi, handle)
    return device


def _make_unique(devices: list[Device], node: str) -> None:
    """Partitions of one GPU may share its UUID; then their indexes tell them apart."""
    ids = [device.id for device in devices]
    for device in devices:
        if not device.id or ids.count(device.id) > 1:
            device.id = f"amd-{node}-{device.index}"


def _model(smi: Any, handle: Any) -> str:
    """The market name, with the compute partition where the GPU is cut."""
    name = str(smi.amdsmi_get_gpu_asic_info(handle)["market_name"])
    mode = str(_optional(smi, lambda: smi.amdsmi_get_gpu_compute_partition(handle)) or "")
    return partition_name(name, mode)


def partition_name(model: str, mode: str) -> str:
    """The model's name with how it is cut (``MI300X CPX``), unless it is whole (``SPX``)."""
    return f"{model} {mode}" if mode.isalpha() and mode.upper() != "SPX" else model


def _fault(smi: Any, handle: Any) -> str:
    errors = whole(_optional(smi, lambda: smi.amdsmi_get_gpu_total_ecc_count(handle)["uncorrectable_count"]))
    return f"{errors} uncorrected memory errors since the driver started" if errors else ""


def _temperature(smi: Any, handle: Any) -> int | None:
    """The hottest spot's; not every GPU tells the edge's."""
    now = smi.AmdSmiTemperatureMetric.CURRENT
    for sensor in (smi.AmdSmiTemperatureType.HOTSPOT, smi.AmdSmiTemperatureType.EDGE):
        value = whole(_optional(smi, partial(smi.amdsmi_get_temp_metric, handle, sensor, now)))
        if value is not None:
            return value
    return None


def _power(smi: Any, handle: Any) -> int | None:
    told = _optional(smi, lambda: smi.amdsmi_get_power_info(handle)) or {}
    readings = (whole(told.get(k)) for k in ("current_socket_power", "average_socket_power", "socket_power"))
    return next((watts for watts in readings if watts), None)


def _link(smi: Any, gpus: list[tuple[Any, Device]]) -> None:
    """Set the devices' links: XGMI of one hop, and PCIe."""
    kinds = smi.AmdSmiLinkType
    for (handle, device), (other, peer) in permutations(gpus, 2):
        told = _optional(smi, partial(smi.amdsmi_topo_get_link_type, handle, other))
        if told is None:
            continue
        if told["type"] == kinds.AMDSMI_LINK_TYPE_XGMI and told["hops"] <= 1:
            device.links.append(_xgmi(smi, handle, other, peer.id))
        elif told["type"] == kinds.AMDSMI_LINK_TYPE_PCIE:
            device.links.append(DeviceLink(peer=peer.id, kind="PCIe"))


def _xgmi(smi: Any, handle: Any, other: Any, peer: str) -> DeviceLink:
    told = _optional(smi, lambda: smi.amdsmi_get_minmax_bandwidth_between_processors(handle, other))
    mbytes = whole(told["max_bandwidth"]) if told else None
    return DeviceLink(peer=peer, kind="XGMI", bandwidth_gbytes_per_second=mbytes // 1000 if mbytes else None)


def _optional(smi: Any, read: Callable[[], Any]) -> Any:
    """A value that not every GPU and version tells; None where it is not told."""
    try:
        return read()
    except (smi.AmdSmiException, *UNREADABLE):
        return None


def _told(smi: Any, read: Callable[[], Any]) -> Any:
    """A value; None where this GPU does not tell it, which is no failure."""
    try:
        return read()
    except smi.AmdSmiException as error:
        if _NOT_SUPPORTED not in str(error):
            raise
        return None


def _said(error: Exception) -> str:
    return " ".join(str(error).split())
