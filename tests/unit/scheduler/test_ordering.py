"""Who is considered next."""

import random
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.model.types import QueueView, WorkloadView
from scheduler.core.quota.ordering import Heads
from scheduler.core.quota.quota import QuotaTree
from tests.unit.scheduler.quota_worlds import (
    CAPACITY,
    H100,
    L20,
    MODELS,
    chain,
    cohort,
    forests,
    queue,
    quota,
    tree,
    waiting,
)

NOW_MS = 1_000_000
FLAT = tree(queue("a"), queue("b"), queue("c"))


def names(pending: Iterable[WorkloadView], queues: QuotaTree = FLAT) -> list[str]:
    heads = Heads(pending, queues, NOW_MS)
    return [workload.name for workload in iter(heads.pop, None)]


def admit(heads: Heads, queues: QuotaTree, count: int, millis: int = 1000) -> list[str]:
    """Pop and charge ``count`` workloads of one H100 each; their queues."""
    order = []
    for _ in range(count):
        workload = heads.pop()
        assert workload is not None
        queues.charge(workload.queue, H100, millis)
        order.append(workload.queue)
    return order


def demand(counts: dict[str, int]) -> list[WorkloadView]:
    return [waiting(f"{name}{i:03}", name) for name, count in counts.items() for i in range(count)]


def test_nothing_waits() -> None:
    assert Heads([], FLAT, NOW_MS).pop() is None


def test_priority_then_deadline_then_age_then_name() -> None:
    pending = [
        waiting("late", created_ms=9),
        waiting("early", created_ms=1),
        waiting("b", created_ms=5, project="p"),
        waiting("a", created_ms=5, project="p"),
        waiting("z", created_ms=5, project="o"),
        waiting("due-late", created_ms=8, deadline_ms=900),
        waiting("due-soon", created_ms=9, deadline_ms=100),
        waiting("urgent", created_ms=9, priority=5),
        waiting("low", created_ms=0, priority=-1, deadline_ms=1),
    ]
    assert names(pending) == ["urgent", "due-soon", "due-late", "early", "z", "a", "b", "late", "low"]


def test_a_creation_time_in_the_future_counts_as_now() -> None:
    pending = [
        waiting("b", created_ms=NOW_MS + 5),
        waiting("a", created_ms=NOW_MS + 9),
        waiting("c", created_ms=NOW_MS),
    ]
    assert names(pending) == ["a", "b", "c"]


def test_a_lower_share_goes_before_age_but_not_before_a_deadline() -> None:
    queues = tree(queue("a"), queue("b"))
    queues.charge("a", H100, 1000)
    old, new = waiting("old", "a", created_ms=1), waiting("new", "b", created_ms=2)
    assert names([old, new], queues) == ["new", "old"]
    due = waiting("due", "a", created_ms=3, deadline_ms=10)
    assert names([old, new, due], queues) == ["due", "new", "old"]


def test_workloads_of_unknown_queues_and_cohorts_come_out_last_of_their_priority() -> None:
    queues = tree(cohort("ai"), queue("a", "ai", weight=1))
    queues.charge("a", H100, 60_000)
    pending = [
        waiting("stray", "typo", created_ms=0),
        waiting("up", "ai", created_ms=1),
        waiting("fine", "a", created_ms=9),
        waiting("low", "a", priority=-1),
    ]
    assert names(pending, queues) == ["fine", "stray", "up", "low"]


def test_equal_queues_take_turns_as_they_are_charged() -> None:
    queues = tree(cohort("ai"), queue("a", "ai"), queue("b", "ai"))
    heads = Heads(demand({"a": 4, "b": 4}), queues, NOW_MS)
    assert admit(heads, queues, 6) == ["a", "b", "a", "b", "a", "b"]


def test_who_is_not_charged_keeps_its_turn() -> None:
    queues = tree(queue("a"), queue("b"))
    queues.charge("a", H100, 1000)
    heads = Heads(demand({"a": 2, "b": 2}), queues, NOW_MS)
    assert [workload.queue for workload in iter(heads.pop, None)] == ["b", "b", "a", "a"]


def test_cohorts_share_first_and_queues_within_them() -> None:
    """left has one queue and right has three: each side gets half."""
    queues = tree(
        cohort("left"), cohort("right"), queue("a", "left"), *(queue(name, "right") for name in "bcd")
    )
    heads = Heads(demand(dict.fromkeys("abcd", 20)), queues, NOW_MS)
    order = admit(heads, queues, 24)
    assert [order.count(name) for name in "abcd"] == [12, 4, 4, 4]


def test_a_refund_brings_a_queue_forward() -> None:
    queues = tree(cohort("ai"), queue("a", "ai"), queue("b", "ai"))
    heads = Heads(demand({"a": 9, "b": 9}), queues, NOW_MS)
    assert admit(heads, queues, 4) == ["a", "b", "a", "b"]
    queues.refund("b", H100, 2000)
    assert admit(heads, queues, 3) == ["b", "b", "a"]


