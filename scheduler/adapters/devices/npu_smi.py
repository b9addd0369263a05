"""What ``npu-smi`` prints, as data.

The table of ``npu-smi info`` has two rows per chip. Its second header row tells the generation: ``Chip``
alone (910A, 910B), ``Chip Phy-ID`` (A3: two chips per NPU) or ``Chip Device`` (310, 310P, no HBM column).
Columns are found by the names in the headers, since versions add and move them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scheduler.adapters.devices.facts import bus_address, whole

_ID = re.compile(r"\d{1,6}")
_READING = re.compile(r"\d{1,12}\s*/\s*\d{1,12}|\S+")
_USED_OF_TOTAL = re.compile(r"(\d{1,12})\s*/\s*(\d{1,12})")
_TITLES = re.compile(r"NPU ID|Slot ID|Chip ID|Chip Logic ID|Chip Phy-ID|Chip Name|\S+")
_INDEX_COLUMNS = ("Phy-ID", "Device")
_MEMORY_COLUMNS = ("HBM-Usage", "Memory-Usage")
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
        """Whether it can be given work: a mere warning or a reading that is not told does not stop it."""
        return self.chip is not None and self.health in _WORKING


@dataclass(frozen=True)
class Table:
    """The chips in the order of the table, and what of it was not understood."""

    chips: tuple[Chip, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Header:
    """The names of the columns: of the first row's readings, the second row's numbers and its readings."""

    first: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    second: tuple[str, ...] = ()


def parse_info(text: str) -> Table:
    """The table of ``npu-smi info``. A row that is not understood costs its own chip and no other; neither of
    two chips that are said to be the same is taken."""
    reader = _TableReader()
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("|"):
            if "Process" in line:
                break
            reader.take(number, [cell.strip() for cell in line.strip().strip("|").split("|")])
    reader.close()
    return _without_doubles(reader.chips, reader.notes)


class _TableReader:
    """Row after row: two of them make a chip."""

    def __init__(self) -> None:
        self.chips: list[Chip] = []
        self.notes: list[str] = []
        self._header = _Header()
        self._open: Chip | None = None

    def take(self, number: int, cells: list[str]) -> None:
        if cells[0].startswith("NPU") and len(cells) > 1:
            self._header = replace(self._header, first=_names(cells[-1]))
        elif cells[0].startswith("Chip") and len(cells) > 1 and cells[1].startswith("Bus-Id"):
            ids = tuple(cells[0].split())
            self._header = replace(self._header, ids=ids, second=_names(cells[-1]))
        elif len(cells) > 1:
            try:
                self._row(cells)
            except ValueError as error:
                self.notes.append(f"npu-smi info, line {number}: {error}")

    def close(self) -> None:
        """A chip whose second row is missing is there nevertheless."""
        if self._open is not None:
            self.chips.append(self._open)
            self._open = None

    def _row(self, cells: list[str]) -> None:
        if not self._header.ids:
            raise ValueError("a row before the table's header")
        if self._open is not None and not _is_first_row(cells):
            self.chips.append(_second_row(self._open, cells, self._header))
            self._open = None
            return
        self.close()
        self._open = _first_row(cells, self._header)


def _names(cell: str) -> tuple[str, ...]:
    """``AICore(%)   HBM-Usage(MB)`` → names without units."""
    return tuple(name.partition("(")[0] for name in cell.split())


def _readings(names: Sequence[str], cell: str) -> dict[str, str]:
    """The cell's values by the names of their columns; none where there are not as many as names."""
    values = _READING.findall(cell)
    return dict(zip(names, values, strict=True)) if len(values) == len(names) else {}


def _is_first_row(cells: list[str]) -> bool:
    """Its second cell is a word of health, that of a second row an address or ``NA``."""
    return len(cells) > 1 and re.fullmatch("[A-Za-z]{2,}", cells[1]) is not None and cells[1] != "NA"


def _first_row(cells: list[str], header: _Header) -> Chip:
    """``| 0     910B3 | OK | 101.8       43                0    / 0 |``"""
    npu, _, name = cells[0].partition(" ")
    if len(cells) < 3 or not _is_first_row(cells) or not _ID.fullmatch(npu) or not name.strip():
        raise ValueError(f"expected NPU, name and health, got {_shown(cells)}")
    told = _readings(header.first, cells[2])
    return Chip(
        npu=int(npu),
        name=" ".join(name.split()),
        health=cells[1],
        power_watts=whole(told.get("Power", "")),
        temperature_celsius=whole(told.get("Temp", "")),
    )


def _second_row(first: Chip, cells: list[str], header: _Header) -> Chip:
    """``| 0     0 | 0000:9D:00.0 | 0     0    / 0          3397 / 65536 |``"""
    ids = dict(zip(header.ids, cells[0].split(), strict=False))
    counted = [ids[name] for name in _INDEX_COLUMNS if name in ids]
    whole_row = len(cells) >= 3 and len(cells[0].split()) == len(header.ids)
    if not whole_row or not all(_ID.fullmatch(i) for i in (ids.get("Chip", ""), *counted)):
        raise ValueError(f"expected {' and '.join(header.ids)}, got {_shown(cells)}")
    told = _readings(header.second, cells[2])
    used, total = _memory(told)
    return replace(
        first,
        chip=int(ids["Chip"]),
        index=int(counted[0]) if counted else None,
        bus_id=bus_address(cells[1]),
        utilisation_percent=whole(told.get("AICore", "")),
        used_mib=used,
        total_mib=total,
    )


def _memory(told: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Used and total, in MiB: the HBM, or the plain memory of a chip that has none."""
    for name in _MEMORY_COLUMNS:
        pair = _USED_OF_TOTAL.fullmatch(told.get(name, ""))
        if pair is not None and int(pair[2]):
            return int(pair[1]), int(pair[2])
    return None, None


def _shown(cells: list[str]) -> str:
    return repr(" | ".join(cells)[:80])


def _without_doubles(chips: Sequence[Chip], notes: Sequence[str]) -> Table:
    places = Counter((chip.npu, chip.chip) for chip in chips)
    indexes: Counter[int | None] = Counter(chip.index for chip in chips if chip.index is not None)
    doubles = [
        *(f"NPU and chip {place} is there twice" for place, count in places.items() if count > 1),
        *(f"Phy-ID or Device {index} is there twice" for index, count in indexes.items() if count > 1),
    ]
    kept = (c for c in chips if places[c.npu, c.chip] == 1 and indexes[c.index] < 2)
    return Table(tuple(kept), (*notes, *(f"npu-smi info: {double}" for double in doubles)))


def parse_mapping(text: str) -> dict[tuple[int, int], int]:
    """``npu-smi info -m``: (NPU id, chip id) → physical id, or logic id where that column is missing.

    Rows of things that are no device (``Mcu``) have ``-`` there and are left out, as are rows that are not
    understood: the mapping only adds to the table.
    """
    found: dict[tuple[int, int], int] = {}
    titles: list[str] = []
    for line in text.splitlines():
        if "NPU ID" in line and "Chip ID" in line:
            titles = _TITLES.findall(line)
            continue
        row = dict(zip(titles, line.split(), strict=False))
        npu, chip = row.get("NPU ID", ""), row.get("Chip ID", "")
        index = row.get("Chip Phy-ID") or row.get("Chip Logic ID") or ""
        if all(_ID.fullmatch(value) for value in (npu, chip, index)):
            found[int(npu), int(chip)] = int(index)
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
