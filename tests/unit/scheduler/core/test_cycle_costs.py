"""What a cycle costs: in proportion to what waits and to what has changed, not to what there is."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.cycle import run_cycle
from scheduler.core.explain.verdicts import Verdicts
from scheduler.core.forecast import forecast_starts
from scheduler.core.model.types import Policy, QueueView, RunningView
from scheduler.core.placement.outline import NOTHING, RunningSummary
from scheduler.core.placement.snapshot import take_snapshot
from scheduler.core.placement.trial import keep_books
from scheduler.core.pool.pool import Pool
from scheduler.core.quota import ordering
from scheduler.core.quota.ordering import Heads
from scheduler.core.quota.queue_members import Member
from scheduler.core.quota.quota import QuotaTree
from scheduler.core.quota.standing import Alternatives, Standing, standing_of
from tests.unit.scheduler.build import NOW_MS, gpu, holding, node, role, workload
from tests.unit.scheduler.quota_worlds import H100, cohort, queue, quota, tree, waiting

pytestmark = pytest.mark.unit


def test_who_is_next_is_told_without_a_look_at_queues_that_nothing_has_changed_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Queues that keep to their nominal quotas do not care what others of their cohort use: each workload is
    weighed once, and none again because another one was admitted."""
    weighed: list[str] = []

    def counted(tree: QuotaTree, member: Member, roles: Sequence[Alternatives]) -> Standing:
        weighed.append(member.name)
        return standing_of(tree, member, roles)

    monkeypatch.setattr(ordering, "standing_of", counted)
    names = [f"q{number}" for number in range(10)]
    queues = tree(cohort("all"), *(queue(name, "all", quota("*", 20)) for name in names))
    needs = [[(H100, 1000)]]
    pending = [waiting(f"{name}-{number}", name) for name in names for number in range(5)]
    heads = Heads(pending, queues, NOW_MS, lambda _: needs)
    while (workload := heads.pop()) is not None:
        queues.charge(workload.queue, H100, 1000)
    assert len(weighed) == 50


def test_verdicts_are_counted_anew_only_for_kinds_of_nodes_that_have_changed() -> None:
    """What the others say is as it was, and the same as if all were asked."""
    old = [node(f"b{number}", gpu(0, model="L20")) for number in range(3)]
    new = [node("a0", gpu(0)), node("a1", gpu(0))]
    pool = Pool([*new, *old])
    shape, kept = pool.shape(role(vendors=("nvidia",)).request), pool.once(Verdicts)
    before, census = kept.tally(shape), kept._census
    pool.occupy(holding("x", new[0], 0).placement)
    after = kept.tally(shape)
    taken_over = [crowd for crowd in kept._census.listed if crowd in census.listed]
    assert [crowd.nodes for crowd in taken_over] == [3]
    assert after == Verdicts(pool).tally(shape)
    assert after != before


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 2), st.integers(0, 9)), max_size=40)
)
def test_the_summary_of_what_runs_is_kept_while_workloads_come_and_go(
    steps: list[tuple[int, bool, int, int]],
) -> None:
    """It says what one says that is made from what runs now."""
    kept, running, place = RunningSummary(), dict[int, RunningView](), node("n", gpu(0))
    for number, leaving, priority, started_ms in steps:
        if number in running:
            kept.remove(running.pop(number))
        else:
            view = holding("x", place, 0, priority=priority, started_ms=started_ms)
            running[number] = replace(view, leaving=leaving, ends_ms=9 if leaving else None)
            kept.add(running[number])
        for ripe_ms in (0, 4, 9):
            assert kept.outline(ripe_ms) == RunningSummary(running.values()).outline(ripe_ms)
            assert kept.outline(ripe_ms).lowest == min(
                (one.workload.priority for one in running.values()), default=NOTHING
            )


def test_a_workload_that_nothing_helps_costs_no_look_at_what_runs() -> None:
    class Unread(tuple[RunningView, ...]):
        """What is not to be looked through."""

        def __iter__(self) -> Iterator[RunningView]:
            raise AssertionError("looked through")

    full = node("n", gpu(0))
    runs = holding("runs", full, 0, started_ms=NOW_MS - 1000)
    snapshot = take_snapshot([full], [QueueView("default")], [workload("waits")], [runs])
    kept = replace(
        snapshot,
        running=Unread([runs]),
        books=keep_books(snapshot.queues, snapshot.pool, [runs]),
        flexible=False,
        summary=RunningSummary([runs]),
    )
    assert run_cycle(kept, Policy(), NOW_MS) == run_cycle(snapshot, Policy(), NOW_MS)


def test_a_forecast_goes_by_what_runs_then_and_not_by_what_runs_now() -> None:
    """The gang waits for the second of two that are yet to start: no long one comes between."""
    full = node("n", gpu(0), gpu(1))
    pending = [
        workload("short", expected_seconds=50),
        workload("middle", expected_seconds=100),
        workload("gang", role(2), expected_seconds=60, created_ms=1),
        workload("long", expected_seconds=600, created_ms=2),
    ]
    snapshot = take_snapshot([full], [QueueView("default")], pending)
    starts = forecast_starts(replace(snapshot, summary=RunningSummary()), Policy(), NOW_MS)
    assert starts == forecast_starts(snapshot, Policy(), NOW_MS)
    assert starts["uid-gang"] == NOW_MS + 100_000
