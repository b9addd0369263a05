"""Who is considered next."""

import random
from collections.abc import Iterable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.model.types import QueueView, WorkloadView
from scheduler.core.quota.ordering import Heads
from scheduler.core.quota.quota import QuotaTree
from scheduler.core.quota.standing import Alternatives, share_after, standing_of
from tests.unit.scheduler.quota_worlds import (
    B910,
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


def heads_of(pending: Iterable[WorkloadView], queues: QuotaTree, needs: Sequence[Alternatives] = ()) -> Heads:
    """All of them need the same."""
    return Heads(pending, queues, NOW_MS, lambda _: needs)


def names(pending: Iterable[WorkloadView], queues: QuotaTree = FLAT) -> list[str]:
    heads = heads_of(pending, queues)
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
    assert heads_of([], FLAT).pop() is None


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
    heads = heads_of(demand({"a": 4, "b": 4}), queues)
    assert admit(heads, queues, 6) == ["a", "b", "a", "b", "a", "b"]


def test_who_is_not_charged_keeps_its_turn() -> None:
    queues = tree(queue("a"), queue("b"))
    queues.charge("a", H100, 1000)
    heads = heads_of(demand({"a": 2, "b": 2}), queues)
    assert [workload.queue for workload in iter(heads.pop, None)] == ["b", "b", "a", "a"]


def test_cohorts_share_first_and_queues_within_them() -> None:
    """left has one queue and right has three: each side gets half."""
    queues = tree(
        cohort("left"), cohort("right"), queue("a", "left"), *(queue(name, "right") for name in "bcd")
    )
    heads = heads_of(demand(dict.fromkeys("abcd", 20)), queues)
    order = admit(heads, queues, 24)
    assert [order.count(name) for name in "abcd"] == [12, 4, 4, 4]


def test_a_refund_brings_a_queue_forward() -> None:
    queues = tree(cohort("ai"), queue("a", "ai"), queue("b", "ai"))
    heads = heads_of(demand({"a": 9, "b": 9}), queues)
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
    heads = heads_of(demand({"a": count, "b": count}), queues, [[(H100, millis)]])
    admit(heads, queues, count, millis)
    one = millis / CAPACITY[H100] / min(weight_a, weight_b)
    assert abs(queues.share("a") - queues.share("b")) <= one + 1e-12


def test_weights_of_two_to_one_give_two_to_one() -> None:
    queues = tree(cohort("ai", "", quota("*", 60)), queue("a", "ai", weight=2), queue("b", "ai"))
    heads = heads_of(demand({"a": 60, "b": 60}), queues)
    order = admit(heads, queues, 60)
    assert (order.count("a"), order.count("b")) == (40, 20)


NEEDS: dict[str, list[Alternatives]] = {
    "w0": [],
    "w1": [[(H100, 1000)]],
    "w2": [[(H100, 4000), (L20, 4000), (B910, 2000)]],
    "w3": [[(H100, 2000)], [(H100, 1000), (B910, 3000)]],
}


def needs_of(workload: WorkloadView) -> list[Alternatives]:
    return NEEDS[workload.name]


_NAME = st.sampled_from(sorted(NEEDS))
_QUEUE = st.sampled_from(["a", "b", "c", "d", "e", "x", "typo"])
_PROJECT = st.sampled_from("pq")
_PRIORITY = st.integers(0, 1)
_CREATED_MS = st.sampled_from([1, 2, NOW_MS + 1, NOW_MS + 2])
_DEADLINE_MS = st.none() | st.integers(0, 1)
_COUNT = st.integers(0, 14)


@st.composite
def crowds(draw: st.DrawFn) -> list[WorkloadView]:
    return [
        waiting(
            draw(_NAME),
            draw(_QUEUE),
            uid=f"uid{number}",
            project=draw(_PROJECT),
            priority=draw(_PRIORITY),
            created_ms=draw(_CREATED_MS),
            deadline_ms=draw(_DEADLINE_MS),
        )
        for number in range(draw(_COUNT))
    ]


@settings(max_examples=150)
@given(forests(), crowds(), st.randoms(use_true_random=False))
def test_the_order_is_total_and_follows_nominal_quota_importance_and_shares(
    views: list[QueueView], pending: list[WorkloadView], chance: random.Random
) -> None:
    """The same as choosing among the first of all queues, each time anew; whatever the order of the input."""
    queues = QuotaTree(views, CAPACITY)
    shuffled = pending[:]
    chance.shuffle(shuffled)
    heads = Heads(shuffled, queues, NOW_MS, needs_of)
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
            heads.refresh()
    assert heads.pop() is None


def best(left: list[WorkloadView], views: list[QueueView], queues: QuotaTree) -> WorkloadView:
    known = {view.name for view in views if not view.is_cohort}
    firsts = [
        min((each for each in left if each.queue == name), key=place)
        for name in sorted({each.queue for each in left})
    ]
    return champion(
        [(path(views, each.queue) if each.queue in known else [f"?{each.queue}"], each) for each in firsts],
        0,
        queues,
    )


def place(workload: WorkloadView) -> tuple[float, ...] | tuple[object, ...]:
    deadline = float("inf") if workload.deadline_ms is None else workload.deadline_ms
    age = min(workload.created_ms, NOW_MS), workload.project, workload.name, workload.uid
    return -workload.priority, deadline, *age


def path(views: list[QueueView], name: str) -> list[str]:
    return [view.name for view in reversed(chain(views, name))]


def champion(candidates: list[tuple[list[str], WorkloadView]], depth: int, queues: QuotaTree) -> WorkloadView:
    """Of each member at this depth the champion of those below it; of these, who comes first."""
    groups: dict[str, list[tuple[list[str], WorkloadView]]] = {}
    for names_above, workload in candidates:
        if depth == len(names_above):
            return workload
        groups.setdefault(names_above[depth], []).append((names_above, workload))

    def turn(name: str) -> tuple[object, ...]:
        member = queues.member(found[name].queue)
        if member is None:
            return 0, *place(found[name])[:2], float("inf"), *place(found[name])[2:]
        borrows, takes, _ = standing_of(queues, member, needs_of(found[name]))
        here = next(above for above in member.chain if above.name == name)
        share = share_after(queues, here, takes)
        return borrows, *place(found[name])[:2], share, *place(found[name])[2:]

    found = {name: champion(group, depth + 1, queues) for name, group in groups.items()}
    return found[min(found, key=turn)]
