"""What is made of AMD's library and of its tool's JSON, old and new, and after accidents."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SetupError
from common.resources.pool import Device
from common.units import GIB, MIB
from scheduler.adapters.devices import amd
from scheduler.adapters.devices.amd import AmdSmi, probe_amd
from scheduler.adapters.devices.amd_json import memory_bytes, number, parse_entries
from scheduler.adapters.devices.amd_library import read_processors
from tests.fixtures.devices import text
from tests.fixtures.devices.amdsmi import READINGS, FakeAmdSmi, Gpu, LinkType
from tests.fixtures.devices.mangle import mangled

NEW = {what: text(f"amd_smi_{what}.json") for what in ("static", "metric", "list", "topology")}
OLD = {what: text(f"amd_smi_{what}_old.json") for what in ("static", "metric")}


class Tool:
    """amd-smi that prints what it is given per command; it does not know others."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []

    def __call__(self, command: Sequence[str]) -> str:
        assert (command[0], command[2]) == ("amd-smi", "--json")
        self.asked.append(command[1])
        if command[1] not in self.answers:
            raise SetupError(f"`amd-smi {command[1]} --json` failed with status 2: invalid choice")
        return self.answers[command[1]]


def test_the_new_shape_is_read() -> None:
    devices = AmdSmi(Tool(NEW)).read("n1")
    first, second = devices
    assert (first.id, first.index, first.vendor) == ("c0ff74a1-0000-1000-8027-d079faca2939", 1, "amd")
    assert (first.model, first.bus_id, first.numa) == ("AMD Instinct MI300X OAM", "0000:05:00.0", 0)
    assert (first.memory_bytes, first.memory_used_bytes) == (196_592 * MIB, 80_110 * MIB)
    assert (first.utilisation_percent, first.temperature_celsius, first.power_watts) == (97, 71, 650)
    assert (first.healthy, first.fault) == (True, "")
    (link,) = first.links
    assert (link.peer, link.kind, link.bandwidth_gbytes_per_second) == (second.id, "XGMI", 100)
    assert (second.index, second.memory_bytes, second.links[0].peer) == (0, 192 * GIB, first.id)
    assert (second.healthy, second.fault) == (False, "2 uncorrected memory errors since the driver started")


def test_the_old_shape_is_read_and_partitions_are_devices() -> None:
    first, second = AmdSmi(Tool(OLD)).read("n1")
    assert (first.id, first.model) == ("amd-n1-0", "MI308X CPX")
    assert (first.memory_bytes, first.memory_used_bytes) == (24_574 * MIB, 283 * MIB)
    assert (first.utilisation_percent, first.temperature_celsius, first.power_watts) == (12, 32, 171)
    assert (second.id, second.memory_bytes) == ("amd-n1-1", 196_592 * MIB)
    assert (second.utilisation_percent, second.temperature_celsius, second.power_watts) == (None, None, None)
    assert first.healthy
    assert second.healthy


def test_a_gpu_that_only_one_command_knows_is_unhealthy() -> None:
    known = json.dumps(json.loads(NEW["static"])["gpu_data"][1:])
    devices = AmdSmi(Tool({**NEW, "static": known})).read("n1")
    assert [(d.id[:8], d.model, d.healthy) for d in devices] == [
        ("c0ff74a1", "unknown", False),
        ("77ff74a1", "AMD Instinct MI300X OAM", False),
    ]
    assert devices[0].fault == "amd-smi static says nothing of it"


