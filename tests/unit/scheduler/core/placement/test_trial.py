"""What was only tried leaves nothing behind, and what was decided stays."""

import pytest

from scheduler.core.model.types import Policy, QueueView
from scheduler.core.placement.placing import ANYWHERE
from scheduler.core.placement.snapshot import take_snapshot
from scheduler.core.placement.trial import Trial
from tests.unit.scheduler.build import NOW_MS, gpu, node, role, workload

H100 = ("nvidia", "H100")


@pytest.mark.parametrize("tries", [True, False])
def test_who_is_kept_counts_and_what_was_tried_beside_does_not(tries: bool) -> None:
    trial = Trial(
        take_snapshot([node("a", gpu(0), gpu(1))], [QueueView("default")], (), ()), Policy(), NOW_MS
    )
    one, mark = workload("one", role(vendors=("nvidia",))), trial.mark()
    if tries:
        trial.charge("default", H100, 1000)
    found = trial.place(one, ANYWHERE)
    assert isinstance(found, tuple)
    trial.admit(one, found)
    trial.keep(mark, [(one, found)])
    assert trial.tree.usage("default") == {H100: 1000}
    assert [used > 0 for used in trial.pool.usage[0].used] == [True, False]
