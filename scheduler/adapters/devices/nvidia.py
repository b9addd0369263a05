"""NVIDIA GPUs through NVML: whole ones, or their MIG instances where MIG is on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from common.errors import SetupError
from common.resources.pool import Device
from scheduler.adapters.devices.facts import (
    UNREADABLE,
    bus_address,
    host_memory_bytes,
    numa_node,
    silent_device,
)
from scheduler.adapters.devices.nvlink import Gpu, gpu_links

NOTHING_CUT = (
    "MIG is on and no instance is cut from it; cut some with `nvidia-smi mig -cgi … -C`, or turn MIG off"
)


def probe_nvidia(node: str) -> list[Device]:
    """All GPUs of the node. Raises ``SetupError`` where NVML or its driver is missing, or shows no GPU."""
    try:
        import pynvml
    except ImportError as error:
        raise SetupError("the NVML library (nvidia-ml-py) is not installed") from error
    return read_gpus(pynvml, node)


def read_gpus(nvml: Any, node: str) -> list[Device]:
    """The devices that ``nvml`` (the module pynvml, or one with its names) shows; errors as above."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise SetupError(f"NVML does not start: {error}") from error
    try:
        return _read_all(nvml, node)
    except nvml.NVMLError as error:
        raise SetupError(f"NVML failed: {error}") from error
    finally:
        nvml.nvmlShutdown()


def _read_all(nvml: Any, node: str) -> list[Device]:
    count = nvml.nvmlDeviceGetCount()
    if not count:
        raise SetupError("the NVIDIA driver shows no GPU")
    handles = [_handle(nvml, index) for index in range(count)]
    devices = [_describe(nvml, handle, node, i) for i, handle in enumerate(handles)]
    answering = [
        Gpu(handle.value, device.id, device.bus_id)
        for handle, device in zip(handles, devices, strict=True)
        if handle.value is not None and device.bus_id
    ]
    links = gpu_links(nvml, answering)
    found: list[Device] = []
    for handle, device in zip(handles, devices, strict=True):
        device.links = links.get(device.id, [])
        found += _as_cut(nvml, handle.value, device, count)
    return found


@dataclass(frozen=True)
class _Handle:
    """NVML's handle of a GPU, or why it gives none."""

    value: Any
    fault: str = ""


def _handle(nvml: Any, index: int) -> _Handle:
    try:
        return _Handle(nvml.nvmlDeviceGetHandleByIndex(index))
    except nvml.NVMLError as error:
        return _Handle(None, str(error))


