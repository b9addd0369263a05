"""What a cycle costs: in proportion to what waits and to what has changed, not to what there is."""

from collections.abc import Iterable

import pytest

from scheduler.core.explain.verdicts import Verdicts
from scheduler.core.pool.pool import Pool
from scheduler.core.quota import ordering
from scheduler.core.quota.ordering import Heads
from scheduler.core.quota.queue_members import Member
from scheduler.core.quota.quota import QuotaTree
from scheduler.core.quota.standing import Alternatives, Standing, standing_of
from tests.unit.scheduler.build import NOW_MS, gpu, holding, node, role
from tests.unit.scheduler.quota_worlds import H100, cohort, queue, quota, tree, waiting

pytestmark = pytest.mark.unit


def test_who_is_next_is_told_without_a_look_at_queues_that_nothing_has_changed_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Queues that keep to their nominal quotas do not care what others of their cohort use: each workload is
    weighed once, and none again because another one was admitted."""
    weighed: list[str] = []

    def counted(tree: QuotaTree, member: Member, roles: Iterable[Alternatives]) -> Standing:
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
