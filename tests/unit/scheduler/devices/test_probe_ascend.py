"""What is made of npu-smi's output: four generations, and the same after accidents."""

import re
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SetupError
from common.resources.pool import Device
from common.units import MIB
from scheduler.adapters.devices import ascend
from scheduler.adapters.devices.ascend import NpuSmi, probe_ascend
from scheduler.adapters.devices.npu_smi import parse_info, parse_mapping, parse_topology
from scheduler.core.model.islands import IslandMember, islands_of
from tests.fixtures.devices import text
from tests.fixtures.devices.mangle import mangled

GENERATIONS = ("910a", "910b", "910c", "310p")


class Tool:
    """npu-smi that prints what it is given per word list; other words fail."""

    def __init__(self, info: str, **others: str) -> None:
        self.answers = {"": info, **others}
        self.asked: list[str] = []

    def __call__(self, command: Sequence[str]) -> str:
        words = "".join(command[2:]).replace("-", "")
        self.asked.append(words)
        if words not in self.answers:
            raise SetupError("`npu-smi` failed with status 255: This device does not support querying")
        return self.answers[words]


def generation(name: str) -> Tool:
    tool = Tool(text(f"npu_smi_{name}.txt"))
    if name != "310p":
        tool.answers["ttopo"] = text(f"npu_smi_{name}_topo.txt")
    return tool


def probe(name: str) -> list[Device]:
    return NpuSmi(generation(name)).read("n1")


def islands(devices: Sequence[Device]) -> list[int]:
    return islands_of(
        [IslandMember(d.id, d.index, tuple((link.peer, link.kind) for link in d.links)) for d in devices]
    )


def test_a_910a_server_is_two_rings_of_four() -> None:
    devices = probe("910a")
    third = devices[3]
    assert [(d.id, d.index, d.model) for d in devices] == [(f"ascend-n1-{i}", i, "910A") for i in range(8)]
    assert (third.memory_bytes, third.memory_used_bytes) == (32_768 * MIB, 30_759 * MIB)
    assert (third.utilisation_percent, third.temperature_celsius, third.power_watts) == (91, 42, 192)
    assert third.bus_id == "0000:3e:00.0"
    assert islands(devices) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert {(link.peer, link.kind) for link in third.links} == {
        ("ascend-n1-0", "HCCS"),
        ("ascend-n1-1", "HCCS"),
        ("ascend-n1-2", "HCCS"),
        ("ascend-n1-7", "PCIe"),
    }


def test_a_warning_is_told_and_an_alarm_stops_work() -> None:
    devices = probe("910a")
    assert [d.index for d in devices if not d.healthy] == [5]
    assert devices[5].fault == "npu-smi reports its health as Alarm"
    assert devices[3].fault == "npu-smi reports its health as Warning"


def test_a_910b_server_is_a_full_mesh() -> None:
    devices = probe("910b")
    assert [d.model for d in devices] == ["910B3"] * 4
    assert [d.memory_used_bytes for d in devices] == [3318 * MIB, 49_290 * MIB, 3314 * MIB, 3314 * MIB]
    assert all(d.memory_bytes == 65_536 * MIB and d.healthy for d in devices)
    assert islands(devices) == [0, 0, 0, 0]


def test_the_two_dies_of_a_910c_are_two_devices_joined_by_sio() -> None:
    devices = probe("910c")
    assert [(d.index, d.model, d.power_watts) for d in devices] == [
        (4, "Ascend910", 179),
        (5, "Ascend910", None),
        (6, "Ascend910", 170),
        (7, "Ascend910", None),
    ]
    assert [(link.peer, link.kind) for link in devices[0].links] == [
        ("ascend-n1-5", "SIO"),
        ("ascend-n1-6", "HCCS"),
        ("ascend-n1-7", "HCCS"),
    ]


