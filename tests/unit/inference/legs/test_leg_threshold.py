"""The threshold of two legs finds where two lines cross, and stays in its range whatever is measured."""

import math
import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.core.legs.line import AGE_SECONDS, LEAST, PER_PART, Times
from inference.core.legs.threshold import (
    LEAST as LEAST_TOKENS,
)
from inference.core.legs.threshold import (
    LOOK_SECONDS,
    MOST,
    OFF,
    TRIED_FAR,
    TRIED_NEAR,
    LegThreshold,
    crossover,
)

PRIOR = 512


@dataclass
class Engines:
    """Engines whose times are lines, with noise and some odd times; ``now_seconds`` is a clock of its own."""

    here: tuple[float, float] = (0.02, 0.0004)
    leg: tuple[float, float] = (0.03, 0.0001)
    fetch: tuple[float, float] = (0.05, 0.00002)
    beside: float = 0.0
    noise: float = 0.1
    odd: float = 0.02
    now_seconds: float = 1000.0

    @property
    def crossing(self) -> float:
        gain = (1 + self.beside) * self.here[1] - self.leg[1] - self.fetch[1]
        return (self.leg[0] + self.fetch[0] - self.here[0]) / gain

    def time(self, line: tuple[float, float], tokens: float, chance: random.Random) -> float:
        seconds = (line[0] + line[1] * tokens) * math.exp(chance.gauss(0, self.noise))
        return 30.0 if chance.random() < self.odd else seconds

    def serve(
        self,
        threshold: LegThreshold,
        chance: random.Random,
        requests: int,
        shortest: int = 20,
        longest: int = 8000,
    ) -> int:
        """So many requests, ten a second, lengths even by their logarithm; how many went the other way."""
        strays = 0
        for _ in range(requests):
            self.now_seconds += 0.1
            tokens = round(math.exp(chance.uniform(math.log(shortest), math.log(longest))))
            before = threshold.tokens
            apart = threshold.is_apart(tokens)
            strays += apart != (tokens >= before)
            if apart:
                threshold.saw_leg(tokens, self.time(self.leg, tokens, chance), self.now_seconds)
            line = self.fetch if apart else self.here
            threshold.saw_answer(
                tokens, self.time(line, tokens, chance), self.beside, self.now_seconds, fetched=apart
            )
        return strays


def near(value: float, meant: float, part: float = 0.35) -> bool:
    return meant * (1 - part) <= value <= meant * (1 + part)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "engines",
    [
        {},
        {"beside": 5.0},
        {"here": (0.02, 0.0002), "leg": (0.2, 0.00005), "fetch": (0.1, 0.00002)},
        {"here": (0.05, 0.001), "leg": (0.05, 0.0003), "fetch": (0.03, 0.00005)},
    ],
    ids=["plain", "others-wait", "dear-leg", "slow-reader"],
)
def test_it_finds_where_the_lines_cross(engines: dict[str, float], seed: int) -> None:
    world, chance = Engines(**engines), random.Random(seed)  # type: ignore[arg-type]
    threshold = LegThreshold(PRIOR)
    world.serve(threshold, chance, 6000)
    assert near(threshold.tokens, world.crossing), (threshold.tokens, world.crossing)


@pytest.mark.parametrize("seed", range(3))
def test_it_learns_anew_when_engines_have_changed(seed: int) -> None:
    threshold, chance, world = LegThreshold(PRIOR), random.Random(seed), Engines()
    world.serve(threshold, chance, 6000)
    assert near(threshold.tokens, world.crossing)
    world.leg, world.fetch = (0.4, 0.0001), (0.3, 0.00002)
    world.serve(threshold, chance, 30_000)
    assert near(threshold.tokens, world.crossing)
    world.leg, world.fetch = (0.03, 0.0001), (0.05, 0.00002)
    world.serve(threshold, chance, 30_000)
    assert near(threshold.tokens, world.crossing)


def test_the_more_answers_wait_the_shorter_are_prompts_that_are_read_elsewhere() -> None:
    found = []
    for beside in (0.0, 2.0, 10.0):
        threshold, world = LegThreshold(PRIOR), Engines(beside=beside)
        world.serve(threshold, random.Random(1), 6000)
        found.append(threshold.tokens)
    assert found[0] > found[1] > found[2]


def test_where_a_leg_never_pays_it_rises_and_where_it_always_does_it_falls_but_not_beyond_what_was_seen() -> (
    None
):
    never = Engines(here=(0.02, 0.0001), leg=(0.03, 0.0001), fetch=(0.02, 0.00002))
    threshold = LegThreshold(PRIOR)
    never.serve(threshold, random.Random(1), 12_000, 50, 4000)
    assert 2000 < threshold.tokens <= 8000
    always = Engines(here=(0.5, 0.001), leg=(0.01, 0.0001), fetch=(0.01, 0.00001))
    threshold = LegThreshold(PRIOR)
    always.serve(threshold, random.Random(1), 12_000, 50, 4000)
    assert 25 <= threshold.tokens < 100


