"""Which prompts of an Endpoint get a leg of their own, and why, for people."""

from __future__ import annotations

from statistics import median_low

from pydantic import Field

from common.resources import Endpoint
from common.resources.meta import Model as Part
from common.wire import LegTimes
from inference.routes import MIN_PROMPT_TOKENS
from inference.two_legs.board import ThresholdBoard


class LegAnswer(Part):
    """How long something takes by the length of a prompt."""

    name: str
    base_milliseconds: float
    per_thousand_tokens_milliseconds: float
    times: int = Field(description="measured")


class TwoLegsAnswer(Part):
    """``min_prompt_tokens``: shorter prompts are read by the engine that answers. ``gateways`` have learned
    it, each by itself, between ``least`` and ``most``; of none it is what they begin with."""

    min_prompt_tokens: int
    learned: bool = Field(description="false: the endpoint says it")
    gateways: int = 0
    least: int
    most: int
    beside: float = Field(0.0, description="requests that an engine which answers has beside one, on average")
    legs: list[LegAnswer] = Field(
        default_factory=list, description="as the one with most measurements has it"
    )


def explain_two_legs(endpoint: Endpoint, board: ThresholdBoard) -> TwoLegsAnswer | None:
    """None where its prompts are not read apart, or mode auto says which."""
    if endpoint.spec.mode != "disaggregated":
        return None
    asked = endpoint.spec.min_prompt_tokens
    told = board.of(f"{endpoint.project or ''}/{endpoint.name}") if asked is None else []
    if not told:
        begun = MIN_PROMPT_TOKENS if asked is None else asked
        return TwoLegsAnswer(min_prompt_tokens=begun, learned=asked is None, least=begun, most=begun)
    tokens = [one.min_prompt_tokens for one in told]
    best = max(told, key=lambda one: sum(leg.times for leg in one.legs))
    return TwoLegsAnswer(
        min_prompt_tokens=median_low(tokens),
        learned=True,
        gateways=len(told),
        least=min(tokens),
        most=max(tokens),
        beside=round(best.beside, 2),
        legs=[_leg(one) for one in best.legs],
    )


def _leg(times: LegTimes) -> LegAnswer:
    return LegAnswer(
        name=times.name,
        base_milliseconds=round(times.base_ms, 1),
        per_thousand_tokens_milliseconds=round(times.per_thousand_tokens_ms, 1),
        times=times.times,
    )
