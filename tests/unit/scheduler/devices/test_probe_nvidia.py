"""What the NVML probe makes of what drivers answer. Values are those of H100 and H200 hosts."""

from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SetupError
from common.resources.pool import Device
from scheduler.adapters.devices.facts import bus_address, numa_node, whole
from scheduler.adapters.devices.nvidia import read_gpus
from tests.fixtures.devices.nvml import MIB, READINGS, SWITCH_BUS, FakeNvml, Gpu

BUSES = ("0E", "13", "49", "4F", "90", "96", "CB", "D1")
HGX = [Gpu(f"GPU-{bus}", f"00000000:{bus}:00.0", link_ends=(SWITCH_BUS,) * 18) for bus in BUSES]


def probe(*gpus: Gpu, **changes: object) -> list[Device]:
    return read_gpus(FakeNvml(list(gpus), **changes), "n1")  # type: ignore[arg-type]


def test_a_host_of_eight_h100_is_one_nvlink_island() -> None:
    devices = probe(*HGX)
    first = devices[0]
    assert (first.id, first.index, first.model) == ("GPU-0E", 0, "H100 80GB HBM3")
    assert first.memory_bytes == 81_559 * MIB
    assert (first.memory_used_bytes, first.utilisation_percent) == (482 * MIB, 0)
    assert (first.temperature_celsius, first.power_watts, first.bus_id) == (39, 73, "0000:0e:00.0")
    assert (first.healthy, first.fault) == (True, "")
    for device in devices:
        assert {link.peer for link in device.links} == {d.id for d in devices} - {device.id}
        assert {(link.kind, link.lanes) for link in device.links} == {("NVLink", 18)}
    assert first.links[0].bandwidth_gbytes_per_second == 956


def test_direct_nvlinks_are_counted_for_each_pair() -> None:
    bus = [f"00000000:{i:02X}:00.0" for i in range(3)]
    ends = [(bus[1], bus[1], bus[2], ""), (bus[0], bus[0]), (bus[0],)]
    devices = probe(*(Gpu(f"g{i}", bus[i], link_ends=ends[i]) for i in range(3)))
    lanes = [{(link.peer, link.kind, link.lanes) for link in device.links} for device in devices]
    assert lanes == [
        {("g1", "NVLink", 2), ("g2", "NVLink", 1)},
        {("g0", "NVLink", 2)},
        {("g0", "NVLink", 1)},
    ]


def test_a_switch_joins_only_pairs_with_a_path() -> None:
    devices = probe(*HGX[:3], no_path=frozenset({("GPU-0E", "GPU-49")}))
    assert [link.peer for link in devices[0].links] == ["GPU-13"]
    assert [link.peer for link in devices[1].links] == ["GPU-0E", "GPU-49"]


def test_without_nvlink_neighbours_under_one_host_bridge_are_linked_by_pcie() -> None:
    cards = [replace(gpu, link_ends=()) for gpu in HGX[:3]]
    devices = probe(*cards, levels={("GPU-0E", "GPU-13"): 30, ("GPU-0E", "GPU-49"): 40})
    assert [[(link.peer, link.kind) for link in device.links] for device in devices] == [
        [("GPU-13", "PCIe")],
        [("GPU-0E", "PCIe")],
        [],
    ]


