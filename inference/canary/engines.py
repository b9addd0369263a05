"""Which engines are a canary's, and which of them become the Endpoint's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.resources import Endpoint, Workload
from common.resources.scaling import EngineRole
from inference.engine_workload import engine_role, replica_of
from inference.wanted_engine import WantedEngine

Roles = dict[EngineRole, list[Workload]]


def by_role(
    endpoint: Endpoint, existing: Sequence[Workload], engines: Mapping[EngineRole, WantedEngine]
) -> Roles:
    """What each engine is for from now on. Every role of ``engines`` has an entry; those of a canary that no
    engine can be started for have none: they go on as they are, unless none is wanted any more.

    Engines of the canary that answer, and are the very processes that the stable side is to run, become its
    own where it lacks such: a canary is promoted without a start.
    """
    roles: Roles = {role: [] for role in engines}
    for workload in existing:
        roles.setdefault(engine_role(workload), []).append(workload)
    if "" in engines:
        own, stable = roles[""], engines[""]
        lacking = endpoint.wanted[""] - sum(not stable.is_other_process(one) for one in own)
        fit = [
            one
            for one in roles.get("canary", ())
            if replica_of(one).ready and not stable.is_other_process(one)
        ]
        for workload in fit[: max(0, lacking)]:
            roles["canary"].remove(workload)
            own.append(workload)
    if endpoint.wanted.get("canary") and "canary" not in engines:
        roles.pop("canary", None)
    return roles
