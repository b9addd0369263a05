"""Which devices of a kind of node may serve a request, and, where there are none, which filter took the
last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.units import format_bytes
from scheduler.core.model.types import WHOLE_MILLIS, Labels, Request
from scheduler.core.pool.layout import MIB, Group, ModelKey


@dataclass(frozen=True)
class Filter:
    """One question about a group of devices. ``says`` describes a node on which none passed."""

    code: str
    passes: Callable[[Group, Request], bool]
    says: Callable[[Request], str]


ANY_TAINT = ("*", "")
"""What tolerates every taint."""


def untolerated(taints: Labels, request: Request) -> Labels:
    """Those taints that keep the request away."""
    if not taints or ANY_TAINT in request.tolerates:
        return ()
    tolerated = set(request.tolerates)
    return tuple((key, value) for key, value in taints if tolerated.isdisjoint(((key, value), (key, ""))))


def accepts(model: ModelKey, request: Request) -> bool:
    """Whether a request takes devices of this vendor and model."""
    return _takes_vendor(model[0], request) and _takes_model(model[1], request)


def _vendor_passes(group: Group, request: Request) -> bool:
    return _takes_vendor(group.vendor, request)


def _takes_vendor(vendor: str, request: Request) -> bool:
    return vendor not in request.not_vendors and (not request.vendors or vendor in request.vendors)


def _model_passes(group: Group, request: Request) -> bool:
    return _takes_model(group.model, request)


def _takes_model(name: str, request: Request) -> bool:
    model = name.casefold()
    wanted = {name.casefold() for name in request.models}
    return model not in {name.casefold() for name in request.not_models} and (not wanted or model in wanted)


def _memory_passes(group: Group, request: Request) -> bool:
    return group.memory_mebibytes >= -(-request.memory_bytes // MIB)


def _tflops_passes(group: Group, request: Request) -> bool:
    offered = dict(group.spec.tflops).get(request.dtype, 0.0) * min(request.share_millis, WHOLE_MILLIS)
    return offered >= request.tflops * WHOLE_MILLIS


def _capability_passes(group: Group, request: Request) -> bool:
    return group.spec.capabilities.issuperset(request.capabilities)


def _count_passes(group: Group, request: Request) -> bool:
    return count_for(group, request) is not None


def count_for(group: Group, request: Request) -> int | None:
    """How many devices of the group a rank takes: as asked, or the least that reach the totals, in a number
    that the vendor's placement rule allows; None = no such number."""
    count = request.count
    if request.by_equivalence:
        per_device = dict(group.spec.tflops).get(request.dtype, 0.0)
        if request.total_tflops > 0 and per_device <= 0:
            return None
        by_compute = -(-request.total_tflops // per_device) if request.total_tflops > 0 else 0
        by_memory = -(-request.total_memory_bytes // (group.memory_mebibytes * MIB or 1))
        count = max(1, int(by_compute), by_memory)
    legal = group.spec.rule.legal_counts
    if legal and request.share_millis == WHOLE_MILLIS and count not in legal and not group.shared:
        larger = [n for n in legal if n >= count]
        if not request.by_equivalence or not larger:
            return None
        count = min(larger)
    return count if not (request.by_equivalence and request.max_count and count > request.max_count) else None


def _any_of(wanted: Sequence[str], refused: Sequence[str]) -> str:
    if wanted:
        return " or ".join(wanted) + " "
    return f"other than {' or '.join(refused)} " if refused else ""


def _no_vendor(request: Request) -> str:
    return f"no {_any_of(request.vendors, request.not_vendors)}device"


def _no_model(request: Request) -> str:
    if request.models:
        return f"no device of model {' or '.join(request.models)}"
    return f"only devices of model {' or '.join(request.not_models)}, which it refuses"


def _no_memory(request: Request) -> str:
    return f"no device with {format_bytes(request.memory_bytes)} of memory"


def _no_tflops(request: Request) -> str:
    return f"no device with {request.tflops:g} {request.dtype} TFLOPS"


def _no_capability(request: Request) -> str:
    return f"no device with {' and '.join(request.capabilities)}"


def _no_count(request: Request) -> str:
    if not request.by_equivalence:
        return f"its vendor does not allow {request.count} devices together"
    return f"no number of devices of one model gives {totals(request)}"


def totals(request: Request) -> str:
    """What a request by equivalence asks for, in words."""
    parts = []
    if request.total_tflops:
        parts.append(f"{request.total_tflops:g} {request.dtype} TFLOPS")
    if request.total_memory_bytes:
        parts.append(format_bytes(request.total_memory_bytes))
    limit = f" with at most {request.max_count}" if request.max_count else ""
    return " and ".join(parts) + limit


FILTERS: tuple[Filter, ...] = (
    Filter("VendorMismatch", _vendor_passes, _no_vendor),
    Filter("ModelMismatch", _model_passes, _no_model),
    Filter("CapabilityMissing", _capability_passes, _no_capability),
    Filter("DeviceMemory", _memory_passes, _no_memory),
    Filter("DeviceTflops", _tflops_passes, _no_tflops),
    Filter("IllegalCount", _count_passes, _no_count),
)
"""In the order in which they are asked; the first that leaves nothing is the node's reason."""

ORDER: tuple[str, ...] = (
    "QuotaModels",
    "NodeLost",
    "NodeFlapping",
    "NodeCordoned",
    "NodeLabels",
    "NodeTaints",
    *(f.code for f in FILTERS),
    "DeviceUnhealthy",
    "HostTooSmall",
    "DeviceCount",
    "HostBusy",
    "DevicesBusy",
    "TopologyBusy",
    "NodeReserved",
)
"""All codes about nodes, from far from fitting to near."""


def refusal(groups: Sequence[Group], request: Request) -> tuple[tuple[int, ...], Filter | None]:
    """Indexes of the groups that pass all filters; where there are none, the filter that took the last."""
    left = list(enumerate(groups))
    for question in FILTERS:
        left = [(i, group) for i, group in left if question.passes(group, request)]
        if not left:
            return (), question
    return tuple(i for i, _ in left), None
