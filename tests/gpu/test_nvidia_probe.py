"""The NVML probe on a machine that has an NVIDIA GPU."""

import re
import shutil
import subprocess

import pytest

from common.resources.pool import Device
from scheduler.adapters.devices.accelerators import Accelerators
from scheduler.adapters.devices.nvidia import probe_nvidia
from scheduler.catalogue import load_catalogue

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="needs an NVIDIA GPU"),
]


def nvidia_smi(*fields: str) -> list[tuple[str, ...]]:
    """One row per GPU."""
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().splitlines()
    return [tuple(part.strip() for part in line.split(",")) for line in lines]


@pytest.fixture(scope="module")
def devices() -> list[Device]:
    """Whole GPUs; what follows does not hold for MIG instances."""
    found = probe_nvidia("this-node")
    if any(device.id.startswith("MIG-") for device in found):
        pytest.skip("MIG is on")
    return found


def test_the_probe_agrees_with_nvidia_smi(devices: list[Device]) -> None:
    expected = nvidia_smi("uuid", "name", "memory.total")
    assert [(d.id, d.model, str(d.memory_bytes // 1024**2)) for d in devices] == [
        (uuid, name.removeprefix("NVIDIA "), memory) for uuid, name, memory in expected
    ]
    assert [device.index for device in devices] == list(range(len(expected)))
    assert all(device.healthy for device in devices)
    assert all(device.temperature_celsius and device.power_watts for device in devices)


def test_each_gpu_tells_its_place(devices: list[Device]) -> None:
    addresses = [bus.lower()[-12:] for (bus,) in nvidia_smi("pci.bus_id")]
    assert [device.bus_id for device in devices] == addresses
    assert all(re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]", d.bus_id) for d in devices)
    assert all(device.numa is None or device.numa >= 0 for device in devices)


def test_links_agree_with_the_topology_that_nvidia_smi_prints(devices: list[Device]) -> None:
    printed = subprocess.run(["nvidia-smi", "topo", "-m"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in re.sub(r"\x1b\[\d*m", "", printed).splitlines()]
    paths = {row[0]: row[1 : 1 + len(devices)] for row in rows if row and re.fullmatch(r"GPU\d+", row[0])}
    for device in devices:
        lanes = {link.peer: link.lanes for link in device.links if link.kind == "NVLink"}
        expected = {
            peer.id: int(path[2:])
            for peer, path in zip(devices, paths[f"GPU{device.index}"], strict=False)
            if path.startswith("NV")
        }
        assert lanes == expected
        assert device.id not in {link.peer for link in device.links}


def test_a_second_reading_finds_the_same_devices(devices: list[Device]) -> None:
    accelerators = Accelerators({"nvidia": probe_nvidia})
    for _ in range(2):
        found = accelerators.read("this-node")
        assert not found.faults
        assert [(d.id, d.index, d.links) for d in found.devices] == [
            (d.id, d.index, d.links) for d in devices
        ]


def test_the_catalogue_holds_no_more_memory_than_the_driver_reports(devices: list[Device]) -> None:
    catalogue = load_catalogue()
    for device in devices:
        spec = catalogue.find("nvidia", device.model)
        if spec is not None:
            assert spec.memory_bytes <= device.memory_bytes * 1.02
            assert spec.observed(device.memory_bytes, device.tflops).memory_bytes == device.memory_bytes
