"""Turns at busy engines: a greedy tenant does not keep others waiting, nobody is left out, and how many the
engines work on is found out."""

import heapq
import random
import statistics
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.core.fair_turns import (
    FIRST_LIMIT,
    LATELY_SECONDS,
    LEAST_LIMIT,
    SPARE_PART,
    FairTurns,
    Waiter,
)

GREEDY, OTHER = "greedy", "other"


@dataclass
class Site:
    """Engines with so many ``slots``, each answer of which takes a second, or what is said for its tenant,
    behind turns or without. A greedy request is for so many ``answers``; ``worked`` are seconds of slots."""

    slots: int
    turns: FairTurns | None
    answers: int = 1
    seconds: dict[str, float] = field(default_factory=lambda: {GREEDY: 1.0, OTHER: 1.0})
    worked: float = 0.0
    left: dict[Waiter, int] = field(default_factory=dict)
    now: float = 0.0
    running: int = 0
    behind: list[tuple[Waiter, float]] = field(default_factory=list)
    events: list[tuple[float, int, str, object]] = field(default_factory=list)
    latencies: dict[str, list[float]] = field(default_factory=lambda: {GREEDY: [], OTHER: []})
    asked: dict[Waiter, float] = field(default_factory=dict)
    count: int = 0

    def at(self, seconds: float, what: str, thing: object = None) -> None:
        self.count += 1
        heapq.heappush(self.events, (seconds, self.count, what, thing))

    def ask(self, tenant: str) -> None:
        count = self.answers if tenant == GREEDY else 1
        waiter = Waiter(tenant, count, 99 + count)
        self.asked[waiter], self.left[waiter] = self.now, count
        if self.turns is None or self.turns.ask(waiter, self.now):
            self.send_all(waiter)

    def send_all(self, waiter: Waiter) -> None:
        for _ in range(waiter.turns):
            self.send(waiter)

    def send(self, waiter: Waiter) -> None:
        if self.running < self.slots:
            self.running += 1
            self.worked += self.seconds[waiter.tenant]
            self.at(self.now + self.seconds[waiter.tenant], "ends", waiter)
        else:
            self.behind.append((waiter, self.now))

    def ends(self, waiter: Waiter) -> None:
        self.running -= 1
        if self.behind:
            self.send(self.behind.pop(0)[0])
        self.left[waiter] -= 1
        if self.left[waiter]:
            return
        self.latencies[waiter.tenant].append(self.now - self.asked.pop(waiter))
        if self.turns is not None:
            self.turns.end(waiter, 1.0)
            self.call_next()
        self.ask(waiter.tenant)

    def call_next(self) -> None:
        while self.turns is not None and (waiter := self.turns.next()) is not None:
            self.send_all(waiter)

    def look(self) -> None:
        if self.turns is not None:
            self.turns.told(self.running + len(self.behind), len(self.behind))
            self.call_next()
        self.at(self.now + 0.25, "look")

    def play(self, greedy: int, seconds: float, others: int = 1) -> None:
        """Clients that each ask again when they are answered, so many ``greedy`` ones and ``others``."""
        for number in range(greedy):
            self.at(number / max(1, greedy), "asks", GREEDY)
        for number in range(others):
            self.at(0.5 + number / 10, "asks", OTHER)
        self.at(0.25, "look")
        while self.events and self.events[0][0] < seconds:
            self.now, _, what, thing = heapq.heappop(self.events)
            if what == "look":
                self.look()
            elif what == "asks":
                self.ask(str(thing))
            else:
                assert isinstance(thing, Waiter)
                self.ends(thing)


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def test_a_greedy_tenant_does_not_keep_another_waiting() -> None:
    fair, unfair = Site(16, FairTurns(1)), Site(16, None)
    for site in (fair, unfair):
        site.play(greedy=400, seconds=400)
    settled = fair.latencies[OTHER][20:]
    assert p99(settled) <= 1.5
    assert p99(unfair.latencies[OTHER]) > 10, "engines serve whoever came first"
    greedy = len(fair.latencies[GREEDY]) / len(unfair.latencies[GREEDY])
    assert greedy > 0.85, "and the engines stay at work"