def _describe(nvml: Any, handle: _Handle, node: str, index: int) -> Device:
    """One GPU. A GPU that is there but does not answer is unhealthy, not absent."""
    device = silent_device("nvidia", node, index, handle.fault)
    gpu = handle.value
    if gpu is None:
        return device
    bus_id = _optional(nvml, lambda: bus_address(_text(nvml.nvmlDeviceGetPciInfo(gpu).busId))) or ""
    device.bus_id, device.numa = bus_id, numa_node(bus_id)
    try:
        device.id = _text(nvml.nvmlDeviceGetUUID(gpu))
        device.model = _text(nvml.nvmlDeviceGetName(gpu)).removeprefix("NVIDIA ")
        device.memory_bytes, device.memory_used_bytes = _memory(nvml, gpu)
    except (nvml.NVMLError, *UNREADABLE) as error:
        device.fault = str(error)
        return device
    device.fault = _fault(nvml, gpu)
    device.healthy = not device.fault
    device.utilisation_percent = _number(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu)
    device.temperature_celsius = _temperature(nvml, gpu)
    device.power_watts = _number(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(gpu) // 1000)
    return device


def _memory(nvml: Any, gpu: Any) -> tuple[int, int | None]:
    """Total and used. A GPU that shares the host's memory (GB10) tells none of its own: it has the host's."""
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(gpu)
    except nvml.NVMLError as error:
        if getattr(error, "value", None) != nvml.NVML_ERROR_NOT_SUPPORTED:
            raise
        return host_memory_bytes(), None
    total = int(memory.total)
    return (total, int(memory.used)) if total > 0 else (host_memory_bytes(), None)


def _as_cut(nvml: Any, gpu: Any, device: Device, gpus: int) -> list[Device]:
    """The GPU itself or, where MIG is on, its instances: as a whole it runs nothing then."""
    mode = _optional(nvml, lambda: nvml.nvmlDeviceGetMigMode(gpu)[0]) if gpu is not None else None
    if mode != nvml.NVML_DEVICE_MIG_ENABLE:
        return [device]
    instances = _instances(nvml, gpu, device, gpus)
    if not instances:
        device.healthy, device.fault = False, device.fault or NOTHING_CUT
    return instances or [device]


def _instances(nvml: Any, gpu: Any, parent: Device, gpus: int) -> list[Device]:
    """The MIG instances of a GPU; empty where nothing has been cut from it yet.

    Their indexes follow those of all GPUs, a block for each, so that none moves when a neighbour is cut anew.
    """
    most = _number(nvml, lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)) or 0
    found = []
    for place in range(most):
        instance = _optional(nvml, partial(nvml.nvmlDeviceGetMigDeviceHandleByIndex, gpu, place))
        if instance is not None:
            found.append(_instance(nvml, instance, parent, gpus + parent.index * most + place))
    return found


def _instance(nvml: Any, handle: Any, parent: Device, index: int) -> Device:
    """One MIG instance: its own identity and memory, its GPU's place and health."""
    device = parent.model_copy(
        update={
            "id": f"{parent.id}-mig-{index}",
            "index": index,
            "links": [],
            "memory_bytes": 0,
            "memory_used_bytes": None,
            "utilisation_percent": None,
            "power_watts": None,
        }
    )
    try:
        device.id = _text(nvml.nvmlDeviceGetUUID(handle))
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        device.memory_bytes, device.memory_used_bytes = int(memory.total), int(memory.used)
        device.model = _instance_model(nvml, handle, parent)
    except (nvml.NVMLError, *UNREADABLE) as error:
        device.healthy, device.fault = False, parent.fault or str(error)
    return device


def _instance_model(nvml: Any, handle: Any, parent: Device) -> str:
    """``H100 80GB HBM3 MIG 1g.10gb``; older drivers leave the profile out of the name."""
    name = _text(nvml.nvmlDeviceGetName(handle)).removeprefix("NVIDIA ")
    if re.search(r"\bMIG\b", name):
        return name
    cut = nvml.nvmlDeviceGetAttributes(handle)
    compute, slices = int(cut.computeInstanceSliceCount), int(cut.gpuInstanceSliceCount)
    part = "" if compute == slices else f"{compute}c."
    return f"{parent.model} MIG {part}{slices}g.{round(int(cut.memorySizeMB) / 1024)}gb"


def _fault(nvml: Any, handle: Any) -> str:
    """What makes the GPU unfit for work; empty = nothing known."""
    broken = _number(nvml, lambda: nvml.nvmlDeviceGetRemappedRows(handle)[3])
    if broken:
        return "a memory row could not be remapped"
    volatile = (nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)
    errors = _number(nvml, lambda: nvml.nvmlDeviceGetTotalEccErrors(handle, *volatile))
    return f"{errors} uncorrected memory errors since the driver started" if errors else ""


def _temperature(nvml: Any, handle: Any) -> int | None:
    return _number(nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))


def _number(nvml: Any, read: Callable[[], int]) -> int | None:
    value = _optional(nvml, read)
    return None if value is None else int(value)


def _optional(nvml: Any, read: Callable[[], Any]) -> Any:
    """A value that not every GPU and driver tells; None where it is not told."""
    try:
        return read()
    except (nvml.NVMLError, *UNREADABLE):
        return None


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
