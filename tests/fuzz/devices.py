"""What vendors' tools print about their devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.errors import SetupError
from common.resources.pool import Device
from scheduler.adapters.devices.amd import AmdSmi
from scheduler.adapters.devices.ascend import NpuSmi
from tests.fuzz.target import Target, answer

_OUTPUTS = Path(__file__).parents[1] / "fixtures" / "devices"
_NEXT_OUTPUT = b"\n====\n"
_NPU_SMI = ("-m", "topo", "board")
_AMD_SMI = ("metric", "static", "list", "topology")


class _Outputs:
    """Answers of a tool: the first for a command that none of ``words`` is in, or one for each word."""

    def __init__(self, data: bytes, words: Sequence[str], plain: bool) -> None:
        outputs = [output.decode(errors="replace") for output in data.split(_NEXT_OUTPUT)]
        self._plain = outputs.pop(0) if plain else ""
        self._by_word = dict(zip(words, outputs, strict=False))

    def __call__(self, command: Sequence[str]) -> str:
        for word, output in self._by_word.items():
            if word in command:
                return output
        if self._plain:
            return self._plain
        raise SetupError(f"{command[0]} does not know that")


def check_npu_smi(data: bytes) -> None:
    """Ascend devices are read twice, as in daily use, and none is there twice."""
    tool = NpuSmi(_Outputs(data, _NPU_SMI, plain=True))
    for _ in range(2):
        _check(answer(lambda: tool.read("n"), SetupError))


def check_amd_smi(data: bytes) -> None:
    """The same for AMD devices."""
    tool = AmdSmi(_Outputs(data, _AMD_SMI, plain=False))
    for _ in range(2):
        _check(answer(lambda: tool.read("n"), SetupError))


def _check(devices: list[Device] | None) -> None:
    if devices is None:
        return
    assert devices
    assert len({device.id for device in devices}) == len({device.index for device in devices}) == len(devices)
    for device in devices:
        Device.model_validate_json(device.model_dump_json(by_alias=True))


def _seed(*names: str) -> bytes:
    return _NEXT_OUTPUT.join((_OUTPUTS / name).read_bytes() for name in names)


TARGETS = (
    Target(
        "npu-smi",
        "what npu-smi prints",
        check_npu_smi,
        (
            _seed("npu_smi_910b.txt", "npu_smi_mapping.txt", "npu_smi_910b_topo.txt", "npu_smi_board.txt"),
            _seed(
                "npu_smi_910c.txt", "npu_smi_mapping_phy.txt", "npu_smi_910c_topo.txt", "npu_smi_board.txt"
            ),
            _seed("npu_smi_310p.txt"),
            _seed("npu_smi_a5.txt", "npu_smi_a5_mapping.txt"),
        ),
        (
            "NPU",
            "Chip",
            "Bus-Id",
            "Phy-ID",
            "Device",
            "HBM-Usage",
            "NA",
            "OK",
            "| ",
            "NPU ID",
            "VDie ID",
            "HCCS",
        ),
        {
            "a header that names no chip": b"| NPU Name | Health | Power |\n| Chips | Bus-Id | AICore |\n"
            b"| 0 910B3 | OK | 1 |\n| 0 | 0000:C1:00.0 | 0 |\n",
        },
    ),
    Target(
        "amd-smi",
        "what amd-smi prints",
        check_amd_smi,
        (
            _seed("amd_smi_metric.json", "amd_smi_static.json", "amd_smi_list.json", "amd_smi_topology.json"),
            _seed("amd_smi_metric_old.json", "amd_smi_static_old.json"),
            b'[{"gpu":0,"vram":{"total":{"value":1024,"unit":"MB"}},}]\n====\n[{"gpu":0,"asic":{}}]',
        ),
        (
            "gpu",
            "value",
            "unit",
            "MB",
            "N/A",
            "vram",
            "total",
            "asic",
            "market_name",
            "bus",
            "bdf",
            "hip_id",
            "uuid",
        ),
        {
            "half a character": b'[{"gpu":0}]\n====\n[{"gpu":0,"asic":{"market_name":"\\ud800"}}]',
            "nothing but empty lines": b"\n" * 60_000,
            "a number that is deep lists": b'[{"gpu":' + b"[" * 900 + b"]" * 900 + b"}]\n====\n[]",
        },
    ),
)