def test_a_tenant_alone_has_all_that_the_engines_can_do() -> None:
    fair, straight = Site(100, FairTurns(2)), Site(100, None)
    for site in (fair, straight):
        site.play(greedy=300, seconds=100)
    assert len(fair.latencies[GREEDY]) > 0.85 * len(straight.latencies[GREEDY])


def test_engines_that_never_have_enough_are_given_twice_as_many_each_time() -> None:
    turns = FairTurns(1)
    for _ in range(1000):
        turns.ask(Waiter("a", 1, 1), 0.0)
    for times in range(1, 4):
        turns.told(turns.open, 0)
        while turns.next() is not None:
            pass
        assert turns.limit == turns.open == FIRST_LIMIT * 2**times
    turns.told(turns.open, 200)
    assert turns.limit == FIRST_LIMIT * 8 - 200
    turns.told(turns.open, 0)
    assert turns.limit == FIRST_LIMIT * 8 - 200 + 3


def test_engines_that_tell_nothing_keep_nobody_waiting_for_long() -> None:
    turns = FairTurns(1)
    for _ in range(500):
        turns.ask(Waiter("a", 1, 1), 0.0)
    for _ in range(4):
        turns.untold()
    while turns.next() is not None:
        pass
    assert turns.waiting == 0


def test_turns_of_who_does_not_read_keep_nobody_waiting() -> None:
    turns = FairTurns(1)
    slow = [Waiter("slow", 1, 1) for _ in range(FIRST_LIMIT)]
    assert all(turns.ask(waiter, 0.0) for waiter in slow)
    other = Waiter("other", 1, 1)
    assert not turns.ask(other, 0.0)
    turns.told(2, 0)
    assert turns.next() is other
    for waiter in (*slow, other):
        turns.end(waiter, 1.0)
    assert (turns.open, turns.unused) == (0, 0)


def test_an_engine_that_hangs_is_still_given_one() -> None:
    turns = FairTurns(3)
    waiter = Waiter("a", 1, 1)
    assert turns.ask(waiter, 0.0)
    turns.told(100, 100)
    assert turns.limit == 3 * LEAST_LIMIT


def test_what_a_request_did_not_take_is_given_back_and_no_number_spoils_the_order() -> None:
    turns = FairTurns(1)
    turns.limit = 1
    first, waits = Waiter("a", 1, 10**30), [Waiter("a", 1, 50), Waiter("b", 1, 50), Waiter("b", 1, 50)]
    assert turns.ask(first, 0.0)
    assert not any(turns.ask(waiter, 0.0) for waiter in waits)
    order: list[str] = []
    running: Waiter | None = first
    while running is not None:
        turns.end(running, 1.0, used=60)
        if (following := turns.next()) is not None:
            order.append(following.tenant)
        running = following
    assert order == ["b", "a", "b"]


