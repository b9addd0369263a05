"""Huawei's device library DCMI (libdcmi.so, part of the Ascend driver) through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from common.errors import SetupError
from common.resources.pool import Device, DeviceLink
from common.units import MIB
from scheduler.adapters.devices.facts import numa_node, shared_indexes, silent_device

LIBRARIES = (
    "libdcmi.so",
    "/usr/local/Ascend/driver/lib64/driver/libdcmi.so",
    "/usr/local/dcmi/libdcmi.so",
)
T = TypeVar("T")

MOST_CARDS = 64
AI_CORE = 2
VDIE = 1
ALARMS = {1: "a minor alarm", 2: "a major alarm", 3: "a critical alarm", 0xFFFFFFFF: "that it is gone"}
MINOR = 1
"""Worth telling; the chip still works."""
LINKS: dict[int, Literal["HCCS", "SIO", "PCIe"]] = {
    2: "PCIe",
    3: "HCCS",
    4: "PCIe",
    5: "PCIe",
    6: "SIO",
    7: "HCCS",
}
"""DCMI's topology types PHB, HCCS, PXB, PIX, SIO, HCCS_SW; 0 is the chip itself, 1 a path between sockets."""


class ChipInfo(ctypes.Structure):
    """``struct dcmi_chip_info_v2``"""

    _fields_ = (
        ("chip_type", ctypes.c_char * 32),
        ("chip_name", ctypes.c_char * 32),
        ("chip_ver", ctypes.c_char * 32),
        ("aicore_cnt", ctypes.c_uint),
        ("npu_name", ctypes.c_char * 32),
    )


class HbmInfo(ctypes.Structure):
    """``struct dcmi_hbm_info``; sizes in MiB."""

    _fields_ = (
        ("memory_size", ctypes.c_ulonglong),
        ("freq", ctypes.c_uint),
        ("memory_usage", ctypes.c_ulonglong),
        ("temp", ctypes.c_int),
        ("bandwith_util_rate", ctypes.c_uint),
    )


class MemoryInfo(ctypes.Structure):
    """``struct dcmi_get_memory_info_stru``; sizes in MiB."""

    _fields_ = (
        ("memory_size", ctypes.c_ulonglong),
        ("memory_available", ctypes.c_ulonglong),
        ("freq", ctypes.c_uint),
        ("hugepagesize", ctypes.c_ulong),
        ("hugepages_total", ctypes.c_ulong),
        ("hugepages_free", ctypes.c_ulong),
        ("utiliza", ctypes.c_uint),
        ("reserve", ctypes.c_ubyte * 60),
    )


class PcieInfo(ctypes.Structure):
    """``struct dcmi_pcie_info_all``"""

    _fields_ = (
        ("venderid", ctypes.c_uint),
        ("subvenderid", ctypes.c_uint),
        ("deviceid", ctypes.c_uint),
        ("subdeviceid", ctypes.c_uint),
        ("domain", ctypes.c_int),
        ("bdf_busid", ctypes.c_uint),
        ("bdf_deviceid", ctypes.c_uint),
        ("bdf_funcid", ctypes.c_uint),
        ("reserve", ctypes.c_ubyte * 32),
    )


class DieId(ctypes.Structure):
    """``struct dcmi_die_id``"""

    _fields_ = (("soc_die", ctypes.c_uint * 5),)


class DcmiError(Exception):
    """A call of the library failed; the message names it and its status."""


Place = tuple[int, int]
"""Card id, and the chip's number on the card."""


def load_dcmi(paths: Sequence[str] = LIBRARIES) -> Any:
    """The library, or None where it is not installed."""
    for path in paths:
        try:
            return ctypes.CDLL(path)
        except OSError:
            continue
    return None