def test_each_mig_instance_is_a_device_of_its_own() -> None:
    named = Gpu("MIG-a", name=b"NVIDIA H100 80GB HBM3 MIG 1g.20gb", memory_mib=20_096, used_mib=16)
    unnamed = Gpu("MIG-b", name="NVIDIA H100 80GB HBM3", memory_mib=40_448, slices=(1, 3))
    cut = replace(HGX[1], mig=(named, None, unnamed, None, None, None, None))
    devices = probe(HGX[0], cut, HGX[2])
    assert [(d.id, d.index, d.model, d.memory_bytes // MIB) for d in devices] == [
        ("GPU-0E", 0, "H100 80GB HBM3", 81_559),
        ("MIG-a", 10, "H100 80GB HBM3 MIG 1g.20gb", 20_096),
        ("MIG-b", 12, "H100 80GB HBM3 MIG 1c.3g.40gb", 40_448),
        ("GPU-49", 2, "H100 80GB HBM3", 81_559),
    ]
    one = devices[1]
    assert (one.bus_id, one.temperature_celsius, one.power_watts, one.links) == ("0000:13:00.0", 39, None, [])


def test_with_mig_on_and_nothing_cut_the_gpu_is_there_but_not_offered() -> None:
    uncut, other = probe(replace(HGX[0], mig=(None,) * 7), HGX[1])
    assert (uncut.id, uncut.healthy) == ("GPU-0E", False)
    assert "MIG is on and no instance is cut" in uncut.fault
    assert other.healthy


@pytest.mark.parametrize(
    "gpu",
    [
        replace(HGX[0], name="NVIDIA GB10", lacks=frozenset({"nvmlDeviceGetMemoryInfo"})),
        replace(HGX[0], name="NVIDIA GB10", memory_mib=0, used_mib=0),
    ],
)
def test_a_gpu_that_shares_the_hosts_memory_has_the_hosts_memory(gpu: Gpu) -> None:
    (device,) = probe(gpu)
    assert (device.model, device.healthy, device.fault) == ("GB10", True, "")
    assert device.memory_bytes == psutil.virtual_memory().total
    assert device.memory_used_bytes is None


@pytest.mark.parametrize("reading", sorted({*READINGS} - {"nvmlDeviceGetUUID", "nvmlDeviceGetName"}))
def test_no_reading_that_is_not_supported_condemns_a_gpu(reading: str) -> None:
    devices = probe(*(replace(gpu, lacks=frozenset({reading})) for gpu in HGX[:2]))
    assert [(device.id, device.healthy) for device in devices] == [("GPU-0E", True), ("GPU-13", True)]


def test_a_mig_instance_is_as_sick_as_its_gpu() -> None:
    cut = replace(HGX[0], ecc_errors=2, mig=(Gpu("MIG-a"), Gpu("MIG-b", refuses=frozenset({"*"}))))
    healthy = probe(cut)
    assert [(d.healthy, d.fault[:10]) for d in healthy] == [(False, "2 uncorrec"), (False, "2 uncorrec")]


@pytest.mark.parametrize(
    ("gpu", "identity", "fault"),
    [
        (replace(HGX[0], refuses=frozenset({"handle"})), "nvidia-n1-0", "GPU is lost"),
        (replace(HGX[0], refuses=frozenset({"*"})), "nvidia-n1-0", "GPU is lost"),
        (replace(HGX[0], refuses=frozenset({"nvmlDeviceGetMemoryInfo"})), "GPU-0E", "GPU is lost"),
        (replace(HGX[0], remap_failed=1), "GPU-0E", "a memory row could not be remapped"),
        (replace(HGX[0], ecc_errors=3), "GPU-0E", "3 uncorrected memory errors since the driver started"),
    ],
)
def test_a_gpu_that_is_broken_or_answers_partly_is_unhealthy_not_absent(
    gpu: Gpu, identity: str, fault: str
) -> None:
    broken, fine = probe(gpu, HGX[1])
    assert (broken.id, broken.index, broken.healthy, broken.fault) == (identity, 0, False, fault)
    assert fine.healthy


@pytest.mark.parametrize("reading", sorted({*READINGS} - {"nvmlDeviceGetUUID", "nvmlDeviceGetName"}))
def test_no_single_reading_is_needed_to_see_the_gpu(reading: str) -> None:
    devices = probe(*(replace(gpu, refuses=frozenset({reading})) for gpu in HGX[:2]))
    assert [device.id for device in devices] == ["GPU-0E", "GPU-13"]
    assert [device.healthy for device in devices] == [reading != "nvmlDeviceGetMemoryInfo"] * 2


@given(st.lists(st.frozensets(st.sampled_from(["handle", "*", *READINGS])), min_size=1, max_size=4))
def test_whatever_is_refused_there_is_one_device_per_gpu(refused: list[frozenset[str]]) -> None:
    gpus = [replace(gpu, refuses=names) for gpu, names in zip(HGX, refused, strict=False)]
    devices = probe(*gpus)
    assert [device.index for device in devices] == list(range(len(gpus)))
    assert len({device.id for device in devices}) == len(gpus)
    assert all(device.healthy or device.fault for device in devices)


def test_a_missing_driver_is_a_reason() -> None:
    with pytest.raises(SetupError, match="NVML does not start: Driver Not Loaded"):
        read_gpus(FakeNvml([], starts=False), "n1")
    nvml = FakeNvml([])
    with pytest.raises(SetupError, match="shows no GPU"):
        read_gpus(nvml, "n1")
    assert nvml.shutdowns == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [("101.8", 102), (" -3 ", -3), ("0", 0), ("-", None), ("NA", None), ("1e3", None), ("9" * 99, None)],
)
def test_numbers_of_tools_are_read(text: str, number: int | None) -> None:
    assert whole(text) == number


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("00000000:0E:00.0", "0000:0e:00.0"),
        ("0000:c1:00.0", "0000:c1:00.0"),
        ("00010000:00:1F.7", "10000:00:1f.7"),
        ("c1:00.0", "0000:c1:00.0"),
        ("NA", ""),
        ("../../etc", ""),
    ],
)
def test_bus_addresses_are_the_kernels(text: str, address: str) -> None:
    assert bus_address(text) == address


def test_the_kernel_tells_the_numa_node(tmp_path: Path) -> None:
    for bus, content in (("0000:01:00.0", "1\n"), ("0000:02:00.0", "-1\n"), ("0000:03:00.0", "x")):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "numa_node").write_text(content)
    nodes = [numa_node(f"0000:0{i}:00.0", tmp_path) for i in range(1, 5)]
    assert nodes == [1, None, None, None]
    assert numa_node("", tmp_path) is None