def test_who_asks_for_more_answers_than_there_are_turns_is_served_when_some_are_free() -> None:
    turns = FairTurns(1)
    small = [Waiter("a", 1, 1) for _ in range(FIRST_LIMIT - FIRST_LIMIT // SPARE_PART + 1)]
    large, next_ = Waiter("b", FIRST_LIMIT + 1, 1), Waiter("c", 1, 100)
    assert all(turns.ask(waiter, 0.0) for waiter in small)
    assert not turns.ask(large, 0.0)
    assert not turns.ask(next_, 0.0), "nobody passes it by"
    turns.end(small.pop(), 1.0)
    assert turns.next() is large
    assert turns.next() is None
    turns.end(large, 1.0)
    assert turns.next() is next_


def test_what_still_waits_in_an_engine_lowers_the_limit_once() -> None:
    turns = FairTurns(1)
    for _ in range(64):
        turns.ask(Waiter("a", 1, 1), 0.0)
    turns.told(FIRST_LIMIT, 0)
    while turns.next() is not None:
        pass
    for _ in range(10):
        turns.told(64, 24)
        assert turns.limit == 40


@pytest.mark.parametrize("clients", [1, 4])
def test_requests_of_many_short_answers_leave_engines_no_less_to_do(clients: int) -> None:
    site = Site(64, FairTurns(1), answers=128, seconds={GREEDY: 0.2, OTHER: 20.0})
    site.play(greedy=clients, seconds=600, others=200)
    assert site.worked > 0.9 * 64 * 600


def test_who_has_asked_for_nothing_is_not_ahead_and_is_forgotten() -> None:
    turns = FairTurns(1)
    first = Waiter("late", 1, 1)
    assert turns.ask(first, 0.0)
    turns.end(first, 1.0)
    for number in range(100):
        waiter = Waiter("steady", 1, 1000)
        assert turns.ask(waiter, float(number))
        turns.end(waiter, 1.0)
    assert list(turns._tenants) == ["steady"]
    for number in range(FIRST_LIMIT):
        assert turns.ask(Waiter("steady", 1, 10), 100.0 + number)
    waits = [Waiter("late", 1, 10), Waiter("steady", 1, 10), Waiter("late", 1, 10)]
    assert not any(turns.ask(waiter, 200.0) for waiter in waits)
    turns.end(Waiter("steady", 1, 0), 1.0)
    assert turns.next() in waits
    assert turns.wait_seconds("late") >= 1
    assert LATELY_SECONDS < 100


@settings(max_examples=150, deadline=None)
@given(
    asks=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.integers(1, 50)), min_size=1, max_size=150
    ),
    chance=st.randoms(use_true_random=False),
)
def test_nobody_is_left_out_and_turns_are_few_more_than_the_limit(
    asks: list[tuple[str, int, int]], chance: random.Random
) -> None:
    turns = FairTurns(1)
    running: list[Waiter] = []
    waiting: list[Waiter] = []
    started: dict[str, list[Waiter]] = {name: [] for name in "abc"}
    turns.limit = 8
    order: dict[str, list[Waiter]] = {name: [] for name in "abc"}

    def began(waiter: Waiter) -> None:
        running.append(waiter)
        started[waiter.tenant].append(waiter)
        beyond = waiter.turns - max(1, turns.limit // SPARE_PART)
        assert turns.open == sum(one.turns for one in running) <= turns.limit + max(0, beyond)

    for tenant, count, cost in asks:
        waiter = Waiter(tenant, count, cost)
        order[tenant].append(waiter)
        if turns.ask(waiter, 0.0):
            began(waiter)
        else:
            waiting.append(waiter)
        if waiting and chance.random() < 0.1:
            gone = waiting.pop(chance.randrange(len(waiting)))
            if gone not in running and gone not in started[gone.tenant]:
                turns.leave(gone)
                order[gone.tenant].remove(gone)
    while running:
        turns.end(running.pop(chance.randrange(len(running))), 1.0)
        while (following := turns.next()) is not None:
            began(following)
    assert turns.is_idle
    assert started == order, "of each tenant in the order in which they came"


@given(costs=st.tuples(st.integers(1, 40), st.integers(1, 40)))
@settings(max_examples=50, deadline=None)
def test_two_who_always_want_more_get_the_same_of_what_counts(costs: tuple[int, int]) -> None:
    turns, had = FairTurns(1), {"a": 0, "b": 0}
    turns.limit = 4
    for tenant, cost in zip("ab", costs, strict=True):
        for _ in range(400):
            turns.ask(Waiter(tenant, 1, cost), 0.0)
    running = [Waiter("a", 1, 0)] * 4
    for _ in range(200):
        one = running.pop(0)
        turns.end(one, 1.0)
        while (following := turns.next()) is not None:
            had[following.tenant] += following.cost
            running.append(following)
    assert abs(had["a"] - had["b"]) <= 4 * max(costs) + 4 * min(costs)
