"""What clients are to see of an Endpoint of mode ``auto``."""

from __future__ import annotations

from common.resources import Endpoint
from common.resources.objectives import ServiceObjective
from inference.core.performance.options import Slo

CHAT = ServiceObjective(ttft_milliseconds=2000.0, inter_token_milliseconds=50.0)
"""Where the Endpoint says nothing."""


def objectives(endpoint: Endpoint) -> list[ServiceObjective]:
    """By which devices are chosen, the first that some can keep: its own; where it has none, that of a chat,
    and no limits at last."""
    own = endpoint.spec.slo
    return [CHAT, own] if own == ServiceObjective() else [own]


def slo_of(endpoint: Endpoint) -> Slo:
    """By which what came is judged: the Endpoint's, or that of a chat where it has none."""
    objective = objectives(endpoint)[0]
    return Slo(objective.ttft_milliseconds, objective.inter_token_milliseconds)
