"""Devices to plan with: those of the pool, or those that somebody names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from common.errors import InvalidInput
from common.resources import Node
from common.resources.pool import DeviceRequest
from common.units import format_bytes
from common.vendors import VENDORS
from control.planning.answers import OfferedDevices
from inference.core.performance.device_figures import DeviceFigures
from inference.core.performance.options import Refusal
from inference.core.performance.supply import Supply
from scheduler.core.model.catalogue import Catalogue, DeviceSpec
from scheduler.core.model.types import NodeView, Request
from scheduler.core.pool.filters import accepts, untolerated
from scheduler.translate.views import node_view, request_view

TRANSFERS = "kv-transfer"
HOST_BUS = "PCIe"
PriceOf = Callable[[str], int | None]
"""Device class -> micro-credits for a million seconds of a device; None where the price book has none."""


@dataclass(frozen=True)
class Stock:
    """The devices of one model. ``nodes``: how many each node has of it."""

    vendor: str
    model: str
    nodes: tuple[int, ...]
    spec: DeviceSpec | None

    @property
    def device_class(self) -> str:
        return f"{self.vendor}/{self.model}"


def pool_stock(nodes: Iterable[Node], request: Request, catalogue: Catalogue) -> list[Stock]:
    """The healthy devices of all nodes on which what is asked for may be placed, by model."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(list)
    observed: dict[tuple[str, str], DeviceSpec | None] = {}
    for node in nodes:
        if not _takes(node_view(node, catalogue), request):
            continue
        here: dict[tuple[str, str], int] = defaultdict(int)
        for device in node.status.devices:
            key = str(device.vendor), device.model
            here[key] += device.healthy
            spec = catalogue.find(*key)
            observed.setdefault(
                key, spec.observed(device.memory_bytes, device.tflops) if spec is not None else None
            )
        for key, count in here.items():
            counts[key].append(count)
    return [
        Stock(vendor, model, tuple(sorted(found, reverse=True)), observed[vendor, model])
        for (vendor, model), found in sorted(counts.items())
    ]


def _takes(view: NodeView, request: Request) -> bool:
    """Whether the node answers, takes new work, and has the labels and no taints but those that are
    tolerated."""
    usable = view.alive and not view.cordoned and not untolerated(view.taints, request)
    return usable and set(request.node_labels) <= set(view.labels)


def offered_stock(devices: Sequence[OfferedDevices], catalogue: Catalogue) -> list[Stock]:
    """What somebody names, in nodes of so many each; a model that is named twice has nodes of both kinds.

    Raises ``InvalidInput`` for what is no vendor, and for a model that the device catalogue does not know.
    """
    stock: dict[tuple[str, str], Stock] = {}
    for place, one in enumerate(devices):
        vendor, _, model = one.device_class.partition("/")
        where = f"devices[{place}].deviceClass"
        if vendor not in VENDORS or not model:
            raise InvalidInput(
                f"{where}: write vendor/model, e.g. nvidia/H200; vendors are {', '.join(VENDORS)}",
                param=where,
            )
        spec = catalogue.find(vendor, model)
        if spec is None:
            known = ", ".join(row.name for row in catalogue.specs if row.vendor == vendor) or "none"
            raise InvalidInput(
                f"{where}: the device catalogue has no {one.device_class}; of {vendor} it has {known}",
                param=where,
            )
        whole, rest = divmod(one.count, one.per_node)
        nodes = (one.per_node,) * whole + ((rest,) if rest else ())
        before = stock.get((vendor, model))
        stock[vendor, model] = Stock(vendor, model, (*before.nodes, *nodes) if before else nodes, spec)
    return list(stock.values())


def supplies_for(
    request: DeviceRequest, stock: Sequence[Stock], price_of: PriceOf
) -> tuple[list[Supply], list[Refusal]]:
    """Those of the stock that an Endpoint's ``devices`` allow and of which figures are known, and why the
    others are left out."""
    supplies, refusals = [], []
    for one in stock:
        why = _why_not(request, one)
        if why or one.spec is None:
            refusals.append(Refusal(one.device_class, "any", why))
        else:
            supplies.append(_supply(one, one.spec, price_of(one.device_class)))
    return supplies, refusals


def of_size(supplies: Sequence[Supply], count: int) -> tuple[list[Supply], list[Refusal]]:
    """Those that have engines of so many devices, and no others; 1 leaves the size open."""
    if count <= 1:
        return list(supplies), []
    found, refusals = [], []
    for one in supplies:
        if max(one.nodes) < count:
            why = f"no node has {count} of them for an engine (spec.devices.count)"
        elif one.legal_counts and count not in one.legal_counts:
            why = f"its vendor allows no {count} of them on a node (spec.devices.count)"
        else:
            found.append(replace(one, legal_counts=(count,)))
            continue
        refusals.append(Refusal(one.device_class, "any", why))
    return found, refusals


def _why_not(request: DeviceRequest, stock: Stock) -> str:
    if not sum(stock.nodes):
        return "no healthy device of it is on a node that takes work"
    if not accepts((stock.vendor, stock.model), request_view(request)):
        return "spec.devices of the Endpoint does not allow it"
    spec = stock.spec
    if spec is None:
        what = (
            "figures of CPUs are not known" if stock.vendor == "cpu" else "it is not in the device catalogue"
        )
        return f"{what}, so its speed cannot be foretold"
    lacking = sorted(set(request.capabilities) - spec.capabilities)
    if lacking:
        return f"it lacks {', '.join(lacking)} (spec.devices.capabilities)"
    if spec.memory_bytes < request.memory_bytes:
        return f"it has {format_bytes(spec.memory_bytes)} (spec.devices.memoryBytes)"
    if spec.tflops_of(request.dtype) < request.tflops:
        return f"it has {spec.tflops_of(request.dtype):g} {request.dtype} TFLOPS (spec.devices.tflops)"
    return ""


def _supply(stock: Stock, spec: DeviceSpec, price: int | None) -> Supply:
    tflops: Mapping[str, float] = dict(spec.tflops)
    figures = DeviceFigures(
        device_class=stock.device_class,
        name=spec.name,
        tflops=tflops,
        memory_bytes=spec.memory_bytes,
        bandwidth_gbytes_per_second=spec.bandwidth_gbytes_per_second,
        link_gbytes_per_second=spec.link_gbytes_per_second,
        over_host=spec.link in ("", HOST_BUS),
    )
    return Supply(
        figures=figures,
        vendor=stock.vendor,
        nodes=stock.nodes,
        legal_counts=spec.rule.legal_counts,
        transfers=TRANSFERS in spec.capabilities,
        microcredits_per_million_seconds=price,
    )
