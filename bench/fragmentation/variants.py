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
from scheduler.core.model.types import WHOLE_MILLIS

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


OVER_ASKED = 1.22
"""So many times the GPUs that there are of it the second most common model is asked for by name."""
RARE_ASKED = 0.8
"""So much of the GPUs of each rarer model is asked for by name."""


def _named(
    part: float, draw: np.random.Generator, nodes: Sequence[TraceNode], tasks: Tasks
) -> list[TraceTask]:
    """This part of the GPU work names the models that it may have, by the law of ``_asked_by_name``. Each
    task in turn, in random order, draws from what could hold it and is not asked for yet."""
    hosts = [node for node in nodes if node.gpus]
    asked = sum(task.gpu_millis for task in tasks)
    left = {models: asked * share for models, share in _asked_by_name(part, hosts).items()}
    varied = list(tasks)
    for index in draw.permutation(len(tasks)):
        task = tasks[index]
        open_to = [models for models, millis in left.items() if millis > 0 and _hold(hosts, models, task)]
        if task.count and open_to:
            weights = np.array([left[models] for models in open_to])
            models = open_to[int(draw.choice(len(open_to), p=weights / weights.sum()))]
            left[models] -= task.gpu_millis
            varied[index] = replace(task, models=models)
    return varied


def _asked_by_name(part: float, hosts: Sequence[TraceNode]) -> dict[tuple[str, ...], float]:
    """Sets of models -> which share of the work asks for one of them, if the work is as much as the GPUs.

    The second most common model is asked for alone, and more of it than there is. Rarer ones are asked for
    half alone and half together with the next rarer; the most common one has what is left of the part, half
    alone and half together with all the rarer ones."""
    gpus: dict[str, int] = {}
    for node in hosts:
        gpus[node.model] = gpus.get(node.model, 0) + node.gpus
    if len(gpus) < 2:
        raise InvalidInput("all GPUs are of one model: there is none to name", param="column model")
    most, second, *rare = sorted(gpus, key=lambda model: (-gpus[model], model))
    law: dict[tuple[str, ...], float] = {(second,): OVER_ASKED * gpus[second]}
    for model, other in zip(rare, [*rare[1:], *rare[:1]], strict=True):
        for models in ((model,), tuple(sorted({model, other}))):
            law[models] = law.get(models, 0.0) + RARE_ASKED * gpus[model] / 2
    rest = max(0.0, part * sum(gpus.values()) - sum(law.values()))
    for models in ((most,), tuple(sorted({most, *rare}))):
        law[models] = law.get(models, 0.0) + rest / 2
    scale = part / sum(law.values())
    return {models: scale * number for models, number in law.items()}


def _hold(hosts: Sequence[TraceNode], models: tuple[str, ...], task: TraceTask) -> bool:
    return any(
        node.model in models
        and node.gpus >= task.count
        and node.cpu_millis >= task.cpu_millis
        and node.memory_mebibytes >= task.memory_mebibytes
        for node in hosts
    )


VARIANTS: dict[str, Callable[[np.random.Generator, Sequence[TraceNode], Tasks], list[TraceTask]]] = {
    "sharing40": partial(_sharing, 0.4),
    "sharing60": partial(_sharing, 0.6),
    "sharing80": partial(_sharing, 0.8),
    "host050": partial(_times, 0.5, lambda task: task.count == 0),
    "host200": partial(_times, 2.0, lambda task: task.count == 0),
    "wide300": partial(_times, 3.0, lambda task: task.count > 1),
    "wide600": partial(_times, 6.0, lambda task: task.count > 1),
    "picky20": partial(_picky, 0.2),
    "named33": partial(_named, 0.33),
    "named50": partial(_named, 0.5),
}
