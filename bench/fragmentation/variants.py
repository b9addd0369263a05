"""Other mixes of tasks, drawn from a trace: what a policy gains must not hang on one mix.

They follow the ideas of the paper's variants (more sharing, more CPU-only tasks, more multi-GPU tasks,
tasks that ask for models), not its files, which were drawn in ways that it does not give in full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from bench.traces import TraceNode, TraceTask
from common.errors import InvalidInput
from scheduler.core.types import WHOLE_MILLIS

Tasks = Sequence[TraceTask]


def vary(name: str, nodes: Sequence[TraceNode], tasks: Tasks) -> list[TraceTask]:
    """One of ``VARIANTS``, always drawn alike. ``InvalidInput`` where the trace has nothing to draw from."""
    return VARIANTS[name](np.random.default_rng(0), nodes, tasks)


def _drawn(draw: np.random.Generator, tasks: Tasks, number: int, what: str) -> list[TraceTask]:
    if number and not tasks:
        raise InvalidInput(f"the trace has no {what} tasks to draw from")
    return [tasks[i] for i in draw.integers(0, len(tasks), number)] if number else []


def _shared(task: TraceTask) -> bool:
    return 0 < task.share_millis < WHOLE_MILLIS


def _sharing(
    part: float, draw: np.random.Generator, nodes: Sequence[TraceNode], tasks: Tasks
) -> list[TraceTask]:
    """As many GPU tasks, of which those that share ask for this part of all GPUs asked for."""
    host = [task for task in tasks if not task.count]
    shared = [task for task in tasks if _shared(task)]
    whole = [task for task in tasks if task.count and not _shared(task)]
    if not shared or not whole:
        raise InvalidInput("the trace needs tasks that share GPUs and others that do not")
    small, large = (np.mean([task.gpu_millis for task in some]) for some in (shared, whole))
    number = len(shared) + len(whole)
    sharing = round(float(number * part * large / (part * large + (1 - part) * small)))
    return [
        *host,
        *_drawn(draw, shared, sharing, "sharing"),
        *_drawn(draw, whole, number - sharing, "whole-GPU"),
    ]


def _times(
    factor: float,
    chosen: Callable[[TraceTask], bool],
    draw: np.random.Generator,
    nodes: Sequence[TraceNode],
    tasks: Tasks,
) -> list[TraceTask]:
    """So many times as many of the chosen tasks."""
    some = [task for task in tasks if chosen(task)]
    others = [task for task in tasks if not chosen(task)]
    return [*others, *_drawn(draw, some, max(1, round(len(some) * factor)), "such")]


def _picky(
    part: float, draw: np.random.Generator, nodes: Sequence[TraceNode], tasks: Tasks
) -> list[TraceTask]:
    """This part of the GPU tasks asks for one to three models, common ones more often; those that no node
    of these models could hold stay as they are."""
    most: dict[str, int] = {}
    gpus: dict[str, int] = {}
    for node in nodes:
        most[node.model] = max(most.get(node.model, 0), node.gpus)
        gpus[node.model] = gpus.get(node.model, 0) + node.gpus
    models = sorted(model for model, number in gpus.items() if number)
    weights = np.array([gpus[model] for model in models], dtype=float)
    varied = []
    for task in tasks:
        if task.count and draw.random() < part:
            number = min(int(draw.integers(1, 4)), len(models))
            wanted = draw.choice(len(models), size=number, replace=False, p=weights / weights.sum())
            names = tuple(sorted(models[i] for i in wanted))
            if any(most[name] >= task.count for name in names):
                task = replace(task, models=names)
        varied.append(task)
    return varied


VARIANTS: dict[str, Callable[[np.random.Generator, Sequence[TraceNode], Tasks], list[TraceTask]]] = {
    "sharing40": partial(_sharing, 0.4),
    "sharing60": partial(_sharing, 0.6),
    "sharing80": partial(_sharing, 0.8),
    "host050": partial(_times, 0.5, lambda task: task.count == 0),
    "host200": partial(_times, 2.0, lambda task: task.count == 0),
    "wide300": partial(_times, 3.0, lambda task: task.count > 1),
    "wide600": partial(_times, 6.0, lambda task: task.count > 1),
    "picky20": partial(_picky, 0.2),
}
