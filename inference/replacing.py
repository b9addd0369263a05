"""Which engines a change of an Endpoint or of its Model replaces, by the rule of the controller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.resources import Endpoint, Model, Workload
from common.settings import Settings
from inference.canary.engines import by_role
from inference.engine_workload import replica_of
from inference.wanted_engine import WantedEngines


@dataclass(frozen=True)
class Replaced:
    """An engine that is to be replaced. ``answers``: it serves now."""

    workload: str
    why: str
    answers: bool


def replaced_engines(
    endpoint: Endpoint, model: Model, canary: Model | None, engines: Sequence[Workload], settings: Settings
) -> list[Replaced]:
    """Those of the Endpoint's ``engines`` that the controller replaces when it and its Models are as given.
    Raises ``InvalidInput`` or ``ValueError`` where no engine can be made of it, so that none is replaced."""
    wanted = WantedEngines(settings.engine, settings.tracing.engines_url).of(endpoint, model, canary)
    roles = by_role(endpoint, engines, wanted)
    return [
        Replaced(one.name, why, replica_of(one).ready)
        for role, some in roles.items()
        if role in wanted
        for one in some
        if (why := wanted[role].difference(one))
    ]


def in_words(endpoint: Endpoint, replaced: Sequence[Replaced]) -> str:
    """What becomes of these engines, and how; empty where there are none."""
    if not replaced:
        return ""
    only = len(replaced) == 1
    what = "its engine is replaced" if only else f"{len(replaced)} engines are replaced"
    return f"{what}, because {replaced[0].why}: {_how(endpoint, replaced)}"


def _how(endpoint: Endpoint, replaced: Sequence[Replaced]) -> str:
    only, rollout = len(replaced) == 1, endpoint.spec.rollout
    if not any(one.answers for one in replaced):
        return "at once, since it answers nobody" if only else "at once, since none of them answers"
    if rollout.max_surge and only:
        return "one new beside the old one, which goes when the new one answers"
    if rollout.max_surge:
        most = min(rollout.max_surge, len(replaced))
        return f"{most} new beside the old ones, of which each goes when a new one answers"
    if only:
        return "it is stopped first, so that nobody answers meanwhile"
    most = min(rollout.max_unavailable, len(replaced))
    return f"{most} of them at a time, without new ones beside them"
