"""Find and stop every process of an instance, whoever started it and whether its parent still lives.

A process belongs to the instance when its environment says so, when an ancestor belongs to it, or when it has
a file in one of the instance's folders open for writing. The last rule finds processes that overwrote their
environment with a title (Ray workers and engine cores do).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from common.clock import SYSTEM_CLOCK, Clock

PROC = Path("/proc")
_WRITABLE = os.O_WRONLY | os.O_RDWR


def pids_of(instance: str | None, folders: Iterable[Path] = ()) -> set[int]:
    """The live processes of ``instance`` (None: only writers), never this process or its ancestors."""
    marker = f"COMPUTILITY_INSTANCE={instance}".encode() if instance else b"\0"
    roots = [f"{folder.resolve()}/" for folder in folders]
    parents = dict(_parents())
    found = {pid for pid in parents if _has_variable(pid, marker) or _writes_below(pid, roots)}
    grown = True
    while grown:
        children = {pid for pid, parent in parents.items() if parent in found} - found
        found |= children
        grown = bool(children)
    return found - _ancestry(os.getpid(), parents)


def _parents() -> Iterator[tuple[int, int]]:
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state not in "ZX":
            yield int(entry.name), int(parent)


def _ancestry(pid: int, parents: dict[int, int]) -> set[int]:
    line = set()
    while pid and pid not in line:
        line.add(pid)
        pid = parents.get(pid, 0)
    return line


def _has_variable(pid: int, marker: bytes) -> bool:
    try:
        return marker in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _writes_below(pid: int, roots: list[str]) -> bool:
    if not roots:
        return False
    try:
        return any(_is_open_for_writing(pid, link, roots) for link in (PROC / str(pid) / "fd").iterdir())
    except OSError:
        return False


def _is_open_for_writing(pid: int, link: Path, roots: list[str]) -> bool:
    try:
        target = str(link.readlink())
        if not any(target.startswith(root) for root in roots):
            return False
        lines = (PROC / str(pid) / "fdinfo" / link.name).read_text().splitlines()
        flags = next(line.split()[1] for line in lines if line.startswith("flags:"))
        return bool(int(flags, 8) & _WRITABLE)
    except (OSError, StopIteration):
        return False


def sweep(
    instance: str | None,
    folders: Iterable[Path] = (),
    grace_seconds: float = 15.0,
    clock: Clock = SYSTEM_CLOCK,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[int, set[int]]:
    """SIGTERM to all, SIGKILL after the grace period; returns how many there were and who is left."""
    folders = tuple(folders)
    seen: set[int] = set()
    start = clock.monotonic_seconds()
    while left := pids_of(instance, folders):
        waited = clock.monotonic_seconds() - start
        if waited > grace_seconds + 10:
            return len(seen), left
        for pid in left if waited > grace_seconds else left - seen:
            _signal(pid, signal.SIGKILL if waited > grace_seconds else signal.SIGTERM)
        seen |= left
        sleep(0.2)
    return len(seen), set()


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
