"""One row per vendor: how a process is told its devices, and what Kubernetes calls them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.resources.pool import Vendor


@dataclass(frozen=True)
class VendorRow:
    """``visible_devices``: the variable that the vendor's runtime obeys; None = there is none.
    ``kubernetes_resources``: what device plugins offer, the whole device first, then shares of one."""

    visible_devices: str | None
    kubernetes_resources: tuple[str, ...] = ()


VENDORS: Mapping[Vendor, VendorRow] = {
    "nvidia": VendorRow(
        "CUDA_VISIBLE_DEVICES",
        ("nvidia.com/gpu", "nvidia.com/gpumem", "nvidia.com/gpumem-percentage", "nvidia.com/gpucores"),
    ),
    "ascend": VendorRow(
        "ASCEND_RT_VISIBLE_DEVICES",
        ("huawei.com/Ascend910", "huawei.com/Ascend310P", "huawei.com/npu", "huawei.com/npu-core"),
    ),
    "amd": VendorRow("HIP_VISIBLE_DEVICES", ("amd.com/gpu",)),
    "cambricon": VendorRow(
        "MLU_VISIBLE_DEVICES",
        ("cambricon.com/vmlu", "cambricon.com/mlu.smlu.vmemory", "cambricon.com/mlu.smlu.vcore"),
    ),
    "hygon": VendorRow("HIP_VISIBLE_DEVICES", ("hygon.com/dcunum", "hygon.com/dcumem", "hygon.com/dcucores")),
    "mthreads": VendorRow(
        "MUSA_VISIBLE_DEVICES",
        ("mthreads.com/vgpu", "mthreads.com/sgpu-memory", "mthreads.com/sgpu-core"),
    ),
    "metax": VendorRow(
        "CUDA_VISIBLE_DEVICES",
        ("metax-tech.com/gpu", "metax-tech.com/sgpu", "metax-tech.com/vmemory", "metax-tech.com/vcore"),
    ),
    "cpu": VendorRow(None),
}