def test_the_chips_of_a_310p_card_have_no_hbm() -> None:
    devices = probe("310p")
    assert [(d.index, d.model, d.memory_bytes // MIB, d.power_watts) for d in devices] == [
        (0, "310P3", 44_280, None),
        (1, "310P3", 43_693, None),
    ]
    assert [d.utilisation_percent for d in devices] == [0, 3]
    assert all(d.healthy and not d.links for d in devices)


def test_the_die_number_is_the_identity_where_it_is_told() -> None:
    tool = generation("910b")
    tool.answers["tboardi0c0"] = text("npu_smi_board.txt")
    source = NpuSmi(tool)
    first = source.read("n1")
    assert [d.id for d in first[:2]] == ["NPU-7281A664-C0C977-2879FD72-B9D00485-104301E3", "ascend-n1-1"]
    assert first[1].links[0].peer == first[0].id
    asked = len(tool.asked)
    assert [d.id for d in source.read("n1")] == [d.id for d in first]
    assert tool.asked[asked:] == [""]


def test_two_chips_never_share_an_identity() -> None:
    tool = generation("910b")
    tool.answers |= {f"tboardi{npu}c0": text("npu_smi_board.txt") for npu in range(4)}
    for _ in range(2):
        assert len({d.id for d in NpuSmi(tool).read("n1")}) == 4


def test_where_the_table_has_no_physical_id_the_mapping_gives_it() -> None:
    table = text("npu_smi_910b.txt")
    info = table.replace("| 0     910B3", "| 8     910B3").replace("| 1     910B3", "| 9     910B3")
    rows = "2  0  2  Ascend 910A\n3  0  3  Ascend 910A\n"
    devices = NpuSmi(Tool(info, m=text("npu_smi_mapping.txt") + rows)).read("n1")
    assert [d.index for d in devices] == [0, 1, 2, 3]
    uncertain = NpuSmi(Tool(info, m=text("npu_smi_mapping.txt"))).read("n1")
    assert [d.index for d in uncertain] == [0, 1], "a chip without a number is not guessed"


def test_a_950_has_its_physical_ids_in_a_column_of_another_place() -> None:
    """Slot ID stands before Chip ID there: columns are found by name."""
    mapping = text("npu_smi_a5_mapping.txt")
    assert parse_mapping(mapping) == {(6, 0): 4, (7, 0): 5}
    devices = NpuSmi(Tool(text("npu_smi_a5.txt"), m=mapping)).read("n1")
    assert [(d.index, d.model, d.healthy) for d in devices] == [
        (4, "Ascend950PR", True),
        (5, "Ascend950PR", True),
    ]
    assert [(d.memory_bytes, d.memory_used_bytes) for d in devices] == [(131_072 * MIB, 4100 * MIB)] * 2


@given(st.permutations(("NPU ID", "Slot ID", "Chip ID", "Chip Logic ID", "Chip Phy-ID")))
def test_the_order_of_the_mappings_columns_makes_no_difference(titles: list[str]) -> None:
    rows = ({"NPU ID": 6, "Slot ID": 1, "Chip ID": 0, "Chip Logic ID": 9, "Chip Phy-ID": 4},)
    lines = ["   ".join(titles), *("   ".join(str(row[title]) for title in titles) for row in rows)]
    for joined in ("\n".join(lines), "\n".join(line.replace("   ", "\t") for line in lines)):
        assert parse_mapping(joined) == {(6, 0): 4}


def test_readings_of_the_table_are_found_by_name() -> None:
    table = text("npu_smi_910b.txt")
    header = "AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)"
    assert header in table
    moved = table.replace(header, "HBM-Usage(MB)  AICore(%)  Memory-Usage(MB)")
    used_first = re.sub(r"(\d+)( +)(\d+ */ *\d+)( +)(\d+ */ *\d+)( +)\|", r"\5 \1 \3 |", moved)
    tool = generation("910b")
    tool.answers[""] = used_first
    assert NpuSmi(tool).read("n1") == probe("910b")


def test_mappings_of_both_kinds_are_read() -> None:
    assert parse_mapping(text("npu_smi_mapping.txt")) == {(8, 0): 0, (9, 0): 1}
    assert parse_mapping(text("npu_smi_mapping_phy.txt")) == {(0, 0): 4, (0, 1): 5}
    assert parse_mapping("no such command") == {}


def test_network_cards_in_the_topology_are_left_out() -> None:
    rows = ("      NPU0  NPU1  NIC0", "NPU0  X     HCCS  PIX", "NPU1  HCCS  X     NA", "NIC0  PIX   NA    X")
    assert parse_topology("\n".join(rows)) == {0: {1: "HCCS"}, 1: {0: "HCCS"}}


def without(info: str, number: int) -> str:
    """The table without one line, counted from 1."""
    lines = info.splitlines()
    return "\n".join(lines[: number - 1] + lines[number:])


def test_a_chip_that_answers_half_is_unhealthy_not_absent() -> None:
    devices = NpuSmi(Tool(without(text("npu_smi_910b.txt"), 11))).read("n1")
    assert [(d.index, d.healthy) for d in devices] == [(0, True), (1, False), (2, True), (3, True)]
    assert devices[1].fault == "npu-smi prints no second row for it"


def test_a_chip_whose_memory_is_not_told_still_works_and_says_so() -> None:
    info = text("npu_smi_910b.txt").replace("49290/ 65536", "NA")
    devices = NpuSmi(Tool(info)).read("n1")
    assert [d.fault for d in devices] == ["", "npu-smi does not tell its memory", "", ""]
    assert [d.memory_bytes > 0 for d in devices] == [True, False, True, True]
    assert all(d.healthy for d in devices)


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ("", "npu-smi shows no NPU"),
        ("dcmi module initialize failed. ret is -8005", "npu-smi shows no NPU"),
        (without(text("npu_smi_910b.txt"), 5), "line 6: a row before the table's header"),
    ],
)
def test_output_that_cannot_be_read_is_a_reason_that_names_the_place(info: str, reason: str) -> None:
    with pytest.raises(SetupError, match=reason):
        NpuSmi(Tool(info)).read("n1")


