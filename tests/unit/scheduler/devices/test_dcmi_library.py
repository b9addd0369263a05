"""How DCMI is spoken to: structures as the driver lays them out, and every call with what it is asked."""

import ctypes
import struct
from collections.abc import Callable
from typing import Any

import pytest

from common.errors import SetupError
from common.resources.pool import Device, DeviceLink
from common.units import MIB
from scheduler.adapters.devices import dcmi
from scheduler.adapters.devices.dcmi import ChipInfo, Dcmi, DieId, HbmInfo, MemoryInfo, PcieInfo
from tests.unit.scheduler.devices.test_probe_dcmi import Library

LAYOUTS: dict[type[ctypes.Structure], tuple[int, dict[str, int]]] = {
    ChipInfo: (132, {"chip_type": 0, "chip_name": 32, "chip_ver": 64, "aicore_cnt": 96, "npu_name": 100}),
    HbmInfo: (
        32,
        {"memory_size": 0, "freq": 8, "memory_usage": 16, "temp": 24, "bandwith_util_rate": 28},
    ),
    MemoryInfo: (
        112,
        {
            "memory_size": 0,
            "memory_available": 8,
            "freq": 16,
            "hugepagesize": 24,
            "hugepages_total": 32,
            "hugepages_free": 40,
            "utiliza": 48,
            "reserve": 52,
        },
    ),
    PcieInfo: (
        64,
        {
            "venderid": 0,
            "subvenderid": 4,
            "deviceid": 8,
            "subdeviceid": 12,
            "domain": 16,
            "bdf_busid": 20,
            "bdf_deviceid": 24,
            "bdf_funcid": 28,
            "reserve": 32,
        },
    ),
    DieId: (20, {"soc_die": 0}),
}
"""Size and offsets in the driver's header ``dcmi_interface_api.h`` on 64-bit Linux, in bytes."""


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_structures_are_laid_out_as_the_driver_writes_them(structure: type[ctypes.Structure]) -> None:
    size, offsets = LAYOUTS[structure]
    names = [str(field[0]) for field in structure._fields_]
    assert {name: getattr(structure, name).offset for name in names} == offsets
    assert ctypes.sizeof(structure) == size


def write(target: Any, layout: str, *values: Any) -> None:
    """As C does: these values at the address that it is given."""
    data = struct.pack(f"@{layout}", *values)
    assert len(data) <= ctypes.sizeof(target), "it would write beyond what is there"
    ctypes.memmove(ctypes.addressof(target), data, len(data))


class RawLibrary(Library):
    """A library that knows nothing of our structures, only the driver's header."""

    def _dcmi_get_device_die_v2(self, card: int, chip: int, kind: int, die: Any) -> None:
        write(die, "5I", 1, 2, 3, 4, 0xABC)

    def _dcmi_get_device_pcie_info_v2(self, card: int, chip: int, info: Any) -> None:
        write(info, "IIIIiIII32s", 1, 2, 3, 4, 5, 0xC1, 6, 7, b"")

    def _dcmi_get_device_chip_info_v2(self, card: int, chip: int, info: Any) -> None:
        write(info, "32s32s32sI32s", b"type", b"Ascend910B", b"version", 24, b"npu")

    def _dcmi_get_device_hbm_info(self, card: int, chip: int, info: Any) -> None:
        write(info, "QIQiI", self.hbm_mib, 1600, 3397, 55, 12)

    def _dcmi_get_device_memory_info_v3(self, card: int, chip: int, info: Any) -> None:
        write(info, "QQILLLI60s", 44_280, 42_751, 800, 2, 3, 4, 5, b"")


