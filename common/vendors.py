"""Vendors of devices, one row each: all that the platform knows of a vendor beside its models and its probe.

``docs/design/devices.md`` says what else a new vendor needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Vendor = Literal["nvidia", "ascend", "amd", "cambricon", "hygon", "mthreads", "metax", "cpu"]
"""The keys of ``VENDORS``, as a type."""


@dataclass(frozen=True)
class VendorRow:
    """How a vendor's devices are called and reached."""

    visible_devices: str | None
    """The variable by which the vendor's runtime is told its devices; None = there is none."""

    kubernetes_resources: tuple[str, ...] = ()
    """What its device plugins offer: the whole device first, then shares of one."""

    ray_resource: str | None = None
    """The resource of Ray that counts its devices; None = Ray counts none."""

    device_files: tuple[str, ...] = ()
    """Patterns of the files through which its devices are reached, for processes in a sandbox."""

    driver_version: tuple[str, str] | None = None
    """The file, below the root, in which its kernel driver tells its version, and the pattern of the version
    in it; None = not known."""

    kv_connector: str | None = None
    """The connector of vLLM by which engines on its devices hand KV caches to each other; None = none that
    works with the gateway's two legs. Engines on devices of two vendors lay their caches out differently."""

    kv_host_memory: bool = False
    """Whether engines on its devices can keep KV caches in host memory: vLLM's worker for that (0.32) begins
    on CUDA and ROCm, and not on its build for CPUs."""


VENDORS: Mapping[Vendor, VendorRow] = {
    "nvidia": VendorRow(
        "CUDA_VISIBLE_DEVICES",
        ("nvidia.com/gpu", "nvidia.com/gpumem", "nvidia.com/gpumem-percentage", "nvidia.com/gpucores"),
        "GPU",
        ("/dev/nvidia*", "/dev/nvidia-caps"),
        ("proc/driver/nvidia/version", r"Kernel Module(?:\s+for\s+\S+)?\s+(\d[\w.]*)"),
        kv_connector="NixlConnector",
        kv_host_memory=True,
    ),
    "ascend": VendorRow(
        "ASCEND_RT_VISIBLE_DEVICES",
        ("huawei.com/Ascend910", "huawei.com/Ascend310P", "huawei.com/npu", "huawei.com/npu-core"),
        "NPU",
        ("/dev/davinci*", "/dev/devmm_svm", "/dev/hisi_hdc"),
        ("usr/local/Ascend/driver/version.info", r"(?m)^Version=(\S+)"),
    ),
    "amd": VendorRow(
        "HIP_VISIBLE_DEVICES",
        ("amd.com/gpu",),
        "GPU",
        ("/dev/kfd", "/dev/dri"),
        ("sys/module/amdgpu/version", r"(\d[\w.]*)"),
        kv_connector="NixlConnector",
        kv_host_memory=True,
    ),
    "cambricon": VendorRow(
        "MLU_VISIBLE_DEVICES",
        ("cambricon.com/vmlu", "cambricon.com/mlu.smlu.vmemory", "cambricon.com/mlu.smlu.vcore"),
        "MLU",
        ("/dev/cambricon*",),
    ),
    "hygon": VendorRow(
        "HIP_VISIBLE_DEVICES",
        ("hygon.com/dcunum", "hygon.com/dcumem", "hygon.com/dcucores"),
        "DCU",
        ("/dev/kfd", "/dev/mkfd", "/dev/dri"),
    ),
    "mthreads": VendorRow(
        "MUSA_VISIBLE_DEVICES",
        ("mthreads.com/vgpu", "mthreads.com/sgpu-memory", "mthreads.com/sgpu-core"),
        "GPU",
        ("/dev/mtgpu*", "/dev/dri"),
    ),
    "metax": VendorRow(
        "CUDA_VISIBLE_DEVICES",
        ("metax-tech.com/gpu", "metax-tech.com/sgpu", "metax-tech.com/vmemory", "metax-tech.com/vcore"),
        "GPU",
        ("/dev/mxcd", "/dev/dri"),
    ),
    "cpu": VendorRow(None, kv_connector="NixlConnector"),
}