def test_the_dominant_share_counts_not_the_number_of_devices() -> None:
    """20 H100 of 64 are less than 12 L20 of 32."""
    queues = tree(queue("a"), queue("b"))
    queues.charge("a", H100, 20_000)
    queues.charge("b", L20, 12_000)
    assert queues.share("a") == 20 / 64
    assert queues.share("b") == 12 / 32
    assert names([waiting("old", "b"), waiting("new", "a", created_ms=5)], queues) == ["new", "old"]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([250, 1000, 3000]), st.integers(1, 40))
def test_shares_follow_weights(weight_a: int, weight_b: int, millis: int, count: int) -> None:
    queues = tree(cohort("ai"), queue("a", "ai", weight=weight_a), queue("b", "ai", weight=weight_b))
    heads = Heads(demand({"a": count, "b": count}), queues, NOW_MS)
    admit(heads, queues, count, millis)
    one = millis / CAPACITY[H100] / min(weight_a, weight_b)
    assert abs(queues.share("a") - queues.share("b")) <= one + 1e-12


def test_weights_of_two_to_one_give_two_to_one() -> None:
    queues = tree(cohort("ai", "", quota("*", 60)), queue("a", "ai", weight=2), queue("b", "ai"))
    heads = Heads(demand({"a": 60, "b": 60}), queues, NOW_MS)
    order = admit(heads, queues, 60)
    assert (order.count("a"), order.count("b")) == (40, 20)


@st.composite
def crowds(draw: st.DrawFn) -> list[WorkloadView]:
    return [
        waiting(
            f"w{draw(st.integers(0, 3))}",
            draw(st.sampled_from(["a", "b", "c", "d", "e", "x", "typo"])),
            uid=f"uid{number}",
            project=draw(st.sampled_from("pq")),
            priority=draw(st.integers(0, 1)),
            created_ms=draw(st.sampled_from([1, 2, NOW_MS + 1, NOW_MS + 2])),
            deadline_ms=draw(st.none() | st.integers(0, 1)),
        )
        for number in range(draw(st.integers(0, 14)))
    ]


@settings(max_examples=150, deadline=None)
@given(forests(), crowds(), st.randoms(use_true_random=False))
def test_the_order_is_total_and_follows_the_shares(
    views: list[QueueView], pending: list[WorkloadView], chance: random.Random
) -> None:
    """The same as choosing among all that wait, each time anew; whatever the order of the input."""
    queues = QuotaTree(views, CAPACITY)
    shuffled = pending[:]
    chance.shuffle(shuffled)
    heads = Heads(shuffled, queues, NOW_MS)
    left, charged = pending[:], []
    while left:
        expected = best(left, views, queues)
        assert heads.pop() is expected
        left.remove(expected)
        if chance.random() < 0.6:
            grant = (expected.queue, chance.choice(MODELS), chance.choice([500, 4000]))
            queues.charge(*grant)
            charged.append(grant)
        elif charged and chance.random() < 0.5:
            queues.refund(*charged.pop(chance.randrange(len(charged))))
    assert heads.pop() is None


def best(left: list[WorkloadView], views: list[QueueView], queues: QuotaTree) -> WorkloadView:
    def rank(workload: WorkloadView) -> tuple[int, float]:
        deadline = workload.deadline_ms
        return -workload.priority, float("inf") if deadline is None else deadline

    first = min(map(rank, left))
    known = {view.name for view in views if not view.is_cohort}
    candidates = [
        (path(views, workload.queue) if workload.queue in known else [f"?{workload.queue}"], workload)
        for workload in left
        if rank(workload) == first
    ]
    return champion(candidates, 0, queues)


def path(views: list[QueueView], name: str) -> list[str]:
    return [view.name for view in reversed(chain(views, name))]


def champion(candidates: list[tuple[list[str], WorkloadView]], depth: int, queues: QuotaTree) -> WorkloadView:
    """Of each member at this depth the champion of those below it; of these, who has the lowest share."""

    def age(workload: WorkloadView) -> tuple[int, str, str, str]:
        return min(workload.created_ms, NOW_MS), workload.project, workload.name, workload.uid

    groups: dict[str, list[tuple[list[str], WorkloadView]]] = {}
    for names_above, workload in candidates:
        if depth == len(names_above):
            return min((each for _, each in candidates), key=age)
        groups.setdefault(names_above[depth], []).append((names_above, workload))
    winners = [
        (queues.share(name), age(found := champion(group, depth + 1, queues)), found)
        for name, group in groups.items()
    ]
    return min(winners, key=lambda winner: winner[:2])[2]
