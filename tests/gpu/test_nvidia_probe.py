"""The NVML probe on a machine that has an NVIDIA GPU."""

import shutil
import subprocess

import pytest

from scheduler.adapters.devices.nvidia import probe_nvidia

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="needs an NVIDIA GPU"),
]


def test_the_probe_agrees_with_nvidia_smi() -> None:
    query = ["nvidia-smi", "--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits"]
    lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().splitlines()
    expected = [tuple(part.strip() for part in line.split(",")) for line in lines]
    devices = probe_nvidia()
    assert [(d.id, d.model, str(d.memory_bytes // 1024**2)) for d in devices] == [
        (uuid, name.removeprefix("NVIDIA "), memory) for uuid, name, memory in expected
    ]
    assert [device.index for device in devices] == list(range(len(expected)))
    assert all(device.healthy for device in devices)
    assert all(device.temperature_celsius and device.power_watts for device in devices)
