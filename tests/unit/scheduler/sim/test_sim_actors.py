"""Who reacts to the scheduler in a simulation is asked when it wants to be, and never in the past."""

from collections.abc import Callable

from scheduler.core.model.types import Policy, QueueView
from scheduler.sim.engine import simulate
from scheduler.sim.jobs import RunState, Turn
from scheduler.sim.options import Options
from tests.unit.scheduler.sim_build import first_fit, gpu_node


class Hasty:
    """Wants to be asked at once, or before, three times."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def first_ms(self) -> int:
        return 5_000

    def act(self, now_ms: int, state: Callable[[str], RunState | None]) -> Turn:
        self.asked.append(now_ms)
        return Turn(again_ms=(now_ms, 0, None)[len(self.asked) - 1])


def test_who_wants_to_be_asked_at_once_is_asked_a_moment_later() -> None:
    hasty = Hasty()
    options = Options(100, start_ms=0)
    simulate([gpu_node("a")], [QueueView("default")], [], Policy(), options, first_fit, actors=[hasty])
    assert hasty.asked == [5_000, 5_001, 5_002]
