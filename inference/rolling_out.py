"""What one pass does with the Workloads of an Endpoint: each side by itself, and nothing that could wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.resources import Workload
from common.resources.scaling import EngineRole
from inference.canary.engines import Roles
from inference.core.rollout import ReplicaState, Rollout, plan_rollout
from inference.engine_workload import replica_of
from inference.wanted_engine import WantedEngine


@dataclass(frozen=True)
class Pass:
    """Workloads to ``create`` are named. Those that leave go ``at_once``, or when they have nothing to do;
    ``again``: which of them are made again."""

    create: tuple[str, ...]
    at_once: tuple[Workload, ...]
    when_idle: tuple[Workload, ...]
    again: tuple[str, ...]

    @property
    def leaving(self) -> set[str]:
        """The names of all that leave."""
        return {workload.name for workload in (*self.at_once, *self.when_idle)}


def plan_pass(
    wanted: Mapping[str, EngineRole], roles: Roles, engines: Mapping[EngineRole, WantedEngine]
) -> Pass:
    """``wanted``: names with their roles. An engine that is replaced is stopped at once where it serves
    nobody, or is the only one of its role that does: others could not serve meanwhile."""
    by_name = {workload.name: workload for some in roles.values() for workload in some}
    role_of = {workload.name: role for role, some in roles.items() for workload in some}
    states = {
        name: state_of(by_name[name], role, engines[wanted[name]] if name in wanted else None)
        for name, role in role_of.items()
    }
    plan = _of_both_sides(wanted, states)
    served = {wanted[name] for name, state in states.items() if name in wanted and state.ready}
    alone = {
        name
        for name in plan.remove
        if role_of[name] in wanted.values()
        and role_of[name] not in served
        and role_of[name] in engines
        and engines[role_of[name]].is_other_process(by_name[name])
    }
    return Pass(
        create=plan.create,
        at_once=tuple(
            by_name[name]
            for name in (*plan.replace, *plan.remove)
            if name not in plan.remove or name in alone
        ),
        when_idle=tuple(by_name[name] for name in plan.remove if name not in alone),
        again=plan.replace,
    )


def state_of(workload: Workload, role: EngineRole, wanted: WantedEngine | None) -> ReplicaState:
    """``wanted``: what it is to run; None where it is to be no more."""
    outdated = wanted is not None and wanted.is_other_process(workload)
    return ReplicaState(outdated, replica_of(workload).ready, role)


def _of_both_sides(wanted: Mapping[str, EngineRole], states: Mapping[str, ReplicaState]) -> Rollout:
    """A canary that does not come up holds up nothing of the stable side, nor the other way round."""
    stable, canary = (
        plan_rollout(
            {name: role for name, role in wanted.items() if (role == "canary") is is_canary},
            {name: one for name, one in states.items() if (one.role == "canary") is is_canary},
        )
        for is_canary in (False, True)
    )
    return Rollout(
        stable.create + canary.create, stable.replace + canary.replace, stable.remove + canary.remove
    )
