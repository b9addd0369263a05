"""A look at a part of what runs sees the rest only where it is told of it, and leaves nothing behind."""

from scheduler.catalogue import load_catalogue
from scheduler.core.model.types import Placement, QueueView, RunningView
from scheduler.core.pool.pool import Pool
from scheduler.translate.kept_views import ViewKeeper
from tests.unit.scheduler.build import NOW_MS, gpu, holding, node

QUEUES = (QueueView("default"),)
A = node("a", gpu(0), gpu(1), gpu(2), cpu_millis=8000)
MINE, THEIRS = (
    RunningView(one.workload, (one.placement[0]._replace(cpu_millis=4000),), 0)
    for one in (holding("mine", A, 0), holding("theirs", A, 1))
)
IDLE = ("a/nvidia-0", "a/nvidia-1", "a/nvidia-2")


def keeper() -> ViewKeeper:
    made = ViewKeeper(load_catalogue())
    made.set_node("a", A)
    for running in (MINE, THEIRS):
        made.set_running(running.workload.uid, [running])
    return made


def used(pool: Pool) -> tuple[list[str], int]:
    """Devices that are held, and CPU."""
    (usage,) = pool.usage
    held = [device for device, position in usage.position_of.items() if usage.used[position]]
    return held, usage.cpu_used_millis


def look(kept: ViewKeeper, lingering: Placement, running: list[RunningView] | None) -> tuple[list[str], int]:
    return used(kept.take(QUEUES, [], lingering, NOW_MS, running).pool)


def test_what_the_others_hold_is_free_unless_it_is_told() -> None:
    kept = keeper()
    assert look(kept, (), [MINE]) == ([IDLE[0]], 4000)
    assert look(kept, THEIRS.placement, [MINE]) == ([IDLE[0], IDLE[1]], 8000)


def test_after_a_look_at_a_part_all_is_there_again_once() -> None:
    kept = keeper()
    look(kept, THEIRS.placement, [MINE])
    assert look(kept, (), None) == ([IDLE[0], IDLE[1]], 8000)
    kept.set_running(THEIRS.workload.uid, [])
    assert look(kept, (), None) == ([IDLE[0]], 4000)
