"""Which replicas of an endpoint to make, replace and remove in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ReplicaState:
    """A replica that exists. ``outdated``: it was started from an older spec."""

    outdated: bool
    ready: bool
    role: str = ""


@dataclass(frozen=True)
class Rollout:
    """Names of workloads. A replaced one is removed and made again."""

    create: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


def plan_rollout(wanted: Mapping[str, str], existing: Mapping[str, ReplicaState]) -> Rollout:
    """Compare what should be, names with their roles, with what is.

    What is ready in a role that is not wanted any more serves on until a replica of each wanted role is
    ready. Outdated ones that serve nobody are replaced at once; which of those that serve stay is said by
    ``wanted`` (``choose_rolling``).
    """
    create = tuple(name for name in wanted if name not in existing)
    served = {existing[name].role for name in wanted if name in existing and existing[name].ready}
    waits = bool(set(wanted.values()) - served)
    remove = tuple(
        sorted(
            name
            for name, state in existing.items()
            if name not in wanted and not (waits and state.ready and state.role not in wanted.values())
        )
    )
    idle = (name for name in wanted if name in existing and not existing[name].ready)
    return Rollout(create, tuple(name for name in idle if existing[name].outdated), remove)
