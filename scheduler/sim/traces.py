"""Nodes and jobs of public traces: openb (Alibaba 2023), Philly (Microsoft 2017) and Kalos (Acme 2023).

A file is known by the names of its columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.errors import InvalidInput
from common.units import GIB, MIB
from scheduler.core.model.types import DeviceView, NodeView, Request, RoleView, WorkloadView
from scheduler.sim.habits import Habits
from scheduler.sim.jobs import SECOND_MS, Job
from scheduler.sim.tables import Row, header, rows

MEMORY_GIB = {"T4": 16, "P100": 16, "V100M16": 16, "V100M32": 32, "A10": 24}
"""Of the models that openb names; its undisclosed ones count as 32."""
LEAST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Record:
    """One line of a job trace."""

    name: str
    queue: str
    submit_seconds: float
    seconds: float
    ranks: int
    request: Request


def read_nodes(path: Path) -> list[NodeView]:
    """openb's node list; a column ``vendor`` may say that devices are not NVIDIA's.

    ``InvalidInput`` names line and column.
    """
    nodes = []
    for row in rows(path, ("sn", "cpu_milli", "memory_mib", "gpu", "model")):
        name, model = row.text("sn"), row.text("model")
        if not name:
            raise row.wrong("sn", "a node needs a name")
        vendor, memory = row.text("vendor") or "nvidia", MEMORY_GIB.get(model, 32) * GIB
        devices = tuple(
            DeviceView(f"{name}/{index}", index, vendor, model, memory) for index in range(row.whole("gpu"))
        )
        host = row.whole("memory_mib") * MIB
        nodes.append(NodeView(name, devices, cpu_millis=row.whole("cpu_milli"), host_memory_bytes=host))
    if len({node.name for node in nodes}) != len(nodes):
        raise InvalidInput(f"{path.name}: two nodes have one name", param="column sn")
    return nodes


def read_jobs(path: Path, habits: Habits | None = None) -> list[Job]:
    """Jobs of a trace in the order of submission, the first at 0.

    ``InvalidInput`` where the columns are of no known trace, or a line is wrong.
    """
    names = set(header(path))
    for columns, read in _FORMATS.items():
        if names.issuperset(columns):
            records = [read(row) for row in rows(path, columns)]
            return jobs_of([record for record in records if record], habits or Habits())
    known = "; ".join(", ".join(columns) for columns in _FORMATS)
    raise InvalidInput(f"{path.name} is of no known trace; columns are one of: {known}", param="line 1")


def _philly(row: Row) -> _Record:
    request = Request(count=1)
    ranks = row.whole("num_gpus", 1)
    submit, seconds = row.number("submit_s"), row.number("duration_s")
    return _Record(f"job-{row.line}", row.text("vc"), submit, seconds, ranks, request)


def _kalos(row: Row) -> _Record:
    ranks = row.whole("gpu_num", 1)
    submit, seconds = row.number("submit_s"), row.number("duration_s")
    queue = row.text("type").lower().replace("/", "-")
    return _Record(f"job-{row.text('job_id')}", queue, submit, seconds, ranks, Request(count=1))


def _openb(row: Row) -> _Record | None:
    """Pods that never started have no run time and are left out."""
    if not row.text("scheduled_time"):
        return None
    count = row.whole("num_gpu")
    models = tuple(dict.fromkeys(model for model in row.text("gpu_spec").split("|") if model))
    host = row.whole("memory_mib") * MIB
    share = row.whole("gpu_milli", 1) if count == 1 else 1000
    request = Request(
        count=count,
        models=models,
        share_millis=share,
        cpu_millis=row.whole("cpu_milli"),
        host_memory_bytes=host,
    )
    submit = row.number("creation_time")
    seconds = max(0.0, row.number("deletion_time") - row.number("scheduled_time"))
    return _Record(row.text("name"), row.text("qos").lower() or "default", submit, seconds, 1, request)


_FORMATS: dict[tuple[str, ...], Callable[[Row], _Record | None]] = {
    ("submit_s", "duration_s", "num_gpus", "vc"): _philly,
    ("job_id", "submit_s", "duration_s", "gpu_num", "type"): _kalos,
    (
        "name",
        "cpu_milli",
        "memory_mib",
        "num_gpu",
        "gpu_milli",
        "qos",
        "creation_time",
        "deletion_time",
        "scheduled_time",
    ): _openb,
}


def jobs_of(records: list[_Record], habits: Habits) -> list[Job]:
    """Jobs of records: what the trace does not tell is drawn."""
    records = sorted(records, key=lambda record: record.submit_seconds)
    first = records[0].submit_seconds if records else 0.0
    draw = habits.draws()
    return [_job(record, first, habits, draw) for record in records]


def _job(record: _Record, first: float, habits: Habits, draw: np.random.Generator) -> Job:
    seconds = max(record.seconds, LEAST_SECONDS)
    request = record.request
    if habits.vendor and request.count:
        request = replace(request, vendors=(habits.vendor,))
    expected, least = habits.expected_seconds(seconds, draw), habits.least_ranks(record.ranks, draw)
    workload = WorkloadView(
        uid=record.name,
        project=record.queue,
        name=record.name,
        queue=record.queue,
        priority=0,
        created_ms=round((record.submit_seconds - first) * SECOND_MS),
        roles=(RoleView("main", record.ranks, request, least),),
        expected_seconds=expected,
        kind="training",
    )
    return Job(workload, seconds, habits.checkpoint_seconds)
