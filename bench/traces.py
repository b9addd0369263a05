"""Alibaba's openb trace (cluster-trace-gpu-v2023) as it is in the files: nodes and tasks without times.

A file is CSV, or CSV.gz by its name. Whatever is wrong in it is an ``InvalidInput`` that names line and
column."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.errors import InvalidInput
from scheduler.core.model.types import WHOLE_MILLIS
from scheduler.sim.tables import Row, rows


@dataclass(frozen=True)
class TraceNode:
    """A node as it is when empty."""

    name: str
    cpu_millis: int
    memory_mebibytes: int
    gpus: int
    model: str


@dataclass(frozen=True)
class TraceTask:
    """A request. ``share_millis`` is per GPU; ``models``: the allowed ones, empty = any."""

    name: str
    cpu_millis: int
    memory_mebibytes: int
    count: int
    share_millis: int
    models: tuple[str, ...] = ()

    @property
    def gpu_millis(self) -> int:
        """All that it asks for."""
        return self.count * self.share_millis


def read_nodes(path: Path) -> list[TraceNode]:
    """Columns ``sn, cpu_milli, memory_mib, gpu, model``."""
    nodes = [
        TraceNode(
            row.text("sn"),
            row.whole("cpu_milli"),
            row.whole("memory_mib"),
            row.whole("gpu"),
            row.text("model"),
        )
        for row in rows(path, ("sn", "cpu_milli", "memory_mib", "gpu", "model"))
    ]
    if not any(node.gpus for node in nodes):
        raise InvalidInput(f"{path.name} has no GPUs", param="column gpu")
    return nodes


def read_tasks(path: Path) -> list[TraceTask]:
    """Columns ``name, cpu_milli, memory_mib, num_gpu, gpu_milli`` and, where it is there, ``gpu_spec``."""
    tasks = [_task(row) for row in rows(path, ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli"))]
    if not any(task.count for task in tasks):
        raise InvalidInput(f"{path.name} has no task that asks for GPUs", param="column num_gpu")
    return tasks


def _task(row: Row) -> TraceTask:
    count, share = row.whole("num_gpu"), row.whole("gpu_milli")
    if not (0 < share <= WHOLE_MILLIS if count else share == 0):
        raise row.wrong("gpu_milli", f"{share} does not go with {count} GPUs")
    if count > 1 and share < WHOLE_MILLIS:
        raise row.wrong("gpu_milli", f"{share}: of several GPUs none is shared")
    models = {model for model in row.text("gpu_spec").split("|") if model}
    return TraceTask(
        row.text("name"),
        row.whole("cpu_milli"),
        row.whole("memory_mib"),
        count,
        share,
        tuple(sorted(models)),
    )
