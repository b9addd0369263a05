"""How a canary does beside the stable side, for people."""

from __future__ import annotations

from pydantic import Field

from common.resources import Endpoint
from common.resources.meta import Model as Part
from inference.canary.judging import CanaryJudge, limits_of
from inference.core.canary.judge import Seen, error_percent


class SideAnswer(Part):
    """One side, of late: requests, how many of them failed, and the median time to the first token."""

    model: str
    weight_percent: float
    ready: int = Field(description="engines that answer")
    requests: int
    failed: int
    error_percent: float
    ttft_milliseconds: float = Field(description="0 = no streams")


class CanaryAnswer(Part):
    """``verdict`` is what would be said now, or was said when it was rolled back."""

    rolled_back: bool
    verdict: str
    since_ms: int | None
    stable: SideAnswer
    canary: SideAnswer


def explain_canary(endpoint: Endpoint, judge: CanaryJudge | None, now_seconds: float) -> CanaryAnswer | None:
    """None where it has no canary."""
    spec, known = endpoint.spec.canary, endpoint.status.canary
    if spec is None:
        return None
    trial, limits = judge.trial_of(endpoint) if judge is not None else None, limits_of(spec)
    canary, stable = trial.lately(limits, now_seconds) if trial is not None else (Seen(), Seen())
    verdict = trial.verdict(limits, now_seconds).message if trial is not None else "no request was seen yet"
    rolled_back = endpoint.is_rolled_back
    weight = 0.0 if rolled_back else spec.weight_percent
    return CanaryAnswer(
        rolled_back=rolled_back,
        verdict=known.message if rolled_back and known is not None else verdict,
        since_ms=known.since_ms if known is not None else None,
        stable=_side(endpoint.spec.model, 100 - weight, _ready(endpoint, canary=False), stable),
        canary=_side(spec.model, weight, _ready(endpoint, canary=True), canary),
    )


def _ready(endpoint: Endpoint, *, canary: bool) -> int:
    found = endpoint.status.replicas
    return sum(one.ready and not one.draining and (one.role == "canary") is canary for one in found)


def _side(model: str, weight_percent: float, ready: int, seen: Seen) -> SideAnswer:
    return SideAnswer(
        model=model,
        weight_percent=weight_percent,
        ready=ready,
        requests=seen.requests,
        failed=seen.failed,
        error_percent=round(error_percent(seen), 2),
        ttft_milliseconds=round(seen.median_ms, 1),
    )
