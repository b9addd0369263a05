"""Who starts in one cycle with others of its kind: for whom there is no way, nothing has changed."""

from scheduler.core.model.types import Policy, QueueView, Quota
from scheduler.core.placement.placing import ANYWHERE
from scheduler.core.placement.snapshot import take_snapshot
from scheduler.core.placement.trial import Trial
from scheduler.core.reshape.starters import Starters
from tests.unit.scheduler.build import NOW_MS, gpu, node, role, workload

NVIDIA, AMD = ("nvidia",), ("amd",)


def scene() -> tuple[Trial, Starters]:
    """A queue with quota for three devices, of which one that has just started has two; one would do."""
    queue = QueueView("default", quotas=(Quota("*", 3000),))
    nodes = [
        node("a", *(gpu(index) for index in range(4))),
        node("b", *(gpu(index, "amd", "MI300X") for index in range(4))),
    ]
    trial = Trial(take_snapshot(nodes, [queue], (), ()), Policy(), NOW_MS)
    starters = Starters(trial)
    first = workload("first", role(2, min_replicas=1, vendors=NVIDIA))
    found = trial.place(first, ANYWHERE)
    assert isinstance(found, tuple)
    trial.admit(first, found)
    starters.came(first)
    return trial, starters


def in_use(trial: Trial) -> list[int]:
    """Devices that are held, by node."""
    return [sum(used > 0 for used in usage.used) for usage in trial.pool.usage]


def test_who_starts_beside_it_gets_what_it_can_do_without() -> None:
    trial, starters = scene()
    second = workload("second", role(1, "x", vendors=NVIDIA), role(1, "y", vendors=AMD))
    assert starters.make_way(second) is not None
    assert in_use(trial) == [2, 1]


def test_who_may_not_start_whatever_others_give_holds_no_device_and_takes_none() -> None:
    """Of each model alone its quota has enough."""
    trial, starters = scene()
    before = in_use(trial), trial.tree.usage("default")
    second = workload("second", role(2, "x", vendors=NVIDIA), role(1, "y", vendors=AMD))
    assert starters.make_way(second) is None
    assert (in_use(trial), trial.tree.usage("default")) == before
    assert len(trial.running["uid-first"].placement) == 2
