"""Huawei Ascend NPUs: through DCMI where its library is, else from what npu-smi prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Literal

from common.errors import SetupError
from common.resources.pool import Device, DeviceLink
from common.telemetry import get_logger
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

_log = get_logger(__name__)


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
        self._told: frozenset[str] = frozenset()

    def read(self, node: str) -> list[Device]:
        """The devices; raises ``SetupError`` with the reason where there are none to see."""
        table = parse_info(self._run(["npu-smi", "info"]))
        numbered, notes = self._numbered(table.chips)
        notes = [*table.notes, *notes]
        if not numbered:
            raise SetupError(notes[0] if notes else "npu-smi shows no NPU")
        self._tell(notes)
        chips = list(numbered.values())
        devices = [self._device(chip, index, node) for index, chip in numbered.items()]
        self._link(chips, devices)
        return devices

    def _numbered(self, chips: Sequence[Chip]) -> tuple[dict[int, Chip], list[str]]:
        """Chips by what the visible-device variable counts, the physical id that the table or the mapping
        gives; and notes of those whose number is not certain: no other chip must be used in their place."""
        found: dict[int, list[Chip]] = {}
        notes: list[str] = []
        in_table = any(chip.index is not None for chip in chips)
        if self._mapping is None:
            self._mapping = {} if in_table else parse_mapping(self._optional("-m"))
        for chip in chips:
            index = chip.index if in_table else self._mapped(chip)
            if index is None:
                source = "second row" if in_table else "row of `npu-smi info -m`"
                notes.append(f"npu-smi info: NPU {chip.npu} has no {source} that gives its id")
            else:
                found.setdefault(index, []).append(chip)
        notes += [
            f"npu-smi info: the id {index} stands for several chips"
            for index, same in found.items()
            if len(same) > 1
        ]
        return {index: same[0] for index, same in found.items() if len(same) == 1}, notes

    def _mapped(self, chip: Chip) -> int | None:
        """By the mapping; an older tool that has none counts NPUs."""
        return self._mapping.get((chip.npu, chip.chip or 0)) if self._mapping else chip.npu

    def _tell(self, notes: Sequence[str]) -> None:
        for note in notes:
            if note not in self._told:
                _log.warning("npu-smi is not understood in part", reason=note)
        self._told = frozenset(notes)

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
