"""What is known of a device model beyond what its driver reports: speed, links, and how its vendor lets it be
placed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from common.units import GIB

_MIG = re.compile(r"\bMIG (?:(\d)c\.)?(\d)g\.(\d{1,4})gb", re.IGNORECASE)
_MIG_SLICES = 7
_AMD_PARTITION = re.compile(r"\b([DTQC]PX)\b", re.IGNORECASE)
_AMD_PARTS = {"DPX": 2, "TPX": 3, "QPX": 4, "CPX": 8}


@dataclass(frozen=True)
class PlacementRule:
    """How many devices of one node a rank may take, and which together.

    ``legal_counts``: the only sizes allowed; empty = any. ``island_size``: devices per island where the
    driver shows no links. ``island_rule``: ``inside`` = what fits into one island must come from one island,
    ``even`` = that too, and more is split evenly across islands, ``any`` = no limit. ``pair_size``: devices
    that share a module; sizes that are a multiple of it take whole modules.
    """

    legal_counts: tuple[int, ...] = ()
    island_size: int = 0
    island_rule: str = "any"
    pair_size: int = 1


@dataclass(frozen=True)
class DeviceSpec:
    """One row of the device catalogue.

    ``patterns`` are the words by which drivers name the model; ``tflops`` are dense, per dtype;
    ``link_gbytes_per_second`` is the sum of all links in both directions; 0 and "" mean not known.
    """

    name: str
    vendor: str
    patterns: tuple[str, ...] = ()
    tflops: tuple[tuple[str, float], ...] = ()
    memory_bytes: int = 0
    bandwidth_gbytes_per_second: int = 0
    link: str = ""
    link_gbytes_per_second: int = 0
    watts: int = 0
    capabilities: frozenset[str] = frozenset()
    partitions: tuple[str, ...] = ()
    kubernetes_resource: str = ""
    price_micros_per_hour: int = 0
    rule: PlacementRule = PlacementRule()

    def tflops_of(self, dtype: str) -> float:
        """Dense TFLOPS in ``dtype``; 0.0 where not known or not computed."""
        return dict(self.tflops).get(dtype, 0.0)

    def observed(self, memory_bytes: int, tflops: Mapping[str, float]) -> DeviceSpec:
        """This row with what a device's driver reported in place of what the catalogue says.

        ``memory_bytes`` 0 and missing dtypes leave the catalogue's values.
        """
        merged = {**dict(self.tflops), **tflops}
        return replace(
            self, memory_bytes=memory_bytes or self.memory_bytes, tflops=tuple(sorted(merged.items()))
        )


@dataclass(frozen=True)
class Catalogue:
    """All rows; where two patterns fit a model equally well, the earlier row wins."""

    specs: tuple[DeviceSpec, ...] = ()
    _found: dict[tuple[str, str], DeviceSpec | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def find(self, vendor: str, model: str) -> DeviceSpec | None:
        """The row for a model as its driver names it, e.g. ``("nvidia", "H100 80GB HBM3")``.

        A pattern fits where its words stand together in the model's name, without regard to case; the pattern
        with the most characters wins. A part of a device (``… MIG 1g.10gb``, ``MI300X CPX``) has the row of
        the whole, scaled. None where no row of the vendor fits.
        """
        key = (vendor, model)
        if key not in self._found:
            whole = self._search(vendor, model)
            self._found[key] = None if whole is None else part_of(whole, model)
        return self._found[key]

    def _search(self, vendor: str, model: str) -> DeviceSpec | None:
        name = words(model)
        best: DeviceSpec | None = None
        best_length = 0
        for spec in self.specs:
            if spec.vendor == vendor:
                length = max(_fitting_lengths(spec, name), default=0)
                if length > best_length:
                    best, best_length = spec, length
        return best


def part_of(spec: DeviceSpec, model: str) -> DeviceSpec:
    """The row for a part of the device ``spec`` where ``model`` says that it is one, else ``spec`` itself.

    A MIG instance ``1c.3g.40gb`` has one of seven compute slices and memory as its name says; an AMD
    partition ``CPX`` is an eighth. A part has no links of its own; a process uses one MIG instance at most.
    """
    mig = _MIG.search(model) if spec.vendor == "nvidia" else None
    if mig is not None:
        profile = mig[0].lower().removeprefix("mig ")
        part = _scaled(spec, f"MIG {profile}", int(mig[1] or mig[2]) / _MIG_SLICES)
        resource, rule = f"nvidia.com/mig-{profile}", PlacementRule(legal_counts=(1,))
        return replace(part, memory_bytes=int(mig[3]) * GIB, kubernetes_resource=resource, rule=rule)
    mode = _AMD_PARTITION.search(model) if spec.vendor == "amd" else None
    return _scaled(spec, mode[1].upper(), 1 / _AMD_PARTS[mode[1].upper()]) if mode else spec


def _scaled(spec: DeviceSpec, suffix: str, share: float) -> DeviceSpec:
    return replace(
        spec,
        name=f"{spec.name} {suffix}",
        tflops=tuple((dtype, value * share) for dtype, value in spec.tflops),
        memory_bytes=int(spec.memory_bytes * share),
        bandwidth_gbytes_per_second=int(spec.bandwidth_gbytes_per_second * share),
        link="",
        link_gbytes_per_second=0,
        watts=round(spec.watts * share),
        capabilities=spec.capabilities - {"mig"},
        partitions=(),
        price_micros_per_hour=round(spec.price_micros_per_hour * share),
        rule=PlacementRule(),
    )


def words(name: str) -> str:
    """In lower case with one blank around each word: ``"A100-SXM4-80GB"`` → ``" a100 sxm4 80gb "``."""
    return f" {' '.join(re.findall('[a-z0-9]+', name.lower()))} "


def _fitting_lengths(spec: DeviceSpec, name: str) -> Iterator[int]:
    for pattern in spec.patterns:
        normal = words(pattern)
        if normal.strip() and normal in name:
            yield len(normal)