@pytest.mark.parametrize(("leg_seconds", "pays"), [(0.05, True), (0.9, False)])
def test_prompts_of_one_length_come_to_the_right_side(leg_seconds: float, pays: bool) -> None:
    """Without a slope to see: what counts is what is less there."""
    world = Engines(here=(0.02, 0.0004), leg=(leg_seconds, 0.0), fetch=(0.05, 0.0))
    threshold = LegThreshold(PRIOR)
    world.serve(threshold, random.Random(1), 20_000, 995, 1005)
    assert (threshold.tokens <= 995) == pays
    assert 400 < threshold.tokens < 2100


def test_little_evidence_moves_nothing() -> None:
    threshold, world = LegThreshold(PRIOR), Engines(leg=(5.0, 0.0))
    world.serve(threshold, random.Random(1), 9)
    assert threshold.tokens == PRIOR
    assert crossover(threshold.found(world.now_seconds)) is None


def test_it_stays_where_it_is_while_it_is_nearly_right_and_does_not_flap() -> None:
    threshold, chance, world = LegThreshold(PRIOR), random.Random(5), Engines()
    world.serve(threshold, chance, 6000)
    seen = set()
    for _ in range(40):
        world.serve(threshold, chance, 500)
        seen.add(threshold.tokens)
    assert len(seen) <= 6
    assert max(seen) / min(seen) < OFF**2


def test_it_moves_twofold_at_most_and_not_within_a_few_looks() -> None:
    threshold, chance, world = LegThreshold(PRIOR), random.Random(2), Engines(leg=(5.0, 0.0001))
    before, moved_seconds = threshold.tokens, world.now_seconds
    for _ in range(4000):
        world.serve(threshold, chance, 1)
        if threshold.tokens != before:
            assert 0.49 <= threshold.tokens / before <= 2.01
            assert world.now_seconds - moved_seconds >= 2 * LOOK_SECONDS
            before, moved_seconds = threshold.tokens, world.now_seconds
    assert before > PRIOR


@given(st.integers(1, 2**18), st.integers(0, 3000))
def test_few_go_the_other_way(tokens: int, requests: int) -> None:
    threshold = LegThreshold(PRIOR)
    usual = tokens >= PRIOR
    strays = sum(threshold.is_apart(tokens) != usual for _ in range(requests))
    is_near = PRIOR / 3 <= tokens <= PRIOR * 3
    assert strays == requests // (TRIED_NEAR if is_near else TRIED_FAR)


NUMBERS = st.one_of(
    st.floats(), st.integers(-(10**30), 10**30), st.sampled_from([0, 1, 512, 0.1, math.inf, math.nan])
)
SEEN = st.tuples(st.sampled_from(["leg", "fetch", "here"]), NUMBERS, NUMBERS, NUMBERS)


@given(st.integers(0, 10**9), st.lists(SEEN, max_size=200), st.floats(0, 20))
def test_it_stays_in_its_range_whatever_is_measured(
    prior: int, seen: list[tuple[str, float, float, float]], apart_seconds: float
) -> None:
    threshold, now_seconds = LegThreshold(prior), 0.0
    for kind, tokens, seconds, beside in seen:
        now_seconds += apart_seconds
        if kind == "leg":
            threshold.saw_leg(tokens, seconds, now_seconds)
        else:
            threshold.saw_answer(tokens, seconds, beside, now_seconds, fetched=kind == "fetch")
        assert LEAST_TOKENS <= threshold.tokens <= MOST
        target = crossover(threshold.found(now_seconds))
        assert target is None or LEAST_TOKENS <= target <= MOST
        threshold.is_apart(1000)


@given(st.floats(0, 3600), st.floats(1, 10_000), st.integers(LEAST, 200))
def test_constant_times_give_a_line_that_is_right_there(seconds: float, length: float, count: int) -> None:
    times = Times()
    for number in range(count):
        times.add(length, seconds, number)
    line = times.line(count)
    assert line is not None
    assert line.at(length) == pytest.approx(seconds)
    assert line.times <= PER_PART


@given(
    st.floats(0, 1),
    st.floats(0, 0.01),
    st.lists(st.floats(1, 50_000), min_size=60, max_size=200),
)
def test_exact_times_give_their_line(base: float, slope: float, lengths: list[float]) -> None:
    times = Times()
    for length in lengths:
        times.add(length, base + slope * length, 0.0)
    line = times.line(0.0)
    assert line is not None
    for length in (line.shortest, line.longest):
        assert line.at(length) == pytest.approx(base + slope * length, rel=0.05, abs=1e-6)


def test_what_is_old_is_forgotten_and_no_more_is_kept_than_so_much() -> None:
    times = Times()
    for number in range(10_000):
        times.add(1 + number % 5000, 1.0, 0.0)
    line = times.line(AGE_SECONDS)
    assert line is not None
    assert line.times <= 25 * PER_PART
    assert times.line(AGE_SECONDS + 1) is None
