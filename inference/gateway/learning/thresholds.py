"""From which length on prompts get a leg of their own, of each Endpoint that does not say it itself."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from common.wire import MAX_DEMANDS, LearnedThreshold, LegTimes, ThresholdReport
from inference.core.legs.line import Line
from inference.core.legs.threshold import LegThreshold
from inference.core.usage import TokenCounts
from inference.gateway import metrics
from inference.gateway.engines.upstream import EngineCall


class Thresholds:
    """By Endpoint, as ``project/name``; those of others are forgotten with their routes."""

    def __init__(self) -> None:
        self._known: dict[str, LegThreshold] = {}

    def keep_only(self, endpoints: Collection[str]) -> None:
        """Forget the others."""
        self._known = {name: one for name, one in self._known.items() if name in endpoints}

    def of(self, endpoint: str, prior: int, model: str) -> Learned:
        """That of an Endpoint, which begins with ``prior``; it is told as the ``model``'s."""
        known = self._known.get(endpoint)
        if known is None:
            known = self._known[endpoint] = LegThreshold(prior)
        return Learned(known, metrics.MODELS.of(model))

    def report(self, gateway: str) -> ThresholdReport:
        """All of them, for control."""
        now_seconds = _now_seconds()
        told = (_told(name, one, now_seconds) for name, one in list(self._known.items())[:MAX_DEMANDS])
        return ThresholdReport(gateway=gateway, thresholds=tuple(told))


class Learned:
    """What one request asks of a threshold, and tells it."""

    def __init__(self, threshold: LegThreshold, model: str) -> None:
        self._threshold, self._model = threshold, model

    def why_not(self, tokens: int) -> str:
        """Why no other engine is to read a prompt of about so many tokens, in a word; empty: one is to."""
        least = self._threshold.tokens
        metrics.MIN_PROMPT_TOKENS.labels(self._model).set(least)
        if self._threshold.is_apart(tokens):
            return ""
        return "short" if tokens < least else "tried"

    def saw_leg(self, seconds: float, tokens: int, counts: TokenCounts) -> None:
        """An engine has read a prompt of about so many tokens."""
        self._threshold.saw_leg(_uncached(tokens, counts), seconds, _now_seconds())

    def saw_answer(self, call: EngineCall, tokens: int, counts: TokenCounts, *, fetched: bool) -> None:
        """A stream has come to its end, so that it is known how much of its prompt was cached."""
        self._threshold.saw_answer(
            tokens if fetched else _uncached(tokens, counts),
            call.waited_seconds,
            call.beside,
            _now_seconds(),
            fetched=fetched,
        )


def _told(endpoint: str, threshold: LegThreshold, now_seconds: float) -> LearnedThreshold:
    found = threshold.found(now_seconds)
    lines = {"here": found.here, "leg": found.leg, "fetch": found.fetch}
    return LearnedThreshold(
        endpoint=endpoint,
        min_prompt_tokens=found.tokens,
        beside=found.beside,
        legs=tuple(_times(name, line) for name, line in lines.items() if line is not None),
    )


def _times(name: Any, line: Line) -> LegTimes:
    return LegTimes(
        name=name,
        base_ms=1000 * line.base_seconds,
        per_thousand_tokens_ms=1_000_000 * line.slope_seconds,
        times=line.times,
    )


def _uncached(tokens: int, counts: TokenCounts) -> float:
    """So many of about ``tokens``, by the part that the engine counted."""
    return tokens * (1 - counts.cached / counts.prompt) if counts.prompt else 0.0


def _now_seconds() -> float:
    return asyncio.get_running_loop().time()