def test_what_does_not_change_is_asked_once_until_the_gpus_do() -> None:
    tool = Tool(NEW)
    source = AmdSmi(tool)
    assert source.read("n1") == source.read("n1")
    assert tool.asked == ["metric", "static", "list", "topology", "metric"]
    one = json.loads(tool.answers["metric"])["gpu_data"][:1]
    tool.answers["metric"] = json.dumps(one)
    assert [d.fault for d in source.read("n1")] == ["", "amd-smi metric says nothing of it"]
    assert tool.asked[-3:] == ["static", "list", "topology"]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({}, "`amd-smi metric --json` failed with status 2"),
        ({**NEW, "static": "no GPU"}, "`amd-smi static --json` prints no JSON: 'no GPU'"),
        ({**NEW, "metric": "[]", "static": "[]"}, "amd-smi shows no GPU"),
        ({**NEW, "static": '[\n{"gpu": 0},\n{"gpu": }]'}, "`amd-smi static --json`, line 3: Expecting value"),
        ({**NEW, "static": '[{"gpu": 0}, {"gpu": 0}]'}, "entry 0 is no GPU, or one that is there twice"),
        ({**NEW, "static": '[{"name": 0}]'}, "entry 0 is no GPU"),
        ({**NEW, "static": "[" * 20_000}, "cannot be read"),
        ({**NEW, "static": '[{"gpu": ' + "9" * 5000 + "}]"}, "cannot be read"),
        (
            {**NEW, "list": NEW["list"].replace('"hip_id": 0', '"hip_id": 1')},
            "the HIP id 1 stands for several",
        ),
    ],
)
def test_output_that_cannot_be_read_is_a_reason_that_names_the_place(
    answers: dict[str, str], reason: str
) -> None:
    with pytest.raises(SetupError, match=reason):
        AmdSmi(Tool(answers)).read("n1")


@pytest.mark.parametrize(
    ("value", "read", "size"),
    [
        (7, 7, 7 * MIB),
        ("7 MB", 7, 7 * MIB),
        ({"value": 7, "unit": "GB"}, 7, 7 * GIB),
        ({"value": 7, "unit": "B"}, 7, 7),
        ({"value": "N/A", "unit": "MB"}, None, None),
        ({"unit": "MB"}, None, None),
        ("N/A", None, None),
        ([7], None, None),
        (True, None, None),
        ("7 parsecs", 7, None),
    ],
)
def test_values_with_and_without_units_are_read(value: object, read: int | None, size: int | None) -> None:
    assert (number({"a": {"b": value}}, "x", "a.b"), memory_bytes({"a": {"b": value}}, "a.b")) == (read, size)


def check(devices: Sequence[Device]) -> None:
    ids = {device.id for device in devices}
    assert len(ids) == len({device.index for device in devices}) == len(devices) > 0
    assert all(link.peer in ids - {device.id} for device in devices for link in device.links)
    assert all(device.healthy or device.fault for device in devices)


@given(st.data(), st.sampled_from([NEW, OLD]))
def test_mangled_output_gives_whole_devices_or_a_reason(data: st.DataObject, shape: dict[str, str]) -> None:
    answers = {
        what: data.draw(mangled(answer)) if data.draw(st.booleans()) else answer
        for what, answer in shape.items()
    }
    try:
        devices = AmdSmi(Tool(answers)).read("n1")
    except SetupError:
        return
    check(devices)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["gpu", "asic", "bus", "links", "vram", "size", "value"]), inner)
    ),
    max_leaves=12,
)


def test_an_odd_entry_costs_no_other_gpu() -> None:
    metric = json.loads(NEW["metric"])
    first = metric["gpu_data"][0]
    for odd in ([1, None, {"name": 0}, {"gpu": -1}], [{"gpu": 7}, {"gpu": 7}]):
        answers = {**NEW, "metric": json.dumps({"gpu_data": [*odd, first, *metric["gpu_data"][1:]]})}
        assert [d.index for d in AmdSmi(Tool(answers)).read("n1") if d.model != "unknown"] == [1, 0]


def test_a_gpu_whose_memory_is_not_told_still_works_and_says_so() -> None:
    static = json.loads(NEW["static"])
    metric = json.loads(NEW["metric"])
    for entry in (*static["gpu_data"], *metric["gpu_data"]):
        entry.pop("vram", None), entry.pop("mem_usage", None)
    answers = {**NEW, "static": json.dumps(static), "metric": json.dumps(metric)}
    first, _ = AmdSmi(Tool(answers)).read("n1")
    assert (first.healthy, first.memory_bytes, first.fault) == (True, 0, "amd-smi does not tell its memory")
    refuses = frozenset({"amdsmi_get_gpu_vram_usage"})
    (device,) = read_processors(FakeAmdSmi([replace(A, refuses=refuses)]), "n1")
    assert (device.healthy, device.fault) == (True, "amdsmi does not tell its memory")


@given(JSON)
def test_any_json_at_all_is_read_or_refused(content: object) -> None:
    answers = dict.fromkeys(("static", "metric", "list", "topology"), json.dumps(content))
    try:
        check(AmdSmi(Tool(answers)).read("n1"))
    except SetupError as error:
        reason = error.message
    else:
        reason = "read"
    assert reason


