"""Less weight on the processor for what others wait for less."""

from __future__ import annotations

import math
import os
import resource
from contextlib import suppress
from pathlib import Path

NICEST = 19
"""Takes only what others leave."""


def give_way(niceness: int, pid: int = 0) -> None:
    """Make a process (0 = this one) nicer by 0 to ``NICEST``, and its session with it.

    Where the kernel shares the processor among sessions first (autogroups), niceness counts within one only.
    """
    who = pid or os.getpid()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, who, os.getpriority(os.PRIO_PROCESS, who) + niceness)
        Path(f"/proc/{who}/autogroup").write_text(str(niceness))


def give_way_alone(niceness: int) -> None:
    """The same for this process, in a session of its own: whoever started it keeps its weight."""
    with suppress(OSError):  # it leads one already
        os.setsid()
    give_way(niceness)


def bind_process(cpu_seconds: float, memory_bytes: int, niceness: int = 10) -> None:
    """Bind this process, which works on what a tenant sent: its CPU time, its address space, and its place
    behind others."""
    seconds = math.ceil(cpu_seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(niceness)
