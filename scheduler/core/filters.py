"""Which devices of a node may serve a request, and, where there are none, which filter took the last one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.units import format_bytes
from scheduler.core.types import DeviceView, NodeView, Request


@dataclass(frozen=True)
class Filter:
    """One question about a device. ``says`` describes a node on which no device passed."""

    code: str
    passes: Callable[[DeviceView, Request], bool]
    says: Callable[[Request], str]


def _vendor_passes(device: DeviceView, request: Request) -> bool:
    return device.vendor not in request.not_vendors and (
        not request.vendors or device.vendor in request.vendors
    )


def _model_passes(device: DeviceView, request: Request) -> bool:
    model = device.model.casefold()
    wanted = {name.casefold() for name in request.models}
    return model not in {name.casefold() for name in request.not_models} and (not wanted or model in wanted)


def _memory_passes(device: DeviceView, request: Request) -> bool:
    return device.memory_bytes >= request.memory_bytes


def _healthy(device: DeviceView, request: Request) -> bool:
    return device.healthy


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


FILTERS: tuple[Filter, ...] = (
    Filter("VendorMismatch", _vendor_passes, _no_vendor),
    Filter("ModelMismatch", _model_passes, _no_model),
    Filter("DeviceMemory", _memory_passes, _no_memory),
    Filter("DeviceUnhealthy", _healthy, lambda request: "every matching device is unhealthy"),
)
"""In the order in which they are asked; the first that leaves nothing is the node's reason."""

ORDER: tuple[str, ...] = (
    "NodeLost",
    "NodeCordoned",
    *(f.code for f in FILTERS),
    "DeviceCount",
    "DevicesBusy",
)
"""All codes about nodes, from far from fitting to near."""

Group = tuple[DeviceView, ...]


@dataclass(frozen=True)
class Verdict:
    """What a node has for a request: ``groups`` that can serve it now (devices of one model each), or why
    there are
    none. ``best`` is the largest number of slots found, total for DeviceCount and free for DevicesBusy."""

    groups: tuple[Group, ...] = ()
    code: str = ""
    message: str = ""
    best: int = 0


def judge(node: NodeView, request: Request) -> Verdict:
    """Ask all filters about one node."""
    if not node.alive:
        return Verdict(code="NodeLost", message="the node does not answer")
    if node.cordoned:
        return Verdict(code="NodeCordoned", message="the node is cordoned")
    if request.count == 0:
        return Verdict(groups=((),))
    left: Sequence[DeviceView] = node.devices
    for question in FILTERS:
        left = [device for device in left if question.passes(device, request)]
        if not left:
            return Verdict(code=question.code, message=question.says(request))
    return _count(group_by_model(left), request)


Judge = Callable[[NodeView, Request], Verdict]


def remembering() -> Judge:
    """``judge`` for one cycle: most nodes are asked the same again and again, so each answer is kept."""
    kept: dict[tuple[int, Request], tuple[NodeView, Verdict]] = {}

    def remembered(node: NodeView, request: Request) -> Verdict:
        key = (id(node), request)
        if key not in kept:
            kept[key] = (node, judge(node, request))  # the node is kept too, so that its id stays its own
        return kept[key][1]

    return remembered


def _count(groups: Sequence[Group], request: Request) -> Verdict:
    total = max(sum(capacity(device, request) for device in group) for group in groups)
    need = f"needs {request.count} {'device' if request.count == 1 else 'devices'} on one node"
    if total < request.count:
        return Verdict(code="DeviceCount", message=f"{need}, it has {total}", best=total)
    able = tuple(g for g in groups if sum(usable_slots(d, request) for d in g) >= request.count)
    if able:
        return Verdict(groups=able)
    free = max(sum(usable_slots(device, request) for device in group) for group in groups)
    memory = f" with {format_bytes(request.memory_bytes)} free" if request.memory_bytes else ""
    return Verdict(code="DevicesBusy", message=f"{need}{memory}, at most {free} free", best=free)


def group_by_model(devices: Sequence[DeviceView]) -> list[Group]:
    """Devices of one vendor and model together, in a fixed order."""
    keys = sorted({(device.vendor, device.model) for device in devices})
    return [tuple(d for d in devices if (d.vendor, d.model) == key) for key in keys]


def capacity(device: DeviceView, request: Request) -> int:
    """How many shares of this size an idle device gives."""
    if not device.shared or not request.memory_bytes:
        return device.slots
    return min(device.slots, device.memory_bytes // request.memory_bytes)


def usable_slots(device: DeviceView, request: Request) -> int:
    """How many shares of this size the device gives now."""
    if not device.shared or not request.memory_bytes:
        return device.free_slots
    return min(device.free_slots, device.free_memory_bytes // request.memory_bytes)
