"""Which replicas are replaced next: enough of them stay ready, and it comes to an end."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.lifecycle.rolling import Replacement, ReplicaProgress, next_replacements


def replicas(count: int) -> list[ReplicaProgress]:
    return [ReplicaProgress(f"r{i}", ready=True, current=False, settled=False) for i in range(count)]


def told(replica: ReplicaProgress, answer: Replacement) -> ReplicaProgress:
    """The replica right after it was told; one that does not surge stops first."""
    ready = replica.ready and answer.surge
    return replace(replica, ready=ready, current=True, settled=False, surges=answer.surge)


@given(
    count=st.integers(1, 12),
    surge=st.integers(0, 4),
    unavailable=st.integers(0, 4),
    order=st.randoms(use_true_random=False),
)
def test_a_rollout_ends_and_enough_replicas_are_ready_all_the_time(
    count: int, surge: int, unavailable: int, order: object
) -> None:
    known = replicas(count)
    if surge + unavailable == 0:
        assert next_replacements(known, 0, 0) == []
        return
    for _ in range(2 * count + 2):
        answers = {a.name: a for a in next_replacements(known, surge, unavailable)}
        known = [told(r, answers[r.name]) if r.name in answers else r for r in known]
        assert sum(not r.ready for r in known) <= unavailable
        assert sum(r.current and not r.settled and r.surges for r in known) <= surge
        open_ = [r for r in known if r.current and not r.settled]
        done = order.sample(open_, order.randint(min(1, len(open_)), len(open_)))  # type: ignore[attr-defined]
        known = [replace(r, ready=True, settled=True) if r in done else r for r in known]
    assert all(r.settled for r in known)


@pytest.mark.parametrize(("surge", "unavailable"), [(1, 0), (0, 1), (2, 1)])
def test_a_version_that_never_becomes_ready_stops_the_rest(surge: int, unavailable: int) -> None:
    known = replicas(6)
    for _ in range(5):
        answers = {a.name: a for a in next_replacements(known, surge, unavailable)}
        known = [told(r, answers[r.name]) if r.name in answers else r for r in known]
    assert sum(r.current for r in known) == surge + unavailable
    assert sum(r.ready for r in known) == 6 - unavailable


def test_replicas_that_are_not_ready_anyway_are_replaced_at_once() -> None:
    known = [replace(r, ready=i > 1) for i, r in enumerate(replicas(4))]
    assert [a.name for a in next_replacements(known, 0, 1)] == ["r0", "r1"]