@pytest.mark.parametrize(("hbm_mib", "total", "used"), [(65_536, 65_536, 3397), (0, 44_280, 1529)])
def test_what_the_driver_writes_is_what_is_read(hbm_mib: int, total: int, used: int) -> None:
    (device,) = Dcmi(RawLibrary(1, 1, hbm_mib=hbm_mib)).read("n")
    assert (device.id, device.bus_id, device.model) == ("NPU-1-2-3-4-ABC", "0005:c1:06.7", "Ascend910B")
    assert (device.memory_bytes, device.memory_used_bytes) == (total * MIB, used * MIB)
    assert {kind.__name__: ctypes.sizeof(kind) for kind in LAYOUTS} == {
        kind.__name__: size for kind, (size, _) in LAYOUTS.items()
    }


class Recorded:
    """A library whose calls are written down with all that they are asked; ``-`` is what it writes to."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        call = getattr(self._library, name)

        def recorded(*arguments: Any) -> int:
            self.calls.append((name.removeprefix("dcmi_"), *map(_asked, arguments)))
            status: int = call(*arguments)
            return status

        return recorded


def _asked(argument: Any) -> Any:
    if hasattr(argument, "_obj") or isinstance(argument, ctypes.Array):
        return "-"
    return getattr(argument, "value", argument)


def test_each_chip_is_asked_for_itself_and_each_pair_once() -> None:
    library = Recorded(Library(1, 2))
    source = Dcmi(library)
    source.read("n")
    told = [
        [
            ("get_device_logic_id", "-", 0, chip),
            ("get_device_phyid_from_logicid", chip, "-"),
            ("get_device_die_v2", 0, chip, 1, "-"),
            ("get_device_pcie_info_v2", 0, chip, "-"),
            ("get_device_chip_info_v2", 0, chip, "-"),
            ("get_device_hbm_info", 0, chip, "-"),
            ("get_device_health", 0, chip, "-"),
            ("get_device_utilization_rate", 0, chip, 2, "-"),
            ("get_device_temperature", 0, chip, "-"),
            ("get_device_power_info", 0, chip, "-"),
        ]
        for chip in (0, 1)
    ]
    listed = [("get_card_list", "-", "-", 64), ("get_device_num_in_card", 0, "-")]
    paths = [("get_topo_info_by_device_id", 0, one, 0, 1 - one, "-") for one in (0, 1)]
    assert library.calls == [("init",), *listed, *told[0], *told[1], *paths]
    library.calls.clear()
    source.read("n")
    assert library.calls == [*listed, *told[0], *told[1]]


def test_a_chip_is_told_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dcmi, "numa_node", {"0000:9d:00.0": 3}.get)
    first, second = Dcmi(Library(1, 2, first_physical=4)).read("n")
    assert first == Device(
        id="NPU-7281A664-C0C977-0-0-1",
        index=4,
        vendor="ascend",
        model="Ascend910",
        memory_bytes=65_536 * MIB,
        numa=3,
        bus_id="0000:9d:00.0",
        links=[DeviceLink(peer=second.id, kind="SIO")],
        memory_used_bytes=3397 * MIB,
        utilisation_percent=17,
        temperature_celsius=36,
        power_watts=179,
    )


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (0, None),
        (1, None),
        (2, "PCIe"),
        (3, "HCCS"),
        (4, "PCIe"),
        (5, "PCIe"),
        (6, "SIO"),
        (7, "HCCS"),
        (8, None),
    ],
)
def test_a_path_between_chips_is_a_link_of_its_kind(
    monkeypatch: pytest.MonkeyPatch, path: int, kind: str | None
) -> None:
    def tell(self: Library, card: int, chip: int, card2: int, chip2: int, told: Any) -> None:
        told.value = path

    monkeypatch.setattr(Library, "_dcmi_get_topo_info_by_device_id", tell)
    first, second = Dcmi(Library(1, 2)).read("n")
    assert [(link.peer, link.kind) for link in first.links] == ([(second.id, kind)] if kind else [])


@pytest.mark.parametrize(("size", "available", "used"), [(100, 30, 70), (100, 100, 0), (100, 130, 0)])
def test_plain_memory_is_used_where_it_is_not_free(
    monkeypatch: pytest.MonkeyPatch, size: int, available: int, used: int
) -> None:
    def tell(self: Library, card: int, chip: int, info: MemoryInfo) -> None:
        info.memory_size, info.memory_available = size, available

    monkeypatch.setattr(Library, "_dcmi_get_device_memory_info_v3", tell)
    (device,) = Dcmi(Library(1, 1, hbm_mib=0)).read("n")
    assert (device.memory_bytes, device.memory_used_bytes) == (size * MIB, used * MIB)


@pytest.mark.parametrize(
    ("parts", "bus"),
    [
        ((0, 0xC1, 0, 0), "0000:c1:00.0"),
        ((0x1_0002, 0x01, 0x1F, 7), "0002:01:1f.7"),
        ((-1, 0, 2, 1), "ffff:00:02.1"),
    ],
)
def test_a_bus_address_is_put_together_of_its_parts(
    monkeypatch: pytest.MonkeyPatch, parts: tuple[int, int, int, int], bus: str
) -> None:
    def tell(self: Library, card: int, chip: int, info: PcieInfo) -> None:
        info.domain, info.bdf_busid, info.bdf_deviceid, info.bdf_funcid = parts

    monkeypatch.setattr(Library, "_dcmi_get_device_pcie_info_v2", tell)
    assert Dcmi(Library(1, 1)).read("n")[0].bus_id == bus


def test_a_die_without_a_number_has_the_name_of_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Library, "_dcmi_get_device_die_v2", lambda *_: None)
    assert [device.id for device in Dcmi(Library(1, 2, first_physical=4)).read("n")] == [
        "ascend-n-4",
        "ascend-n-5",
    ]


@pytest.mark.parametrize(("count", "found"), [(-1, 0), (0, 0), (2, 2), (64, 64), (1000, 64)])
def test_cards_are_as_the_driver_numbers_them(
    monkeypatch: pytest.MonkeyPatch, count: int, found: int
) -> None:
    def tell(self: Library, told: ctypes.c_int, cards: Any, most: int) -> None:
        told.value = count
        for place in range(most):
            cards[place] = 3 * place + 1

    monkeypatch.setattr(Library, "_dcmi_get_card_list", tell)
    library = Recorded(Library(chips=1))
    try:
        devices = Dcmi(library).read("n")
    except SetupError:
        devices = []
    asked = [call[1] for call in library.calls if call[0] == "get_device_num_in_card"]
    assert (len(devices), asked) == (found, [3 * place + 1 for place in range(found)])


def test_chips_of_one_number_are_left_out_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(self: Library, logic: int, physical: ctypes.c_uint) -> None:
        physical.value = 5 if logic < 2 else logic

    monkeypatch.setattr(Library, "_dcmi_get_device_phyid_from_logicid", tell)
    devices = Dcmi(Library(2, 2)).read("n")
    assert [device.index for device in devices] == [2, 3]
    assert {link.peer for device in devices for link in device.links} == {device.id for device in devices}


def test_a_library_that_starts_late_is_started_again_until_it_has() -> None:
    library = Library(1, 1, refused={"dcmi_init"})
    source = Dcmi(library)
    for _ in range(2):
        with pytest.raises(SetupError):
            source.read("n")
    library.refused = frozenset()
    assert len(source.read("n")) == len(source.read("n")) == 1
    assert library.count["dcmi_init"] == 3


def test_the_library_is_looked_for_where_drivers_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def load(path: str) -> str:
        tried.append(path)
        if len(tried) < 3:
            raise OSError("not there")
        return path

    monkeypatch.setattr(ctypes, "CDLL", load)
    places = ["libdcmi.so", "/usr/local/Ascend/driver/lib64/driver/libdcmi.so", "/usr/local/dcmi/libdcmi.so"]
    assert dcmi.load_dcmi() == places[2]
    assert tried == places
