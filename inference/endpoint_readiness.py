"""What the condition ``Ready`` of an Endpoint says, from the replicas in its status."""

from __future__ import annotations

from collections.abc import Sequence

from common.resources import Endpoint
from common.resources.serving import PAIR, TOO_LITTLE_MEMORY, Replica


def readiness(
    endpoint: Endpoint, trouble: tuple[str, str] | None, too_little: str = ""
) -> tuple[bool, str, str]:
    """Status, reason and message; a canary's engines have no part in it. ``trouble``: why no engine can be
    started (reason and message). ``too_little``: why no devices can hold them; said as long as none
    answers."""
    if trouble is not None:
        return False, *trouble
    if endpoint.is_undecided and not any(endpoint.wanted.values()):
        return False, "Deciding", "mode auto is about to choose what serves it"
    wanted = {role: count for role, count in endpoint.wanted.items() if count and role != "canary"}
    if not wanted:
        return endpoint.spec.may_sleep, "ScaledToZero", _zero(endpoint)
    found = endpoint.status.replicas
    replicas = [replica for replica in found if not replica.draining and replica.role != "canary"]
    mine = [replica for replica in replicas if replica.role in wanted]
    ready = {role: sum(replica.ready for replica in mine if replica.role == role) for role in wanted}
    text = " and ".join(
        f"{min(ready[role], count)} of {count} {role + ' engines' if role else 'replicas'}"
        for role, count in wanted.items()
    )
    enough = len(mine) == len(replicas) and all(ready[role] >= count for role, count in wanted.items())
    if enough and any(replica.outdated for replica in mine):
        return True, "RollingOut", f"{text} answer; {_change(mine)}"
    if enough or (all(ready.values()) and len(replicas) == sum(wanted.values())):
        return True, "Ready", f"{text} answer"
    waiting = [_state(replica) for replica in mine if not replica.ready]
    leaving = [replica.workload for replica in replicas if replica.role not in wanted and replica.ready]
    if leaving:
        waiting.append(f"{' and '.join(leaving)} of the former mode serve until each role has an engine")
    if too_little and not any(ready.values()):
        return False, TOO_LITTLE_MEMORY, f"{text} answer; {too_little}"
    reason = "NoReplicaReady" if not any(ready.values()) else "RoleNotReady"
    return False, reason if "" not in wanted else "NoReplicaReady", f"{text} answer; {', '.join(waiting)}"


def _state(replica: Replica) -> str:
    """Its phase, and how it ended last where it has crashed."""
    said = f"{replica.workload} is {replica.phase}"
    return f"{said} ({replica.message})" if replica.message else said


def _change(replicas: Sequence[Replica]) -> str:
    """Which are to be replaced, and what their successors are doing."""
    old = [replica.workload for replica in replicas if replica.outdated]
    new = [_state(one) for one in replicas if not one.outdated and not one.ready]
    said = f"{' and '.join(old)} {'is' if len(old) == 1 else 'are'} to be replaced"
    return f"{said}; {', '.join(new)}" if new else said


def _zero(endpoint: Endpoint) -> str:
    if endpoint.spec.may_sleep:
        return "nobody asks, so no engine runs; the next request wakes one, and waits for it"
    roles = [role for role in endpoint.spec.roles if role in PAIR]
    fields = " and ".join(f"spec.{role}.replicas" for role in roles) or "spec.replicas"
    return f"{fields} {'are' if roles else 'is'} 0"
