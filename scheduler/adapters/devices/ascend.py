"""Huawei Ascend NPUs: through DCMI where its library is, else from what npu-smi prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Literal

from common.errors import SetupError
from common.resources.pool import Device, DeviceLink
from common.units import MIB
from scheduler.adapters.devices.dcmi import Dcmi, load_dcmi
from scheduler.adapters.devices.facts import numa_node
from scheduler.adapters.devices.npu_smi import (
    Chip,
    parse_board,
    parse_info,
    parse_mapping,
    parse_topology,
)
from scheduler.adapters.devices.run_tool import run_tool

Run = Callable[[Sequence[str]], str]
LinkKind = Literal["HCCS", "SIO", "PCIe"]

LINK_KINDS: Mapping[str, LinkKind] = {
    "HCCS": "HCCS",
    "HCCS_SW": "HCCS",
    "SIO": "SIO",
    "PIX": "PCIe",
    "PXB": "PCIe",
    "PHB": "PCIe",
}
"""As npu-smi and DCMI name a path → the kind of link; paths between CPU sockets are none."""


def probe_ascend(node: str) -> list[Device]:
    """All NPU chips of the node. Raises ``SetupError`` where neither DCMI nor npu-smi shows any."""
    library = _dcmi()
    if library is None:
        return _npu_smi().read(node)
    try:
        return library.read(node)
    except SetupError as no_library:
        try:
            return _npu_smi().read(node)
        except SetupError as no_tool:
            raise SetupError(f"{no_library}; {no_tool}") from no_library


@cache
def _dcmi() -> Dcmi | None:
    library = load_dcmi()
    return None if library is None else Dcmi(library)


@cache
def _npu_smi() -> NpuSmi:
    return NpuSmi()


class NpuSmi:
    """The tool as a source of devices. What cannot change while a chip is in its place is asked once."""

    def __init__(self, run: Run = run_tool) -> None:
        self._run = run
        self._ids: dict[str, str] = {}
        self._topology: tuple[tuple[int, ...], dict[int, dict[int, str]]] = ((), {})
        self._mapping: dict[tuple[int, int], int] | None = None

    def read(self, node: str) -> list[Device]:
        """The devices; raises ``SetupError`` with the reason where there are none to see."""
        chips = parse_info(self._run(["npu-smi", "info"]))
        if not chips:
            raise SetupError("npu-smi shows no NPU")
        indexes = self._indexes(chips)
        devices = [self._device(chip, index, node) for chip, index in zip(chips, indexes, strict=True)]
        self._link(chips, devices)
        return devices

    def _indexes(self, chips: Sequence[Chip]) -> list[int]:
        """What the visible-device variable counts: the physical id that the table or the mapping gives."""
        numbered = any(chip.index is not None for chip in chips)
        if self._mapping is None:
            self._mapping = {} if numbered else parse_mapping(self._optional("-m"))
        indexes: list[int] = []
        for chip in chips:
            if chip.index is not None:
                indexes.append(chip.index)
            elif numbered:
                raise SetupError(f"npu-smi info: NPU {chip.npu} has no second row that gives its id")
            else:
                indexes.append(self._mapping.get((chip.npu, chip.chip or 0), chip.npu))
        twice = [index for index, count in Counter(indexes).items() if count > 1]
        if twice:
            raise SetupError(f"npu-smi info: the id {twice[0]} stands for several chips")
        return indexes

    def _device(self, chip: Chip, index: int, node: str) -> Device:
        return Device(
            id=self._identity(chip) or f"ascend-{node}-{index}",
            index=index,
            vendor="ascend",
            model=chip.name,
            memory_bytes=(chip.total_mib or 0) * MIB,
            healthy=chip.healthy,
            fault=chip.fault,
            numa=numa_node(chip.bus_id),
            bus_id=chip.bus_id,
            memory_used_bytes=None if chip.used_mib is None else chip.used_mib * MIB,
            utilisation_percent=chip.utilisation_percent,
            temperature_celsius=chip.temperature_celsius,
            power_watts=chip.power_watts,
        )

    def _identity(self, chip: Chip) -> str:
        """The die's own number, which moves with the card; empty where the tool does not tell it."""
        key = f"{chip.npu}/{chip.chip or 0}"
        if key not in self._ids:
            words = ["-t", "board", "-i", str(chip.npu), "-c", str(chip.chip or 0)]
            die = parse_board(self._optional(*words)).get("VDie ID", "")
            self._ids[key] = "NPU-" + die.replace(" ", "-") if die else ""
        name = self._ids[key]
        return "" if not name or list(self._ids.values()).count(name) > 1 else name

    def _link(self, chips: Sequence[Chip], devices: Sequence[Device]) -> None:
        """Set the devices' links from the topology. Its labels are NPU ids, or physical ids where an NPU has
        several chips."""
        indexes = tuple(device.index for device in devices)
        if self._topology[0] != indexes:
            self._topology = (indexes, parse_topology(self._optional("-t", "topo")))
        single = len({chip.npu for chip in chips}) == len(chips)
        label = [chip.npu if single else device.index for chip, device in zip(chips, devices, strict=True)]
        by_label = dict(zip(label, devices, strict=True))
        for number, peers in self._topology[1].items():
            if number in by_label:
                by_label[number].links = [
                    DeviceLink(peer=by_label[peer].id, kind=LINK_KINDS[path])
                    for peer, path in peers.items()
                    if peer in by_label and path in LINK_KINDS
                ]

    def _optional(self, *words: str) -> str:
        """What ``npu-smi info`` prints with these words; empty where this version does not know them."""
        try:
            return self._run(["npu-smi", "info", *words])
        except SetupError:
            return ""
