"""What a request tells of its times, in the length by which prompts are parted."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from common.wire import RouteReplica
from inference.core.legs.threshold import LegThreshold
from inference.core.usage import TokenCounts
from inference.gateway.engines.legs import Sides
from inference.gateway.learning.thresholds import Learned, Thresholds
from tests.fixtures.gateway import table

CALL: Any = SimpleNamespace(waited_seconds=0.25, beside=3)


class Seen(LegThreshold):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__(512)
        self.told: list[tuple[object, ...]] = []

    def saw_leg(self, tokens: float, seconds: float, now_seconds: float) -> None:
        self.told.append(("leg", tokens, seconds))

    def saw_answer(
        self, tokens: float, seconds: float, beside: float, now_seconds: float, *, fetched: bool
    ) -> None:
        self.told.append(("fetch" if fetched else "here", tokens, seconds, beside))


async def test_what_was_cached_counts_for_who_reads_and_not_for_who_fetches() -> None:
    seen = Seen()
    learned = Learned(seen, "tiny")
    counts = TokenCounts(prompt=200, cached=50, completion=7)
    learned.saw_leg(0.25, 1000, counts)
    learned.saw_answer(CALL, 1000, counts, fetched=False)
    learned.saw_answer(CALL, 1000, counts, fetched=True)
    learned.saw_leg(0.25, 1000, TokenCounts())
    assert seen.told == [
        ("leg", 750, 0.25),
        ("here", 750, 0.25, 3),
        ("fetch", 1000, 0.25, 3),
        ("leg", 0, 0.25),
    ]


def test_a_word_says_why_a_prompt_is_not_read_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    learned = Learned(LegThreshold(512), "tiny")
    assert [learned.why_not(511), learned.why_not(512)] == ["short", ""]
    monkeypatch.setattr("inference.core.legs.threshold.TRIED_NEAR", 1)
    assert [learned.why_not(511), learned.why_not(512)] == ["", "tried"]


def test_an_endpoint_that_is_gone_is_forgotten() -> None:
    thresholds = Thresholds()
    first = thresholds.of("lab/chat", 100, "tiny")._threshold
    assert thresholds.of("lab/chat", 900, "tiny")._threshold is first
    thresholds.keep_only({"lab/chat"})
    assert thresholds.of("lab/chat", 900, "tiny")._threshold is first
    thresholds.keep_only({"lab/other"})
    assert thresholds.of("lab/chat", 900, "tiny")._threshold.tokens == 900


@pytest.mark.parametrize(
    ("learns", "endpoints", "learner"),
    [
        ((True, True), ("lab/a", "lab/a"), "lab/a"),
        ((True, False), ("lab/a", "lab/a"), ""),
        ((False, False), ("lab/a", "lab/a"), ""),
        ((True, True), ("lab/a", "lab/b"), ""),
    ],
)
def test_only_what_one_endpoint_leaves_open_is_learned(
    learns: tuple[bool, bool], endpoints: tuple[str, str], learner: str
) -> None:
    engines = [("p0", "http://p0", "prefill"), ("p1", "http://p1", "prefill")]
    [route] = table([*engines, ("d0", "http://d0", "decode"), ("d1", "http://d1", "decode")]).routes  # type: ignore[list-item]
    changed = zip(route.replicas, (*learns, False, False), endpoints * 2, strict=True)
    replicas: tuple[RouteReplica, ...] = tuple(
        one.model_copy(update={"learns_min_prompt": does, "endpoint": of}) for one, does, of in changed
    )
    assert Sides.of(route.model_copy(update={"replicas": replicas})).learner == learner


async def test_control_is_told_what_was_learned() -> None:
    thresholds = Thresholds()
    known = thresholds.of("lab/chat", 100, "tiny")._threshold
    for number in range(8):
        known.saw_leg(1000, 0.5, asyncio.get_running_loop().time())
        known.saw_answer(1000, 0.25, 2 * (number % 2), asyncio.get_running_loop().time(), fetched=False)
    [told] = thresholds.report("gw-1").thresholds
    assert (told.endpoint, told.min_prompt_tokens) == ("lab/chat", 100)
    assert 0 < told.beside < 2
    assert [(leg.name, leg.base_ms, leg.per_thousand_tokens_ms, leg.times) for leg in told.legs] == [
        ("here", 0, 250, 8),
        ("leg", 0, 500, 8),
    ]
