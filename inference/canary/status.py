"""What an Endpoint's status says of its canary."""

from __future__ import annotations

from collections.abc import Sequence

from common.resources import Endpoint
from common.resources.canary import ROLLED_BACK
from common.resources.serving import Replica

READY = "CanaryReady"
"""The condition that says whether the canary's engines answer."""


def report_canary(
    endpoint: Endpoint, replicas: Sequence[Replica], trouble: tuple[str, str] | None, now_ms: int
) -> None:
    """Set the condition of its engines; forget all where it has no canary. ``trouble``: why none of them can
    be started (reason and message)."""
    status, canary = endpoint.status, endpoint.spec.canary
    if canary is None:
        status.canary = None
        status.conditions = [one for one in status.conditions if one.type not in (READY, ROLLED_BACK)]
        return
    mine = [one for one in replicas if one.role == "canary" and not one.draining]
    ready, wanted = sum(one.ready for one in mine), endpoint.wanted["canary"]
    holds, reason = ready == wanted > 0, "Ready"
    message = f"{ready} of {wanted} engines of {canary.model} answer"
    if endpoint.is_rolled_back:
        holds, reason, message = False, "RolledBack", "none is wanted"
    elif trouble is not None:
        holds, (reason, message) = False, trouble
    elif not holds:
        reason = "NotAllReady" if ready else "NoneReady"
    status.set_condition(
        READY, holds, reason, message, now_ms=now_ms, generation=endpoint.metadata.generation
    )
