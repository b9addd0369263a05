"""NVIDIA GPUs through NVML. The only module that imports pynvml."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from common.errors import SetupError
from common.resources.pool import Device


def probe_nvidia() -> list[Device]:
    """All GPUs of the node. Raises ``SetupError`` where NVML or its driver is missing, or shows no GPU."""
    try:
        import pynvml
    except ImportError as error:
        raise SetupError("the NVML library (nvidia-ml-py) is not installed") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise SetupError(f"NVML does not start: {error}") from error
    try:
        count = pynvml.nvmlDeviceGetCount()
        if not count:
            raise SetupError("the NVIDIA driver shows no GPU")
        return [_describe(pynvml, index) for index in range(count)]
    except pynvml.NVMLError as error:
        raise SetupError(f"NVML failed: {error}") from error
    finally:
        pynvml.nvmlShutdown()


def _describe(nvml: Any, index: int) -> Device:
    """One GPU. A GPU that is there but does not answer is unhealthy, not absent."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        uuid, model = _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle))
    except nvml.NVMLError as error:
        return Device(
            id=f"nvidia-{index}",
            index=index,
            vendor="nvidia",
            model="unknown",
            memory_bytes=0,
            healthy=False,
            fault=str(error),
        )
    fault = _fault(nvml, handle)
    return Device(
        id=uuid,
        index=index,
        vendor="nvidia",
        model=model.removeprefix("NVIDIA "),
        memory_bytes=memory.total,
        healthy=not fault,
        fault=fault,
        memory_used_bytes=memory.used,
        utilisation_percent=_optional(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        temperature_celsius=_optional(
            nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
        ),
        power_watts=_optional(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle) // 1000),
    )


def _fault(nvml: Any, handle: Any) -> str:
    """What makes the GPU unfit for work; empty = nothing known."""
    broken = _optional(nvml, lambda: nvml.nvmlDeviceGetRemappedRows(handle)[3])
    if broken:
        return "a memory row could not be remapped"
    volatile = (nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)
    errors = _optional(nvml, lambda: nvml.nvmlDeviceGetTotalEccErrors(handle, *volatile))
    return f"{errors} uncorrected memory errors since the driver started" if errors else ""


def _optional(nvml: Any, read: Callable[[], int]) -> int | None:
    """A value that not every GPU tells."""
    try:
        return int(read())
    except nvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
