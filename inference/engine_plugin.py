"""What every process of an engine does first: vLLM loads it as a plugin (``vllm.general_plugins``)."""

from __future__ import annotations

import ctypes
import platform
import sys

from common.environment import kv_poll_microseconds_of_process
from inference.core.engine_command import KV_POLL_VARIABLE

_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_TILE_DATA = 18


def prepare() -> None:
    """All of it. Calling it again changes nothing."""
    allow_amx()
    pause_microseconds = kv_poll_microseconds_of_process(KV_POLL_VARIABLE)
    if pause_microseconds:
        poll_calmly(pause_microseconds)
        use_all_cores()


def allow_amx() -> None:
    """Ask Linux for the tile registers of x86 (AMX), which a process must before its first such instruction
    (arch_prctl(2)). vLLM 0.32 computes attention with them without asking; most engines have oneDNN, which
    does, at work before, but not those with adapters: they died at the first request (SIGILL). Where there is
    none, nothing happens.
    """
    if sys.platform == "linux" and platform.machine() == "x86_64":
        ctypes.CDLL(None, use_errno=True).syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_TILE_DATA)


def poll_calmly(microseconds: int) -> None:
    """Let NIXL's thread look for progress no more often than this where nothing wakes it. NIXL's Python API
    (1.5) asks for a look without any pause: such a thread takes a core, also while nothing is transferred,
    and where cores are few it takes it from the model. Without NIXL nothing happens.
    """
    try:
        from nixl._bindings import nixlAgentConfig
    except ImportError:
        return
    asked = nixlAgentConfig.pthrDelay
    nixlAgentConfig.pthrDelay = property(
        asked.fget, lambda config, value: asked.fset(config, max(value, microseconds))
    )


def use_all_cores() -> None:
    """Let an engine on CPUs that hands KV caches over compute where there is room. vLLM's connector (0.32)
    binds the thread that runs the model to the last core of each NUMA node, so all such engines of a node
    share that core, whatever the others do. It binds nothing where it is told of no node.
    """
    try:
        from vllm.platforms.cpu import CpuPlatform
    except ImportError:
        return
    CpuPlatform.discover_numa_topology = classmethod(lambda cls: [])  # type: ignore[assignment, method-assign]
