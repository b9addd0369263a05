"""What is made of DCMI's answers, through the same structures as those of the real library."""

import ctypes
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SetupError
from common.units import MIB
from scheduler.adapters.devices.dcmi import ChipInfo, Dcmi, DieId, HbmInfo, MemoryInfo, PcieInfo, load_dcmi

CALLS = (
    "dcmi_get_device_chip_info_v2",
    "dcmi_get_device_die_v2",
    "dcmi_get_device_hbm_info",
    "dcmi_get_device_health",
    "dcmi_get_device_logic_id",
    "dcmi_get_device_memory_info_v3",
    "dcmi_get_device_pcie_info_v2",
    "dcmi_get_device_phyid_from_logicid",
    "dcmi_get_device_power_info",
    "dcmi_get_device_temperature",
    "dcmi_get_device_utilization_rate",
    "dcmi_get_topo_info_by_device_id",
)
NOT_SUPPORTED = -8255


class Library:
    """Cards with so many chips each; calls in ``refused`` return a status, those in ``missing`` are none."""

    def __init__(self, cards: int = 2, chips: int = 2, name: bytes = b"Ascend910", **changes: Any) -> None:
        self.cards, self.chips, self.name = cards, chips, name
        self.refused: frozenset[str] = frozenset(changes.pop("refused", ()))
        self.missing: frozenset[str] = frozenset(changes.pop("missing", ()))
        self.health: int = changes.pop("health", 0)
        self.hbm_mib: int = changes.pop("hbm_mib", 65_536)
        self.first_physical: int = changes.pop("first_physical", 0)
        self.count: dict[str, int] = {}

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name in self.missing:
            raise AttributeError(name)
        answer = getattr(type(self), f"_{name}")

        def call(*arguments: Any) -> int:
            self.count[name] = self.count.get(name, 0) + 1
            if name in self.refused:
                return NOT_SUPPORTED
            plain = [a._obj if hasattr(a, "_obj") else getattr(a, "value", a) for a in arguments]
            answer(self, *plain)
            return 0

        return call

    def _dcmi_init(self) -> None:
        pass

    def _dcmi_get_card_list(self, count: ctypes.c_int, cards: Any, most: int) -> None:
        count.value = self.cards
        for card in range(self.cards):
            cards[card] = card

    def _dcmi_get_device_num_in_card(self, card: int, chips: ctypes.c_int) -> None:
        chips.value = self.chips

    def _dcmi_get_device_logic_id(self, logic: ctypes.c_uint, card: int, chip: int) -> None:
        logic.value = card * self.chips + chip

    def _dcmi_get_device_phyid_from_logicid(self, logic: int, physical: ctypes.c_uint) -> None:
        physical.value = self.first_physical + logic

    def _dcmi_get_device_die_v2(self, card: int, chip: int, kind: int, die: DieId) -> None:
        die.soc_die[:] = [0x7281A664, 0xC0C977, card, chip, kind]

    def _dcmi_get_device_pcie_info_v2(self, card: int, chip: int, info: PcieInfo) -> None:
        info.bdf_busid = 0x9D + 2 * chip - 4 * card

    def _dcmi_get_device_chip_info_v2(self, card: int, chip: int, info: ChipInfo) -> None:
        info.chip_name = self.name

    def _dcmi_get_device_hbm_info(self, card: int, chip: int, info: HbmInfo) -> None:
        info.memory_size, info.memory_usage = self.hbm_mib, 3397

    def _dcmi_get_device_memory_info_v3(self, card: int, chip: int, info: MemoryInfo) -> None:
        info.memory_size, info.memory_available = 44_280, 42_751

    def _dcmi_get_device_health(self, card: int, chip: int, health: ctypes.c_uint) -> None:
        health.value = self.health if (card, chip) == (0, 0) else 0

    def _dcmi_get_device_utilization_rate(self, card: int, chip: int, kind: int, rate: Any) -> None:
        rate.value = 17

    def _dcmi_get_device_temperature(self, card: int, chip: int, celsius: Any) -> None:
        celsius.value = 36

    def _dcmi_get_device_power_info(self, card: int, chip: int, tenths: Any) -> None:
        tenths.value = 1788

    def _dcmi_get_topo_info_by_device_id(
        self, card: int, chip: int, card2: int, chip2: int, path: Any
    ) -> None:
        path.value = 6 if card == card2 else 7


