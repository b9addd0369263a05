"""How a cycle obeys the tide: while inference needs devices, training has the rest of them.

``Policy.tides`` says how many millis of a class are for inference now (``tidal`` works that out). Training
beyond the rest gives ranks back: it shrinks, it is not evicted. No more of it is admitted than there is room
for.
"""

from __future__ import annotations

from dataclasses import replace

from scheduler.core.model.device_classes import classes_of
from scheduler.core.model.types import (
    Assignment,
    Defer,
    Placement,
    Reason,
    Resize,
    RunningView,
    Tide,
    WorkloadView,
)
from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.trial import Trial
from scheduler.core.pool.layout import ModelKey


def ebb(trial: Trial) -> tuple[Resize, ...]:
    """What elastic training gives back now: least important first, then who started last."""
    resizes: dict[str, Resize] = {}
    for tide in trial.policy.tides:
        excess = -room_for_training(trial, tide)
        elastic = [running for running in trial.running.values() if _trains(running)]
        for running in sorted(elastic, key=lambda r: (r.workload.priority, -r.started_ms, r.workload.uid)):
            if excess <= 0:
                break
            left, freed = _shrunk(running, tide, excess)
            if freed:
                excess -= freed
                trial.resize(running.workload.uid, left)
                message = f"gives back {len(running.placement) - len(left)} ranks: inference needs them now"
                resizes[running.workload.uid] = Resize(running.workload.uid, left, message)
    return tuple(resizes.values())


def within_tide(trial: Trial, workload: WorkloadView) -> WorkloadView | None:
    """The workload with as many ranks as the tide leaves it; None where not even the least fit."""
    if workload.kind != "training" or not trial.policy.tides:
        return workload
    for tide in trial.policy.tides:
        needs = [millis for model, millis in trial.needs(workload).items() if _covers(tide, model)]
        if not needs or len(needs) < len(trial.needs(workload)):
            continue
        room, least = room_for_training(trial, tide), max(needs)
        if least > room:
            return None
        workload = _capped(workload, least, room)
    return workload


def defer_for_tide(trial: Trial, workload: WorkloadView) -> Defer:
    """The answer for training that has to wait until inference needs less."""
    held = ", ".join(
        f"{tide.inference_millis / 1000:g} of {tide.device_class}" for tide in trial.policy.tides
    )
    message = f"inference needs these devices now: it has {held}, training the rest"
    return Defer(
        workload.uid, (Reason("TideHigh", message),), "inference needs fewer devices, or training ends"
    )


def room_for_training(trial: Trial, tide: Tide) -> int:
    """Millis of the class that training may still take; below zero where it has too many."""
    capacity = sum(millis for model, millis in trial.capacity.items() if _covers(tide, model))
    held = sum(_held(running.placement, tide) for running in trial.running.values() if _trains(running))
    return capacity - tide.inference_millis - held


def _covers(tide: Tide, model: ModelKey) -> bool:
    return tide.device_class.lower() in classes_of(model)


def _trains(running: RunningView) -> bool:
    return running.workload.kind == "training" and not running.leaving


def _held(placement: Placement, tide: Tide) -> int:
    held = millis_by_model(placement)
    return sum(millis for model, millis in held.items() if _covers(tide, model))


def _shrunk(running: RunningView, tide: Tide, excess: int) -> tuple[Placement, int]:
    """The placement without its last ranks that hold devices of the class, and the millis that frees."""
    least = {role.name: role.least for role in running.workload.roles}
    count = {name: sum(a.role == name for a in running.placement) for name in least}
    kept: list[Assignment] = []
    freed = 0
    for assignment in reversed(running.placement):
        millis = _held((assignment,), tide)
        if freed < excess and millis and count[assignment.role] > least[assignment.role]:
            count[assignment.role] -= 1
            freed += millis
        else:
            kept.append(assignment)
    return tuple(a._replace(rank=rank) for rank, a in enumerate(reversed(kept))), freed


def _capped(workload: WorkloadView, least: int, room: int) -> WorkloadView:
    """Elastic roles get what the room leaves beyond the least, in the order of roles."""
    ranks = sum(role.least for role in workload.roles) or 1
    spare = (room - least) * ranks // max(1, least)
    roles = []
    for role in workload.roles:
        extra = min(role.replicas - role.least, spare)
        spare -= extra
        roles.append(replace(role, replicas=role.least + extra))
    return replace(workload, roles=tuple(roles))