@pytest.mark.parametrize(
    ("info", "left"),
    [
        (without(text("npu_smi_910b.txt"), 10), [0, 2, 3]),
        (without(text("npu_smi_910c.txt"), 8), [5, 6, 7]),
        (text("npu_smi_910c.txt").replace("| 1     5", "| 1     4"), [6, 7]),
        (text("npu_smi_910b.txt").replace("| 1     910B3", "| 0     910B3"), [2, 3]),
        (text("npu_smi_910c.txt").replace("| 1     5 ", "| 1       "), [4, 6, 7]),
    ],
)
def test_a_row_that_cannot_be_read_costs_no_other_chip(info: str, left: list[int]) -> None:
    devices = NpuSmi(Tool(info)).read("n1")
    assert [d.index for d in devices if d.healthy] == left


@given(st.data())
def test_mangled_output_gives_whole_devices_or_a_reason(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(GENERATIONS))
    tool = generation(name)
    tool.answers = {words: data.draw(mangled(answer)) for words, answer in tool.answers.items()}
    tool.answers["m"] = data.draw(mangled(text("npu_smi_mapping_phy.txt")))
    tool.answers["tboardi0c0"] = data.draw(mangled(text("npu_smi_board.txt")))
    try:
        devices = NpuSmi(tool).read("n1")
    except SetupError:
        return
    ids = {device.id for device in devices}
    assert len(ids) == len({device.index for device in devices}) == len(devices) > 0
    assert all(link.peer in ids - {device.id} for device in devices for link in device.links)
    assert all(device.healthy or device.fault for device in devices)
    assert all(device.memory_bytes or device.fault for device in devices)


@given(st.text(alphabet=st.sampled_from("| 019AZ:.-/+NPUChipBusIdPhyOK\n\t"), max_size=300))
def test_any_text_at_all_is_read_or_refused(noise: str) -> None:
    header = "| NPU Name | Health | Power(W) |\n| Chip | Bus-Id | AICore(%) |\n"
    for info in (noise, header + noise):
        with suppress(SetupError):
            parse_info(info)
    parse_mapping(noise)
    parse_topology(noise)


def test_without_library_and_tool_both_reasons_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoDcmi:
        def read(self, node: str) -> list[Device]:
            raise SetupError("DCMI does not start: status -8005")

    tool = NpuSmi(Tool(""))
    monkeypatch.setattr(ascend, "_dcmi", NoDcmi)
    monkeypatch.setattr(ascend, "_npu_smi", lambda: tool)
    with pytest.raises(SetupError, match="DCMI does not start: status -8005; npu-smi shows no NPU"):
        probe_ascend("n1")
    monkeypatch.setattr(ascend, "_npu_smi", lambda: NpuSmi(generation("310p")))
    assert len(probe_ascend("n1")) == 2
    monkeypatch.setattr(ascend, "_dcmi", lambda: None)
    assert len(probe_ascend("n1")) == 2
