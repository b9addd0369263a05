"""Probes run side by side: one that hangs or fails takes nothing from the others, and no device vanishes."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SetupError
from common.resources.pool import Device
from scheduler.adapters.devices import run_tool as tools
from scheduler.adapters.devices.accelerators import Accelerators
from scheduler.adapters.devices.facts import silent_device
from scheduler.adapters.devices.run_tool import run_tool


def gpu(index: int, **changes: object) -> Device:
    device = Device(
        id=f"GPU-{index}",
        index=index,
        vendor="nvidia",
        model="H100",
        memory_bytes=80,
        bus_id=f"0000:0{index}:00.0",
        power_watts=70,
    )
    return device.model_copy(update=changes)


def answers(*told: list[Device] | SetupError) -> Callable[[str], list[Device]]:
    """A probe that says one thing after the other."""
    left: Iterator[list[Device] | SetupError] = iter(told)

    def probe(node: str) -> list[Device]:
        answer = next(left)
        if isinstance(answer, SetupError):
            raise answer
        return answer

    return probe


def test_a_driver_that_hangs_is_a_reason_and_stops_no_other() -> None:
    go_on = threading.Event()
    calls = []

    def hangs(node: str) -> list[Device]:
        calls.append(node)
        go_on.wait()
        return [gpu(0)]

    npu = gpu(0, id="NPU-0", vendor="ascend")
    accelerators = Accelerators({"nvidia": hangs, "ascend": lambda node: [npu]}, timeout_seconds=0.05)
    for _ in range(2):
        found = accelerators.read("n")
        assert dict(found.faults) == {"nvidia": "the nvidia driver does not answer"}
        assert [device.id for device in found.devices] == ["NPU-0"]
    assert calls == ["n"]
    go_on.set()
    patient = Accelerators({"nvidia": hangs})
    assert [device.id for device in patient.read("n").devices] == ["GPU-0"]


def test_devices_of_a_driver_that_fails_stay_as_unhealthy_until_it_answers() -> None:
    probe = answers([gpu(0)], SetupError("NVML failed: driver unloaded"), [gpu(0)])
    accelerators = Accelerators({"nvidia": probe})
    before, during, after = (accelerators.read("n") for _ in range(3))
    assert before.devices == after.devices == (gpu(0),)
    assert dict(during.faults) == {"nvidia": "NVML failed: driver unloaded"}
    (lost,) = during.devices
    assert (lost.id, lost.healthy, lost.fault) == ("GPU-0", False, "NVML failed: driver unloaded")
    assert lost.power_watts is None


def test_a_device_that_no_longer_tells_its_name_keeps_it() -> None:
    lost = silent_device("nvidia", "n", 1, "GPU is lost")
    accelerators = Accelerators({"nvidia": answers([gpu(0), gpu(1)], [gpu(0), lost])})
    accelerators.read("n")
    devices = accelerators.read("n").devices
    assert [(d.id, d.index, d.healthy, d.fault) for d in devices] == [
        ("GPU-0", 0, True, ""),
        ("GPU-1", 1, False, "GPU is lost"),
    ]


def test_a_device_that_is_not_shown_any_more_is_unhealthy_until_another_takes_its_place() -> None:
    new = gpu(1, id="GPU-new")
    accelerators = Accelerators({"nvidia": answers([gpu(0), gpu(1)], [gpu(0)], [gpu(0), new])})
    seen = [accelerators.read("n").devices for _ in range(3)]
    assert [[(d.id, d.healthy) for d in devices] for devices in seen] == [
        [("GPU-0", True), ("GPU-1", True)],
        [("GPU-0", True), ("GPU-1", False)],
        [("GPU-0", True), ("GPU-new", True)],
    ]


def test_a_gpu_cut_into_instances_and_back_leaves_nothing_behind() -> None:
    cut = [gpu(7, id="MIG-a", bus_id="0000:00:00.0"), gpu(8, id="MIG-b", bus_id="0000:00:00.0")]
    accelerators = Accelerators({"nvidia": answers([gpu(0)], cut, cut[:1], [gpu(0)])})
    seen = [[device.id for device in accelerators.read("n").devices] for _ in range(4)]
    assert seen == [["GPU-0"], ["MIG-a", "MIG-b"], ["MIG-a"], ["GPU-0"]]


READING = st.lists(
    st.builds(
        lambda index, name, silent: (
            silent_device("nvidia", "n", index, "GPU is lost") if silent else gpu(index, id=f"GPU-{name}")
        ),
        st.integers(0, 3),
        st.sampled_from("abcd"),
        st.booleans(),
    ),
    unique_by=(lambda device: device.id, lambda device: device.index),
    max_size=4,
)


@given(st.lists(READING | st.just(SetupError("NVML failed")), min_size=1, max_size=6))
def test_whatever_a_driver_says_over_time_no_device_is_there_twice(
    told: list[list[Device] | SetupError],
) -> None:
    accelerators = Accelerators({"nvidia": answers(*told)})
    for answer in told:
        found = accelerators.read("n").devices
        devices = {device.id: device for device in found}
        assert len(devices) == len(found)
        named = [] if isinstance(answer, SetupError) else [d for d in answer if d.model != "unknown"]
        assert all(devices[device.id] == device for device in named)
        healthy = {device.id for device in devices.values() if device.healthy}
        assert healthy == {device.id for device in named}


def test_a_mistake_in_a_probe_is_not_taken_for_a_missing_driver() -> None:
    def wrong(node: str) -> list[Device]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Accelerators({"nvidia": wrong}).read("n")


def test_a_tool_prints() -> None:
    assert run_tool(["printf", "a\\377b"]) == "a\ufffdb"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["no-such-vendor-tool", "info"], "no-such-vendor-tool is not installed"),
        (["sh", "-c", "echo first; echo the driver is gone >&2; exit 3"], "status 3: the driver is gone"),
        (["sh", "-c", "echo only this; exit 3"], "status 3: only this"),
        (["false"], "`false` failed with status 1: "),
    ],
)
def test_a_tool_that_is_missing_or_fails_is_a_reason(command: list[str], reason: str) -> None:
    with pytest.raises(SetupError) as raised:
        run_tool(command)
    assert raised.value.message.endswith(reason)


def test_a_tool_that_is_no_program_is_a_reason(tmp_path: Path) -> None:
    tool = tmp_path / "npu-smi"
    tool.write_bytes(b"\x00 no program")
    tool.chmod(0o755)
    with pytest.raises(SetupError, match=r"npu-smi does not start: Exec format error"):
        run_tool([str(tool), "info"])


def test_a_tool_that_hangs_is_killed_with_all_that_it_started() -> None:
    with pytest.raises(SetupError, match=r"was not done after 0\.1 s and was killed"):
        run_tool(["sh", "-c", "sleep 600 & sleep 600"], timeout_seconds=0.1)
    assert not tools._stuck


def test_a_tool_that_cannot_be_killed_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Undead:
        pid = 7

        def poll(self) -> None:
            return None

    monkeypatch.setitem(tools._stuck, "npu-smi", Undead())
    with pytest.raises(SetupError, match=r"npu-smi hangs since an earlier call .* \(pid 7\)"):
        run_tool(["npu-smi", "info"])


def test_a_driver_that_hangs_keeps_no_process_from_ending() -> None:
    asked = []

    def probe(node: str) -> list[Device]:
        asked.append(threading.current_thread().daemon)
        return [gpu(0)]

    assert Accelerators({"nvidia": probe}).read("n").devices == (gpu(0),)
    assert asked == [True]
