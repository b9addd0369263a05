"""The sequence in which tasks arrive: the trace in random order, brought to 130 % of the cluster's GPUs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.traces import TraceNode, TraceTask
from scheduler.core.model.types import WHOLE_MILLIS

INFLATION = 1.3
"""What arrives in all asks for so many times the GPUs that are there."""


def gpu_millis_of(nodes: Sequence[TraceNode]) -> int:
    """All GPUs of a cluster."""
    return WHOLE_MILLIS * sum(node.gpus for node in nodes)


def arrivals(tasks: Sequence[TraceTask], capacity_millis: int, draw: np.random.Generator) -> list[TraceTask]:
    """The trace shuffled, then tasks drawn with replacement until ``INFLATION`` is reached; where the trace
    asks for more than that, random tasks are taken out instead.

    As in the published setup, the draws end at the first task whose request *per GPU* would go beyond.
    """
    target = INFLATION * capacity_millis
    order = [tasks[i] for i in draw.permutation(len(tasks))]
    total = sum(task.gpu_millis for task in order)
    while total > target:
        total -= order.pop(int(draw.integers(len(order)))).gpu_millis
    while total < target:
        task = tasks[int(draw.integers(len(tasks)))]
        if total + task.share_millis > target:
            break
        order.append(task)
        total += task.gpu_millis
    return order