def test_warnings_before_the_json_are_passed_over() -> None:
    assert parse_entries('WARNING: [old] driver\n\n [{"gpu": "3"}]', "x").keys() == {3}


A, B, C = (Gpu(f"uuid-{i}", f"0000:0{i}:00.0", hip_id=i) for i in range(3))
XGMI, PCIE = LinkType.AMDSMI_LINK_TYPE_XGMI, LinkType.AMDSMI_LINK_TYPE_PCIE


def test_the_library_is_read() -> None:
    links = {
        ("uuid-0", "uuid-1"): (XGMI, 1),
        ("uuid-0", "uuid-2"): (PCIE, 2),
        ("uuid-1", "uuid-2"): (XGMI, 2),
    }
    smi = FakeAmdSmi([replace(A, hip_id=2, busy=97), B, replace(C, hip_id=0, numa=1)], links)
    devices = read_processors(smi, "n1")
    first = devices[0]
    assert [(d.id, d.index, d.numa) for d in devices] == [
        ("uuid-0", 2, 0),
        ("uuid-1", 1, 0),
        ("uuid-2", 0, 1),
    ]
    assert (first.model, first.bus_id) == ("AMD Instinct MI300X OAM", "0000:00:00.0")
    assert (first.memory_bytes, first.memory_used_bytes) == (196_592 * MIB, 284 * MIB)
    assert (first.utilisation_percent, first.temperature_celsius, first.power_watts) == (97, 43, 160)
    assert [(link.peer, link.kind, link.bandwidth_gbytes_per_second) for link in first.links] == [
        ("uuid-1", "XGMI", 100),
        ("uuid-2", "PCIe", None),
    ]
    assert devices[1].links == []
    assert smi.shutdowns == 1


def test_partitions_that_share_a_uuid_are_told_apart() -> None:
    parts = [replace(A, hip_id=i, mode="CPX", name="MI300X") for i in range(2)]
    devices = read_processors(FakeAmdSmi(parts), "n1")
    assert [(d.id, d.model) for d in devices] == [("amd-n1-0", "MI300X CPX"), ("amd-n1-1", "MI300X CPX")]


def test_a_gpu_with_memory_errors_is_unhealthy() -> None:
    (device,) = read_processors(FakeAmdSmi([replace(A, uncorrectable=1)]), "n1")
    assert (device.healthy, device.fault) == (False, "1 uncorrected memory errors since the driver started")


@given(st.lists(st.frozensets(st.sampled_from(sorted(READINGS))), min_size=3, max_size=3))
def test_whatever_the_library_refuses_there_is_one_device_per_gpu(refused: list[frozenset[str]]) -> None:
    gpus = [replace(gpu, refuses=names) for gpu, names in zip((A, B, C), refused, strict=True)]
    devices = read_processors(FakeAmdSmi(gpus, {("uuid-0", "uuid-1"): (XGMI, 1)}), "n1")
    assert len(devices) == 3
    check(devices)


def test_a_library_that_shows_nothing_is_a_reason() -> None:
    with pytest.raises(SetupError, match=r"amdsmi does not start: Error code: 34 \| AMDSMI_STATUS_DRIVER"):
        read_processors(FakeAmdSmi([], starts=False), "n1")
    with pytest.raises(SetupError, match="the AMD driver shows no GPU"):
        read_processors(FakeAmdSmi([]), "n1")


def test_the_tool_is_asked_where_the_library_is_missing_or_shows_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(amd, "_amd_smi", lambda: AmdSmi(Tool(NEW)))
    for library in (None, FakeAmdSmi([], starts=False)):
        monkeypatch.setattr(amd, "_library", lambda library=library: library)
        assert [device.index for device in probe_amd("n1")] == [1, 0]
    monkeypatch.setattr(amd, "_library", lambda: FakeAmdSmi([A]))
    assert [device.id for device in probe_amd("n1")] == ["uuid-0"]
    monkeypatch.setattr(amd, "_library", lambda: FakeAmdSmi([]))
    monkeypatch.setattr(amd, "_amd_smi", lambda: AmdSmi(Tool({})))
    with pytest.raises(SetupError, match="the AMD driver shows no GPU; `amd-smi metric --json` failed"):
        probe_amd("n1")