def test_the_dies_of_two_910c_are_described_and_linked() -> None:
    library = Library(first_physical=4)
    source = Dcmi(library)
    devices = source.read("n1")
    first = devices[0]
    assert [d.index for d in devices] == [4, 5, 6, 7]
    assert (first.id, first.model) == ("NPU-7281A664-C0C977-0-0-1", "Ascend910")
    assert (first.memory_bytes, first.memory_used_bytes) == (65_536 * MIB, 3397 * MIB)
    assert (first.utilisation_percent, first.temperature_celsius, first.power_watts) == (17, 36, 179)
    assert (first.bus_id, first.healthy, first.fault) == ("0000:9d:00.0", True, "")
    assert [(link.peer, link.kind) for link in first.links] == [
        (devices[1].id, "SIO"),
        (devices[2].id, "HCCS"),
        (devices[3].id, "HCCS"),
    ]
    assert source.read("n1") == devices
    assert library.count["dcmi_init"] == 1
    assert library.count["dcmi_get_topo_info_by_device_id"] == 12


def test_a_310p_has_plain_memory() -> None:
    for library in (Library(1, 1, b"310P3", hbm_mib=0), Library(1, 1, refused={"dcmi_get_device_hbm_info"})):
        (device,) = Dcmi(library).read("n1")
        assert (device.memory_bytes, device.memory_used_bytes) == (44_280 * MIB, 1529 * MIB)


@pytest.mark.parametrize(
    ("health", "healthy", "fault"),
    [
        (0, True, ""),
        (1, True, "DCMI reports a minor alarm"),
        (2, False, "DCMI reports a major alarm"),
        (3, False, "DCMI reports a critical alarm"),
        (0xFFFFFFFF, False, "DCMI reports that it is gone"),
        (9, False, "DCMI reports 9"),
    ],
)
def test_health_is_as_dcmi_says(health: int, healthy: bool, fault: str) -> None:
    first, *others = Dcmi(Library(health=health)).read("n1")
    assert (first.healthy, first.fault) == (healthy, fault)
    assert all(device.healthy for device in others)


@given(st.frozensets(st.sampled_from(CALLS)), st.frozensets(st.sampled_from(CALLS)))
def test_whatever_is_refused_there_is_one_device_per_chip(
    refused: frozenset[str], missing: frozenset[str]
) -> None:
    devices = Dcmi(Library(refused=refused, missing=missing)).read("n1")
    assert len(devices) == len({d.id for d in devices}) == len({d.index for d in devices}) == 4
    assert all(device.healthy or device.fault for device in devices)
    assert all(device.memory_bytes or device.fault for device in devices)


@pytest.mark.parametrize(
    ("refused", "fault"),
    [
        ({"dcmi_get_device_hbm_info", "dcmi_get_device_memory_info_v3"}, "DCMI does not tell its memory"),
        ({"dcmi_get_device_health"}, "DCMI does not tell its health"),
        ({"dcmi_get_device_pcie_info_v2"}, ""),
        ({"dcmi_get_device_die_v2"}, ""),
    ],
)
def test_a_reading_that_is_not_told_condemns_no_chip(refused: set[str], fault: str) -> None:
    devices = Dcmi(Library(refused=refused)).read("n1")
    assert [(device.healthy, device.fault) for device in devices] == [(True, fault)] * 4


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (Library(refused={"dcmi_init"}), "DCMI does not start: dcmi_init failed with status -8255"),
        (Library(missing={"dcmi_get_card_list"}), "this driver has no dcmi_get_card_list"),
        (Library(cards=0), "DCMI shows no NPU"),
    ],
)
def test_a_library_that_shows_nothing_is_a_reason(library: Library, reason: str) -> None:
    with pytest.raises(SetupError, match=reason):
        Dcmi(library).read("n1")


def test_two_chips_with_one_physical_id_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def same(self: Library, logic: int, physical: ctypes.c_uint) -> None:
        physical.value = 3

    monkeypatch.setattr(Library, "_dcmi_get_device_phyid_from_logicid", same)
    with pytest.raises(SetupError, match="the physical id 3 stands for several chips"):
        Dcmi(Library()).read("n1")


def test_without_the_driver_there_is_no_library() -> None:
    assert load_dcmi(("no-such-library.so",)) is None
