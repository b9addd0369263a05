"""What ``npu-smi`` prints, as data.

The table of ``npu-smi info`` has two rows per chip. Its second header row tells the generation: ``Chip``
alone (910A, 910B), ``Chip Phy-ID`` (A3: two chips per NPU) or ``Chip Device`` (310, 310P, no HBM column).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import SetupError
from scheduler.adapters.devices.facts import bus_address, whole

_ID = re.compile(r"\d{1,6}")
_USED_OF_TOTAL = re.compile(r"(\d{1,12})\s*/\s*(\d{1,12})")
_LABEL = re.compile(r"(?:NPU|Phy-ID|Device|Chip)\s?(\d{1,6})")
_WORKING = ("OK", "Warning")


@dataclass(frozen=True)
class Chip:
    """One chip of the table; None = not told. ``index`` is the column Phy-ID or Device. Memory in MiB."""

    npu: int
    name: str
    health: str
    power_watts: int | None = None
    temperature_celsius: int | None = None
    chip: int | None = None
    index: int | None = None
    bus_id: str = ""
    utilisation_percent: int | None = None
    used_mib: int | None = None
    total_mib: int | None = None

    @property
    def fault(self) -> str:
        """What is wrong with it; empty = nothing known."""
        if self.chip is None:
            return "npu-smi prints no second row for it"
        if self.health != "OK":
            return f"npu-smi reports its health as {self.health}"
        return "" if self.total_mib else "npu-smi does not tell its memory"

    @property
    def healthy(self) -> bool:
        """Whether it can be given work: a mere warning does not stop it."""
        return self.chip is not None and self.health in _WORKING and bool(self.total_mib)


def parse_info(text: str) -> list[Chip]:
    """The chips in the order of the table. Raises ``SetupError`` naming the first line that is not
    understood, also where a chip is there twice."""
    chips: list[Chip] = []
    open_row: Chip | None = None
    columns: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.count("Process"):
            break
        if cells[0].startswith("Chip") and "Bus-Id" in line:
            columns = cells[0].split()
        elif len(cells) == 1 or cells[0].startswith("NPU"):
            continue
        elif not columns:
            raise SetupError(f"npu-smi info, line {number}: a row before the table's header")
        elif open_row is not None and not _is_first_row(cells):
            chips.append(_second_row(open_row, cells, columns, number))
            open_row = None
        else:
            if open_row is not None:
                chips.append(open_row)
            open_row = _first_row(cells, number)
    if open_row is not None:
        chips.append(open_row)
    _check_unique(chips)
    return chips


def _is_first_row(cells: list[str]) -> bool:
    """Its second cell is a word of health, that of a second row an address or ``NA``."""
    return len(cells) > 1 and re.fullmatch("[A-Za-z]{2,}", cells[1]) is not None and cells[1] != "NA"


def _first_row(cells: list[str], number: int) -> Chip:
    """``| 0     910B3 | OK | 101.8       43                0    / 0 |``"""
    npu, _, name = cells[0].partition(" ")
    if len(cells) < 3 or not _is_first_row(cells) or not _ID.fullmatch(npu) or not name.strip():
        raise SetupError(f"npu-smi info, line {number}: expected NPU, name and health, got {_shown(cells)}")
    power, temperature, *_ = [*cells[2].split(), "", ""]
    return Chip(
        npu=int(npu),
        name=" ".join(name.split()),
        health=cells[1],
        power_watts=whole(power),
        temperature_celsius=whole(temperature),
    )


def _second_row(first: Chip, cells: list[str], columns: list[str], number: int) -> Chip:
    """``| 0     0 | 0000:9D:00.0 | 0     0    / 0          3397 / 65536 |``"""
    ids = cells[0].split()
    if len(cells) < 3 or len(ids) != len(columns) or not all(_ID.fullmatch(i) for i in ids):
        wanted = " and ".join(columns)
        raise SetupError(f"npu-smi info, line {number}: expected {wanted}, got {_shown(cells)}")
    pairs = [(int(used), int(total)) for used, total in _USED_OF_TOTAL.findall(cells[2])]
    used, total = next((pair for pair in reversed(pairs) if pair[1]), (None, None))
    share = whole(cells[2].split()[0]) if cells[2].split() else None
    return Chip(
        npu=first.npu,
        name=first.name,
        health=first.health,
        power_watts=first.power_watts,
        temperature_celsius=first.temperature_celsius,
        chip=int(ids[0]),
        index=int(ids[1]) if len(ids) > 1 else None,
        bus_id=bus_address(cells[1]),
        utilisation_percent=share,
        used_mib=used,
        total_mib=total,
    )


def _shown(cells: list[str]) -> str:
    return repr(" | ".join(cells)[:80])


def _check_unique(chips: list[Chip]) -> None:
    seen: set[tuple[str, object]] = set()
    for chip in chips:
        keys: list[tuple[str, object]] = [("NPU and chip", (chip.npu, chip.chip))]
        if chip.index is not None:
            keys.append(("Phy-ID or Device", chip.index))
        for what, value in keys:
            if (what, value) in seen:
                raise SetupError(f"npu-smi info: {what} {value} is there twice")
            seen.add((what, value))


def parse_mapping(text: str) -> dict[tuple[int, int], int]:
    """``npu-smi info -m``: (NPU id, chip id) → physical id, or logic id where that column is missing.

    Rows of things that are no device (``Mcu``) have ``-`` there and are left out, as are rows that are not
    understood: the mapping only adds to the table.
    """
    found: dict[tuple[int, int], int] = {}
    column = 0
    for line in text.splitlines():
        if "NPU ID" in line and "Chip ID" in line:
            column = 3 if "Phy-ID" in line and "Logic ID" in line else 2
        elif column:
            fields = line.split()
            if len(fields) > column and all(_ID.fullmatch(f) for f in (*fields[:2], fields[column])):
                found[int(fields[0]), int(fields[1])] = int(fields[column])
    return found


def parse_topology(text: str) -> dict[int, dict[int, str]]:
    """``npu-smi info -t topo``: label's number → other label's number → how they are joined.

    Values are as printed: ``HCCS``, ``HCCS_SW``, ``SIO``, ``PIX``, ``PXB``, ``PHB``, ``SYS``, ``NA``. Columns
    that are no NPU (network cards, CPU affinity) and rows that are not understood are left out.
    """
    header: list[int] = []
    found: dict[int, dict[int, str]] = {}
    for line in text.splitlines():
        labels = _LABEL.findall(line)
        fields = line.split()
        if len(labels) > 1 or (labels and "Affinity" in line):
            header = [int(label) for label in labels]
        elif header and fields and (match := _LABEL.fullmatch(fields[0])):
            row = dict(zip(header, fields[1 : 1 + len(header)], strict=False))
            row.pop(int(match[1]), None)
            found[int(match[1])] = row
    return found


def parse_board(text: str) -> dict[str, str]:
    """``npu-smi info -t board -i 0 -c 0``: its ``name : value`` lines, without those that say ``NA``."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields: Mapping[str, str] = {name.strip(): " ".join(value.split()) for name, value in pairs}
    return {name: value for name, value in fields.items() if value and value != "NA"}
