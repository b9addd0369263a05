"""What is read of devices, whole, is what was approved: of what each tool and library tells, and of the same
after one accident of every kind."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from common.errors import SetupError
from common.resources.pool import Device
from scheduler.adapters.devices.amd import AmdSmi
from scheduler.adapters.devices.amd_library import read_processors
from scheduler.adapters.devices.ascend import NpuSmi
from scheduler.adapters.devices.dcmi import Dcmi
from scheduler.adapters.devices.nvidia import read_gpus
from tests.fixtures import approving as approved
from tests.fixtures.devices import text
from tests.fixtures.devices.amdsmi import READINGS as AMD_READINGS
from tests.fixtures.devices.amdsmi import FakeAmdSmi, LinkType
from tests.fixtures.devices.nvml import READINGS as NVML_READINGS
from tests.fixtures.devices.nvml import SWITCH_BUS, FakeNvml, Gpu
from tests.unit.scheduler.devices import test_probe_amd, test_probe_ascend, test_probe_dcmi

KEPT = Path(__file__).with_name("devices.txt")
HOST_MEMORY_BYTES = 128 * 1024**3
BUSES = ("00000000:0E:00.0", "00000000:13:00.0", "00000000:49:00.0")
NVIDIA = (
    Gpu("GPU-a", BUSES[0], link_ends=(SWITCH_BUS,) * 18, busy=91, celsius=70),
    Gpu("GPU-b", BUSES[1], link_ends=(*[BUSES[2]] * 2, SWITCH_BUS), used_mib=70_000, watts=650),
    Gpu("GPU-c", BUSES[2], link_ends=(BUSES[1], BUSES[1]), mig=(Gpu("MIG-d", slices=(1, 2)), None)),
)
XGMI, PCIE = LinkType.AMDSMI_LINK_TYPE_XGMI, LinkType.AMDSMI_LINK_TYPE_PCIE
AMD = (
    replace(test_probe_amd.A, hip_id=2, busy=97),
    replace(test_probe_amd.B, uncorrectable=3, mode="CPX"),
    replace(test_probe_amd.C, hip_id=0, numa=1, watts="N/A"),
)
AMD_LINKS = {
    (AMD[0].uuid, AMD[1].uuid): (XGMI, 1),
    (AMD[1].uuid, AMD[0].uuid): (XGMI, 2),
    (AMD[0].uuid, AMD[2].uuid): (PCIE, 2),
}


def told(read: Callable[[], Sequence[Device]]) -> str:
    """A line for each device, or why there are none."""
    try:
        return "\n".join(map(_line, read()))
    except SetupError as error:
        return f"none: {error}"


def _line(device: Device) -> str:
    """All but what the host itself tells of its bus."""
    fields = device.model_dump(mode="json", exclude_defaults=True, exclude={"numa"})
    return json.dumps(fields).replace('"', "")


def _cut(text: str) -> Iterator[str]:
    """The text with a line dropped, said twice, about something broken, or cut in two."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        for changed in ([], [line, line], [line.replace("OK", "Alarm")], [line[: len(line) // 2]]):
            yield "\n".join([*lines[:number], *changed, *lines[number + 1 :]])


def _changed(text: str) -> Iterator[str]:
    """JSON with a member or element dropped, not told, or of another type; other text with odd lines."""
    try:
        content = json.loads(text)
    except ValueError:
        yield from _cut(text)
    else:
        yield from map(json.dumps, _each_changed(content))


def check(name: str, read: Callable[[], Sequence[Device]], accidents: Iterator[str]) -> None:
    """What is read is kept as text, what is read after accidents as a digest."""
    after = "\n".join(accidents)
    approved.check(KEPT, {name: f"{told(read)}\nafter accidents: {approved.digest(after)}"})


