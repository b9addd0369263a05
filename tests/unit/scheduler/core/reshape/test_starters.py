"""Who starts in one cycle with others of its kind: for whom there is no way, nothing has changed."""

from scheduler.core.model.types import Policy, QueueView, Quota
from scheduler.core.placement.placing import ANYWHERE
from scheduler.core.placement.snapshot import take_snapshot
from scheduler.core.placement.trial import Trial
from scheduler.core.reshape.starters import Starters
from tests.unit.scheduler.build import NOW_MS, gpu, node, role, workload


def test_who_may_not_start_by_quota_holds_no_device() -> None:
    queue = QueueView("default", quotas=(Quota("*", 2000),))
    nodes = [node("a", *(gpu(index) for index in range(8)))]
    trial = Trial(take_snapshot(nodes, [queue], (), ()), Policy(), NOW_MS)
    starters = Starters(trial)
    first = workload("first", role(2, min_replicas=1, vendors=("nvidia",)))
    found = trial.place(first, ANYWHERE)
    assert isinstance(found, tuple)
    trial.admit(first, found)
    starters.came(first)
    before = trial.pool.usage[0].saved()
    assert starters.make_way(workload("second", role(2, vendors=("nvidia",)))) is None
    assert trial.pool.usage[0].saved() == before
    assert trial.tree.usage("default") == {("nvidia", "H100"): 2000}
    assert starters._place(workload("third", role(2, vendors=("nvidia",)))) is None
    assert trial.pool.usage[0].saved() == before
