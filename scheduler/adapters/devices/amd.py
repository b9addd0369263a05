"""AMD GPUs: through the amdsmi library where it is, else from what the tool amd-smi prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Literal

from common.errors import SetupError
from common.resources.pool import Device, DeviceLink
from scheduler.adapters.devices.amd_json import Entry, memory_bytes, number, parse_entries, pick
from scheduler.adapters.devices.amd_library import partition_name, read_processors
from scheduler.adapters.devices.facts import bus_address, numa_node, shared_indexes, silent_device, whole
from scheduler.adapters.devices.run_tool import run_tool

Run = Callable[[Sequence[str]], str]

SIZES = ("vram.size", "vram.size_mb", "vram.vram_size_mb")
POWERS = ("power.socket_power", "power.current_socket_power", "power.average_socket_power")
"""Where versions of the tool put the same value."""

LINK_KINDS: Mapping[str, Literal["XGMI", "PCIe"]] = {"XGMI": "XGMI", "PCIE": "PCIe"}


def probe_amd(node: str) -> list[Device]:
    """All GPUs (or partitions) of the node. Raises ``SetupError`` where nothing shows any."""
    library = _library()
    if library is None:
        return _amd_smi().read(node)
    try:
        return read_processors(library, node)
    except SetupError as no_library:
        try:
            return _amd_smi().read(node)
        except SetupError as no_tool:
            raise SetupError(f"{no_library}; {no_tool}") from no_library


@cache
def _library() -> ModuleType | None:
    """The package, or None where it or the driver's library that it loads is missing (it raises ``KeyError``
    or ``AttributeError`` for a library that is not there or of another version)."""
    try:
        import amdsmi
    except (ImportError, OSError, KeyError, AttributeError):
        return None
    return amdsmi


@cache
def _amd_smi() -> AmdSmi:
    return AmdSmi()


class AmdSmi:
    """The tool as a source of devices. What cannot change while the GPUs are the same is asked once."""

    def __init__(self, run: Run = run_tool) -> None:
        self._run = run
        self._gpus: frozenset[int] = frozenset()
        self._static: dict[int, Entry] = {}
        self._list: dict[int, Entry] = {}
        self._topology: dict[int, Entry] = {}

    def read(self, node: str) -> list[Device]:
        """The devices; raises ``SetupError`` with the reason where there are none to see."""
        metric = self._entries("metric")
        if not self._gpus or self._gpus != metric.keys():
            self._static = self._entries("static")
            self._list, self._topology = self._optional("list"), self._optional("topology")
            self._gpus = frozenset(metric)
        gpus = sorted(self._static.keys() | metric.keys())
        if not gpus:
            raise SetupError("amd-smi shows no GPU")
        devices = {gpu: self._device(gpu, metric.get(gpu), node) for gpu in gpus}
        for index in shared_indexes(devices.values()):
            devices = {gpu: device for gpu, device in devices.items() if device.index != index}
            if not devices:
                raise SetupError(f"amd-smi: the HIP id {index} stands for several GPUs")
        self._name(devices, node)
        for gpu, device in devices.items():
            device.links = _links(self._topology.get(gpu), gpu, devices)
        return list(devices.values())

    def _device(self, gpu: int, metric: Entry | None, node: str) -> Device:
        static = self._static.get(gpu)
        index = number(self._list.get(gpu), "hip_id")
        device = silent_device("amd", node, gpu if index is None else index, "")
        device.model = _model(static)
        device.bus_id = bus_address(str(pick(static, "bus.bdf") or pick(self._list.get(gpu), "bdf") or ""))
        device.numa = _numa(static, device.bus_id)
        total = memory_bytes(metric, "mem_usage.total_vram", "vram.total")
        device.memory_bytes = total or memory_bytes(static, *SIZES) or 0
        device.fault = _fault(static, metric)
        device.healthy = not device.fault
        if device.healthy and not device.memory_bytes:
            device.fault = "amd-smi does not tell its memory"
        device.memory_used_bytes = memory_bytes(metric, "mem_usage.used_vram", "vram.used")
        device.utilisation_percent = number(metric, "usage.gfx_activity", "usage.gfx_usage")
        device.temperature_celsius = number(metric, "temperature.hotspot", "temperature.edge")
        device.power_watts = number(metric, *POWERS)
        return device

    def _name(self, devices: Mapping[int, Device], node: str) -> None:
        """Give each device its UUID or serial number, where no other has the same (partitions may)."""
        names = {}
        for gpu in devices:
            serial = pick(self._static.get(gpu), "asic.asic_serial")
            name = pick(self._list.get(gpu), "uuid") or (serial and f"GPU-{serial}")
            names[gpu] = str(name) if name else ""
        for gpu, device in devices.items():
            if names[gpu] and list(names.values()).count(names[gpu]) == 1:
                device.id = names[gpu]

    def _entries(self, what: str) -> dict[int, Entry]:
        command = ["amd-smi", what, "--json"]
        return parse_entries(self._run(command), " ".join(command))

    def _optional(self, what: str) -> dict[int, Entry]:
        """Like ``_entries``; empty where this version does not know the command."""
        try:
            return self._entries(what)
        except SetupError:
            return {}


def _model(static: Entry | None) -> str:
    """The market name, with the compute partition where the GPU is cut: ``MI300X CPX``."""
    name = str(pick(static, "asic.market_name", "board.product_name") or "unknown")
    mode = str(pick(static, "partition.compute_partition", "partition.accelerator_partition") or "")
    return partition_name(name, mode)


def _numa(static: Entry | None, bus_id: str) -> int | None:
    node = whole(pick(static, "numa.node"))
    return node if node is not None and node >= 0 else numa_node(bus_id)


def _fault(static: Entry | None, metric: Entry | None) -> str:
    if static is None or metric is None:
        return f"amd-smi {'metric' if static else 'static'} says nothing of it"
    errors = number(metric, "ecc.total_uncorrectable_count")
    return f"{errors} uncorrected memory errors since the driver started" if errors else ""


def _links(topology: Entry | None, gpu: int, devices: Mapping[int, Device]) -> list[DeviceLink]:
    """Direct links only: a path of several hops has no link of its own."""
    listed = pick(topology, "links")
    links = {}
    for entry in listed if isinstance(listed, list) else []:
        peer = number(entry, "gpu")
        kind = LINK_KINDS.get(str(pick(entry, "link_type")).upper())
        direct = kind == "PCIe" or number(entry, "num_hops") in (None, 1)
        if peer is None or peer == gpu or peer not in devices:
            continue
        if kind and direct and pick(entry, "link_status") != "DISABLED":
            most = whole(str(pick(entry, "bandwidth") or "").rpartition("-")[2])
            links[peer] = DeviceLink(
                peer=devices[peer].id,
                kind=kind,
                bandwidth_gbytes_per_second=most // 1000 if most else None,
            )
    return list(links.values())