def test_npu_smi_is_read_as_approved() -> None:
    tools = {name: test_probe_ascend.generation(name).answers for name in test_probe_ascend.GENERATIONS}
    tools["a5"] = {"": text("npu_smi_a5.txt"), "m": text("npu_smi_a5_mapping.txt")}
    tools["910a"] |= {f"tboardi{npu}c0": text("npu_smi_board.txt") for npu in range(8)}
    for name, answers in tools.items():
        _check_tool(f"npu-smi {name}", answers, _read_npu_smi, _cut)


def _read_npu_smi(answers: dict[str, str]) -> Sequence[Device]:
    others = {words: text for words, text in answers.items() if words}
    return NpuSmi(test_probe_ascend.Tool(answers[""], **others)).read("n1")


def test_amd_smi_is_read_as_approved() -> None:
    for name, answers in (("new", test_probe_amd.NEW), ("old", test_probe_amd.OLD)):
        _check_tool(f"amd-smi {name}", answers, _read_amd_smi, _changed)


def _read_amd_smi(answers: dict[str, str]) -> Sequence[Device]:
    return AmdSmi(test_probe_amd.Tool(answers)).read("n1")


def _check_tool(
    name: str,
    answers: dict[str, str],
    read: Callable[[dict[str, str]], Sequence[Device]],
    change: Callable[[str], Iterator[str]],
) -> None:
    accidents = (
        told(partial(read, {**answers, asked: changed}))
        for asked, answer in answers.items()
        for changed in change(answer)
    )
    check(name, partial(read, answers), accidents)


def _each_changed(content: Any) -> Iterator[Any]:
    """The content with one member or element dropped, not told, or of another type."""
    places = content.items() if isinstance(content, dict) else enumerate(content)
    for place, value in list(places):
        for other in ("N/A", None, 7):
            yield _with(content, place, other)
        if isinstance(value, dict | list):
            for changed in _each_changed(value):
                yield _with(content, place, changed)


def _with(content: Any, place: Any, value: Any) -> Any:
    copied = content.copy()
    copied[place] = value
    return copied


def test_amdsmi_is_read_as_approved() -> None:
    def read(*gpus: Any) -> Sequence[Device]:
        return read_processors(FakeAmdSmi(list(gpus), AMD_LINKS), "n1")

    def accidents() -> Iterator[str]:
        for reading in AMD_READINGS:
            for at in range(len(AMD)):
                refusing = replace(AMD[at], refuses=frozenset({reading}))
                yield told(partial(read, *AMD[:at], refusing, *AMD[at + 1 :]))

    check("amdsmi", lambda: read(*AMD), accidents())


def test_nvml_is_read_as_approved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that tells no memory of its own has the host's."""
    monkeypatch.setattr("scheduler.adapters.devices.nvidia.host_memory_bytes", lambda: HOST_MEMORY_BYTES)
    levels = {("GPU-a", "GPU-c"): 30}

    def read(*gpus: Gpu) -> Sequence[Device]:
        return read_gpus(FakeNvml(list(gpus), levels=levels), "n1")

    def accidents() -> Iterator[str]:
        for reading in NVML_READINGS:
            for at in range(len(NVIDIA)):
                for changes in ({"refuses": frozenset({reading})}, {"lacks": frozenset({reading})}):
                    other = replace(NVIDIA[at], **changes)  # type: ignore[arg-type]
                    yield told(partial(read, *NVIDIA[:at], other, *NVIDIA[at + 1 :]))

    check("nvml", lambda: read(*NVIDIA), accidents())


def test_dcmi_is_read_as_approved() -> None:
    def read(**changes: Any) -> Sequence[Device]:
        return Dcmi(test_probe_dcmi.Library(**changes)).read("n1")

    def accidents() -> Iterator[str]:
        for call in test_probe_dcmi.CALLS:
            for kind in ("refused", "missing"):
                yield told(partial(read, **{kind: {call}}))

    check("dcmi", lambda: read(health=1, first_physical=4), accidents())
