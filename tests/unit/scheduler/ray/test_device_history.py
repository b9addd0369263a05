"""Which devices an agent tells of, what it remembers of them, and what it finds on the disk."""

from pathlib import Path

import pytest

from common.resources.pool import Device
from scheduler.adapters.ray.drivers import driver_versions
from scheduler.adapters.ray.history import DeviceHistory
from scheduler.adapters.ray.holding import Held, withheld
from scheduler.adapters.ray.inventory import PERIOD_SECONDS, Inventory, data_name
from tests.fixtures.fabric import accelerator, cpu_device


class Watch:
    """A history with a clock of its own."""

    def __init__(self) -> None:
        self.history = DeviceHistory()
        self.seconds = 0.0

    def see(self, *devices: Device, after: float = 2.0, failed: str = "") -> dict[str, str]:
        """Device id -> its fault, as told after these were found."""
        self.seconds += after
        faults = {failed: "the driver does not answer"} if failed else {}
        told = self.history.observe(devices, faults, self.seconds, int(self.seconds * 1000))
        return {device.id: "" if device.healthy else device.fault for device in told}


def broken(device: Device) -> Device:
    return device.model_copy(update={"healthy": False, "fault": "XID 79"})


def test_a_device_that_recovers_waits_and_waits_longer_each_time() -> None:
    watch, device = Watch(), accelerator("n", 0)
    waits = []
    for _ in range(3):
        assert watch.see(broken(device)) == {device.id: "XID 79"}
        began = watch.seconds
        while watch.see(device)[device.id]:
            assert watch.seconds - began < 600
        waits.append(round(watch.seconds - began, -1))
    assert waits == [30, 60, 120]


def test_a_fault_of_long_ago_is_forgiven() -> None:
    watch, device = Watch(), accelerator("n", 0)
    watch.see(broken(device))
    watch.see(device)
    watch.see(device, after=3700)
    watch.see(broken(device))
    assert "once" in watch.see(device)[device.id]


def test_a_device_that_is_gone_is_faulty_after_a_moment_and_forgotten_later() -> None:
    watch, first, second = Watch(), accelerator("n", 0), accelerator("n", 1)
    watch.see(first, second)
    assert watch.see(first)[second.id] == ""
    assert watch.see(first, after=5)[second.id] == "no longer shown by its probe"
    assert second.id not in watch.see(first, after=3600)


def test_a_probe_that_fails_for_a_while_takes_no_device_away() -> None:
    watch, device = Watch(), accelerator("n", 0)
    watch.see(device)
    assert watch.see(after=14, failed="nvidia") == {device.id: ""}
    assert watch.see(broken(device), after=14, failed="nvidia") == {device.id: ""}
    assert watch.see(after=14, failed="nvidia") == {device.id: "the driver does not answer"}


def test_samples_are_kept_for_an_hour() -> None:
    watch, device = Watch(), accelerator("n", 0)
    busy = device.model_copy(update={"utilisation_percent": 93})
    watch.see(device)
    for _ in range(2000):
        watch.see(busy, after=5)
    samples = watch.history.series()[device.id]
    assert len(samples) == 720
    assert samples[-1].time_ms - samples[0].time_ms == 719 * 5000
    assert samples[-1].utilisation_percent == 93


def test_the_inventory_names_models_and_datasets(tmp_path: Path) -> None:
    for folder in ("models/llama", "models/.cache", "datasets/datasets--acme--chats"):
        (tmp_path / folder).mkdir(parents=True)
    inventory = Inventory(tmp_path)
    assert inventory.names(0.0) == ("acme/chats", "llama")
    (tmp_path / "models" / "qwen").mkdir()
    assert "qwen" not in inventory.names(PERIOD_SECONDS - 1)
    assert "qwen" in inventory.names(PERIOD_SECONDS)
    assert Inventory(tmp_path / "nothing").names(0.0) == ()


@pytest.mark.parametrize(
    ("entry", "name"), [("models--meta--llama-3", "meta/llama-3"), ("tiny", "tiny"), ("a--b", "a--b")]
)
def test_names_of_a_hub_cache_are_those_of_the_hub(entry: str, name: str) -> None:
    assert data_name(entry) == name


@pytest.mark.parametrize(
    ("path", "text", "versions"),
    [
        (
            "proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC 12",
            {"nvidia": "550.54.15"},
        ),
        (
            "proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release Build  (dvs)",
            {"nvidia": "560.35.03"},
        ),
        ("sys/module/amdgpu/version", "6.8.5\n", {"amd": "6.8.5"}),
        ("usr/local/Ascend/driver/version.info", "Version=23.0.3\nrelease=x\n", {"ascend": "23.0.3"}),
        ("sys/module/amdgpu/version", "?", {}),
    ],
)
def test_driver_versions_are_read_where_drivers_tell_them(
    tmp_path: Path, path: str, text: str, versions: dict[str, str]
) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert driver_versions(tmp_path) == versions


def test_what_another_ray_job_has_is_not_offered() -> None:
    devices = [accelerator("n", 0), accelerator("n", 1), accelerator("n", 2, "ascend"), cpu_device("n")]
    held = Held({"GPU": 2.0}, {"GPU": 1.0}, {"GPU": {"1"}})
    assert withheld(devices, held) == {devices[0].id}
    assert held.message == "held in Ray by another job: 1 of 2 GPU"


def test_all_is_offered_where_all_is_held_or_ray_has_none() -> None:
    devices = (accelerator("n", 0), accelerator("n", 1))
    assert withheld(devices, None) == frozenset()
    assert withheld(devices, Held({"GPU": 2.0}, {"GPU": 2.0}, {"GPU": {"0", "1"}})) == frozenset()
    assert withheld(devices, Held({"NPU": 2.0})) == frozenset()
