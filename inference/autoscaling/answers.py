"""Why an Endpoint has so many engines, for people: what is seen now, and what follows from it."""

from __future__ import annotations

from collections import Counter

from pydantic import Field

from common.resources import Endpoint
from common.resources.meta import Model as Part
from common.resources.scaling import EngineRole
from inference.autoscaling.watch import EndpointWatch, RoleWatch
from inference.core.autoscaling.signals import signals_of


class SignalAnswer(Part):
    """How many engines' work there is by one sign of load."""

    name: str
    replicas: float
    text: str


class RoleAnswer(Part):
    """One role. ``asked``: what load asks for, before limits, windows and steps. What is seen is left out
    until there was a look at it, as right after a start of control, and where it does not follow its load."""

    role: EngineRole = ""
    wanted: int
    ready: int
    starting: int = Field(description="that do not answer yet")
    draining: int = Field(description="that get no more requests, and go when they have none")
    least: int
    most: int
    follows_load: bool
    asked: int | None = None
    now: str = Field("", description="what is decided now, and why")
    why: str = Field("", description="of the last change")
    since_ms: int | None = Field(None, description="time of the last change")
    signals: list[SignalAnswer] = Field(default_factory=list)
    held: int = Field(0, description="requests that wait for an engine")
    idle_seconds: int | None = Field(None, description="since something was asked last")
    sleeps_after_seconds: int | None = Field(None, description="without a request; unset = never")


class ScalingAnswer(Part):
    """All roles of an Endpoint."""

    name: str
    project: str
    roles: list[RoleAnswer]


def explain_scaling(endpoint: Endpoint, watch: EndpointWatch | None, now_seconds: float) -> ScalingAnswer:
    """``watch``: what was seen of it, None where nothing was yet."""
    return ScalingAnswer(
        name=endpoint.name,
        project=endpoint.project or "",
        roles=[
            _role(endpoint, role, watch.roles.get(role) if watch is not None else None, now_seconds)
            for role in endpoint.spec.roles
        ],
    )


def _role(endpoint: Endpoint, role: EngineRole, seen: RoleWatch | None, now_seconds: float) -> RoleAnswer:
    spec, wanted = endpoint.spec.roles[role], endpoint.wanted[role]
    scaling = spec.autoscaling
    states = Counter(
        "draining" if one.draining else "ready" if one.ready else "starting"
        for one in endpoint.status.replicas
        if one.role == role
    )
    answer = RoleAnswer(
        role=role,
        wanted=wanted,
        ready=states["ready"],
        starting=states["starting"],
        draining=states["draining"],
        least=spec.replicas if scaling is None else scaling.min_replicas,
        most=spec.most,
        follows_load=scaling is not None,
    )
    last = next((one for one in endpoint.status.scaling if one.role == role), None)
    if scaling is not None and last is not None:
        answer.why, answer.since_ms = last.message, last.since_ms
    if scaling is not None and seen is not None and seen.decision is not None:
        rule = seen.rule
        answer.least, answer.most = rule.least, rule.most
        answer.asked, answer.now = seen.decision.asked, seen.decision.message
        answer.signals = [
            SignalAnswer(name=one.name, replicas=round(one.replicas, 2), text=one.text)
            for one in signals_of(seen.load, rule.targets)
        ]
        answer.held = seen.load.held
        answer.idle_seconds = round(max(0.0, now_seconds - seen.scaler.active_seconds))
        answer.sleeps_after_seconds = None if rule.least else round(rule.zero_after_seconds)
    return answer