class Dcmi:
    """The library as a source of devices; started once, and asked once how chips are joined."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._started = False
        self._paths: dict[tuple[Place, Place], int | None] = {}

    def read(self, node: str) -> list[Device]:
        """The chips that DCMI shows. Raises ``SetupError`` where it does not start or shows none."""
        try:
            if not self._started:
                _call(self._library, "dcmi_init")
                self._started = True
            places = _places(self._library)
        except DcmiError as error:
            raise SetupError(f"DCMI does not start: {error}") from error
        if not places:
            raise SetupError("DCMI shows no NPU")
        devices = {p: _describe(self._library, p, order, node) for order, p in enumerate(places)}
        for index in shared_indexes(devices.values()):
            devices = {place: device for place, device in devices.items() if device.index != index}
            if not devices:
                raise SetupError(f"DCMI: the physical id {index} stands for several chips")
        for place, device in devices.items():
            device.links = self._links(place, devices)
        return list(devices.values())

    def _links(self, place: Place, devices: Mapping[Place, Device]) -> list[DeviceLink]:
        links = []
        for other, device in devices.items():
            path = None if other == place else self._path(place, other)
            if path in LINKS:
                links.append(DeviceLink(peer=device.id, kind=LINKS[path]))
        return links

    def _path(self, one: Place, two: Place) -> int | None:
        if (one, two) not in self._paths:
            self._paths[one, two] = _reading(self._library, "dcmi_get_topo_info_by_device_id", *one, *two)
        return self._paths[one, two]


def _places(library: Any) -> list[Place]:
    count, cards = ctypes.c_int(), (ctypes.c_int * MOST_CARDS)()
    _call(library, "dcmi_get_card_list", ctypes.byref(count), cards, MOST_CARDS)
    places = []
    for card in cards[: max(0, min(count.value, MOST_CARDS))]:
        chips = ctypes.c_int()
        _call(library, "dcmi_get_device_num_in_card", card, ctypes.byref(chips))
        places += [(int(card), chip) for chip in range(chips.value)]
    return places


def _describe(library: Any, place: Place, order: int, node: str) -> Device:
    """One chip. A chip that is there but does not answer is unhealthy, not absent."""
    device = silent_device("ascend", node, order, "")
    try:
        device.index = _physical_id(library, place)
        device.id = _identity(library, place) or f"ascend-{node}-{device.index}"
        device.bus_id = _told(lambda: _bus_id(library, place)) or ""
        device.numa = numa_node(device.bus_id)
        chip = ChipInfo()
        _call(library, "dcmi_get_device_chip_info_v2", *place, ctypes.byref(chip))
        device.model = chip.chip_name.decode(errors="replace")
    except DcmiError as error:
        device.fault = str(error)
        return device
    memory, alarm = _told(lambda: _memory_mib(library, place)), _told(lambda: _alarm(library, place))
    if memory is not None:
        device.memory_bytes, device.memory_used_bytes = memory[0] * MIB, memory[1] * MIB
    device.healthy = alarm in (None, 0, MINOR)
    missing = [what for what, told in (("memory", memory), ("health", alarm)) if told is None]
    device.fault = f"DCMI does not tell its {' and '.join(missing)}" if missing else ""
    if alarm:
        device.fault = f"DCMI reports {ALARMS.get(alarm, alarm)}"
    device.utilisation_percent = _reading(library, "dcmi_get_device_utilization_rate", *place, AI_CORE)
    device.temperature_celsius = _reading(library, "dcmi_get_device_temperature", *place)
    tenths = _reading(library, "dcmi_get_device_power_info", *place)
    device.power_watts = None if tenths is None else round(tenths / 10)
    return device


def _physical_id(library: Any, place: Place) -> int:
    """The N of /dev/davinciN."""
    logic, physical = ctypes.c_uint(), ctypes.c_uint()
    _call(library, "dcmi_get_device_logic_id", ctypes.byref(logic), *place)
    _call(library, "dcmi_get_device_phyid_from_logicid", logic, ctypes.byref(physical))
    return physical.value


def _identity(library: Any, place: Place) -> str:
    die = DieId()
    try:
        _call(library, "dcmi_get_device_die_v2", *place, VDIE, ctypes.byref(die))
    except DcmiError:
        return ""
    words = list(die.soc_die)
    return "NPU-" + "-".join(f"{word:X}" for word in words) if any(words) else ""


def _bus_id(library: Any, place: Place) -> str:
    info = PcieInfo()
    _call(library, "dcmi_get_device_pcie_info_v2", *place, ctypes.byref(info))
    domain = info.domain & 0xFFFF
    return f"{domain:04x}:{info.bdf_busid:02x}:{info.bdf_deviceid:02x}.{info.bdf_funcid:x}"


def _memory_mib(library: Any, place: Place) -> tuple[int, int]:
    """Total and used: the HBM, or the plain memory of a chip that has none (310P)."""
    hbm = HbmInfo()
    try:
        _call(library, "dcmi_get_device_hbm_info", *place, ctypes.byref(hbm))
    except DcmiError:
        hbm.memory_size = 0
    if hbm.memory_size:
        return hbm.memory_size, hbm.memory_usage
    memory = MemoryInfo()
    _call(library, "dcmi_get_device_memory_info_v3", *place, ctypes.byref(memory))
    return memory.memory_size, max(0, memory.memory_size - memory.memory_available)


def _alarm(library: Any, place: Place) -> int:
    """0 = none."""
    health = ctypes.c_uint()
    _call(library, "dcmi_get_device_health", *place, ctypes.byref(health))
    return health.value


def _told(read: Callable[[], T]) -> T | None:
    """A value; None where this chip or driver does not tell it."""
    try:
        return read()
    except DcmiError:
        return None


def _reading(library: Any, name: str, *arguments: int) -> int | None:
    """A number that not every chip tells."""
    value = ctypes.c_int()
    try:
        _call(library, name, *arguments, ctypes.byref(value))
    except DcmiError:
        return None
    return value.value


def _call(library: Any, name: str, *arguments: Any) -> None:
    """Call a function of the library. Raises ``DcmiError`` where it is missing or returns a status."""
    try:
        status = getattr(library, name)(*arguments)
    except AttributeError as error:
        raise DcmiError(f"this driver has no {name}") from error
    if status:
        raise DcmiError(f"{name} failed with status {status}")
