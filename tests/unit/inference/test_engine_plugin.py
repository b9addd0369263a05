"""Each process of an engine may use the tile registers of its processor, where it has any."""

import ctypes
import platform
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from inference.engine_plugin import allow_amx

ASKED = """
import ctypes
from inference.engine_plugin import allow_amx

def allowed(code):
    mask = ctypes.c_ulong()
    ctypes.CDLL(None).syscall(158, code, ctypes.byref(mask))
    return mask.value

allow_amx()
allow_amx()
print(allowed(0x1021) & ~allowed(0x1022) & 1 << 18)
"""
"""What Linux supports (ARCH_GET_XCOMP_SUPP) and the process may not use (ARCH_GET_XCOMP_PERM)."""


def test_vllm_finds_it_and_it_can_be_called_more_than_once() -> None:
    [plugin] = [one for one in entry_points(group="vllm.general_plugins") if one.name == "computility"]
    assert plugin.load() is allow_amx
    for _ in range(2):
        allow_amx()


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="AMX is of x86")
def test_what_the_processor_has_may_be_used() -> None:
    answer = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "0"


def test_elsewhere_nothing_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str | None] = []
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(ctypes, "CDLL", lambda name, **_: loaded.append(name))
    allow_amx()
    assert loaded == []
