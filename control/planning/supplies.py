"""Devices to plan with: those of the pool, or those that somebody names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from common.errors import InvalidInput
from common.resources import Node
from common.resources.pool import DeviceRequest
from common.resources.scaling import EngineRole
from common.resources.serving import EndpointSpec
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
    """The devices of one model. ``nodes``: how many each node has of it; ``prefill_nodes``, ``decode_nodes``:
    the same of nodes that only engines of the one role may be on."""

    vendor: str
    model: str
    nodes: tuple[int, ...]
    spec: DeviceSpec | None
    prefill_nodes: tuple[int, ...] = ()
    decode_nodes: tuple[int, ...] = ()

    @property
    def device_class(self) -> str:
        return f"{self.vendor}/{self.model}"

    def nodes_for(self, role: EngineRole) -> tuple[int, ...]:
        """Those that engines of a role may be on."""
        own = {"prefill": self.prefill_nodes, "decode": self.decode_nodes}
        return self.nodes + own.get(role, self.prefill_nodes + self.decode_nodes)


def requests_of(spec: EndpointSpec) -> dict[EngineRole, DeviceRequest]:
    """What its engines ask for, by role; those of a canary are not sized."""
    return {name: role.devices for name, role in spec.roles.items() if name != "canary"}


def pool_stock(
    nodes: Iterable[Node], requests: Mapping[EngineRole, Request], catalogue: Catalogue
) -> list[Stock]:
    """The healthy devices of all nodes on which some of what is asked for may be placed, by model."""
    counts: dict[tuple[str, str], dict[tuple[EngineRole, ...], list[int]]] = {}
    observed: dict[tuple[str, str], DeviceSpec | None] = {}
    for node in nodes:
        view = node_view(node, catalogue)
        roles = tuple(role for role, request in requests.items() if _takes(view, request))
        if not roles:
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
            counts.setdefault(key, defaultdict(list))[roles].append(count)
    return [
        Stock(vendor, model, _sorted(found[tuple(requests)]), observed[vendor, model], *_kept(found))
        for (vendor, model), found in sorted(counts.items())
    ]


def _kept(found: Mapping[tuple[EngineRole, ...], list[int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return _sorted(found.get(("prefill",), [])), _sorted(found.get(("decode",), []))


def _sorted(counts: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(counts, reverse=True))


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
    requests: Mapping[EngineRole, DeviceRequest], stock: Sequence[Stock], price_of: PriceOf
) -> tuple[list[Supply], list[Refusal]]:
    """Those of the stock that an Endpoint's ``devices`` allow, for each role its own, and of which figures
    are known; and why the others are left out."""
    supplies, refusals = [], []
    for one in stock:
        why = {role: _why_not(role, request, one) for role, request in requests.items()}
        allowed = [role for role, reason in why.items() if not reason]
        if allowed and one.spec is not None:
            supplies.append(_supply(_for_roles(one, allowed), one.spec, price_of(one.device_class)))
        reasons = {role: reason for role, reason in why.items() if reason}
        if reasons:
            same = not allowed and len(set(reasons.values())) == 1
            parts = [reason if same else f"{role}: {reason}" for role, reason in reasons.items()]
            told = "; ".join(dict.fromkeys(parts))
            refusals.append(Refusal(one.device_class, "disaggregated" if allowed else "any", told))
    return supplies, refusals


def _for_roles(stock: Stock, allowed: Sequence[EngineRole]) -> Stock:
    """What is left of it where only these roles may have such devices."""
    if tuple(allowed) == ("prefill",):
        return replace(stock, nodes=(), prefill_nodes=stock.nodes_for("prefill"), decode_nodes=())
    if tuple(allowed) == ("decode",):
        return replace(stock, nodes=(), prefill_nodes=(), decode_nodes=stock.nodes_for("decode"))
    return stock


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


def _why_not(role: EngineRole, request: DeviceRequest, stock: Stock) -> str:
    devices = f"spec.{role}.devices" if role else "spec.devices"
    if not sum(stock.nodes_for(role)):
        return "no healthy device of it is on a node that takes work"
    if not accepts((stock.vendor, stock.model), request_view(request)):
        return f"{devices} of the Endpoint does not allow it"
    spec = stock.spec
    if spec is None:
        what = (
            "figures of CPUs are not known" if stock.vendor == "cpu" else "it is not in the device catalogue"
        )
        return f"{what}, so its speed cannot be foretold"
    lacking = sorted(set(request.capabilities) - spec.capabilities)
    if lacking:
        return f"it lacks {', '.join(lacking)} ({devices}.capabilities)"
    if spec.memory_bytes < request.memory_bytes:
        return f"it has {format_bytes(spec.memory_bytes)} ({devices}.memoryBytes)"
    if spec.tflops_of(request.dtype) < request.tflops:
        return f"it has {spec.tflops_of(request.dtype):g} {request.dtype} TFLOPS ({devices}.tflops)"
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
        connector=_connector(stock.vendor, spec),
        microcredits_per_million_seconds=price,
        prefill_nodes=stock.prefill_nodes,
        decode_nodes=stock.decode_nodes,
    )


def _connector(vendor: str, spec: DeviceSpec) -> str:
    """By which vLLM hands KV caches over on such devices; empty where they do not, or no way is known."""
    row = next((row for name, row in VENDORS.items() if name == vendor), None)
    return (row.kv_connector or "") if row is not None and TRANSFERS in spec.capabilities else ""
