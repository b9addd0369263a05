"""What of a device decides how fast a model runs on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from inference.core.performance.quantization import Dtype

_INSTEAD: dict[Dtype, tuple[Dtype, ...]] = {
    "fp4": ("fp4", "fp8", "bf16", "fp16", "fp32"),
    "fp8": ("fp8", "bf16", "fp16", "fp32"),
    "int8": ("int8", "bf16", "fp16", "fp32"),
    "bf16": ("bf16", "fp16", "fp32"),
    "fp16": ("fp16", "bf16", "fp32"),
    "fp32": ("fp32",),
}
"""Where a device does not multiply in a format, engines unpack weights into the next that it has."""


@dataclass(frozen=True)
class DeviceFigures:
    """One model of devices. ``name`` is its row of the device catalogue, ``device_class`` what prices go by.

    ``tflops`` are dense, by format; ``link_gbytes_per_second`` is the sum of all links in both directions; 0
    = not known. ``over_host``: what devices tell each other passes the host's bus.
    """

    device_class: str
    name: str
    tflops: Mapping[str, float] = field(default_factory=dict)
    memory_bytes: int = 0
    bandwidth_gbytes_per_second: float = 0.0
    link_gbytes_per_second: float = 0.0
    over_host: bool = False

    def flops(self, dtype: Dtype) -> float:
        """FLOPS in ``dtype``, or in what engines take in its place; 0.0 where none is known."""
        return next((1e12 * self.tflops[one] for one in _INSTEAD[dtype] if self.tflops.get(one)), 0.0)

    @property
    def missing(self) -> str:
        """What has to be known before anything can be said, or ``""``."""
        lacks = [
            name
            for name, value in (
                ("tflops", self.flops("bf16")),
                ("memoryBytes", self.memory_bytes),
                ("bandwidthGbytesPerSecond", self.bandwidth_gbytes_per_second),
            )
            if not value
        ]
        return ", ".join(lacks)


@dataclass(frozen=True)
class Layout:
    """How one engine is spread: each layer over ``tensor`` devices, the layers over ``pipeline`` stages."""

    tensor: int = 1
    pipeline: int = 1

    @property
    def devices(self) -> int:
        return self.tensor * self.pipeline

    def __str__(self) -> str:
        return f"tp{self.tensor}" + (f"pp{self.pipeline}" if self.pipeline > 1 else "")
