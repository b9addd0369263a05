"""What every process of an engine does first: vLLM loads it as a plugin (``vllm.general_plugins``)."""

from __future__ import annotations

import ctypes
import platform
import sys

_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_TILE_DATA = 18


def allow_amx() -> None:
    """Ask Linux for the tile registers of x86 (AMX), which a process must before its first such instruction
    (arch_prctl(2)). vLLM 0.32 computes attention with them without asking; most engines have oneDNN, which
    does, at work before, but not those with adapters: they died at the first request (SIGILL). Where there is
    none, nothing happens.
    """
    if sys.platform == "linux" and platform.machine() == "x86_64":
        ctypes.CDLL(None, use_errno=True).syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_TILE_DATA)
