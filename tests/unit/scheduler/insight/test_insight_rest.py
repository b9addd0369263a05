"""What took long to work out is good for a while, so that those who ask leave the scheduler the processor."""

import pytest

from common.clock import VirtualClock
from common.resources import Metadata, Project
from common.resources.people import ProjectSpec
from common.settings import Settings
from common.store.memory import MemoryStore
from scheduler.insight import insight as module
from scheduler.insight.insight import Insight
from scheduler.insight.outlook import Outlook


class Scene:
    """Each answer takes ``seconds``; ``looks`` counts how often the store is looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.seconds, self.looks = VirtualClock(), 0.0, 0
        self.store = MemoryStore(self.clock)
        self.insight = Insight(self.store, Settings(), self.clock)
        original = module._overview

        def slow(*arguments: object) -> object:
            self.clock.advance(self.seconds)
            return original(*arguments)  # type: ignore[arg-type]

        def count(*arguments: object) -> Outlook:
            self.looks += 1
            return Outlook(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(module, "_overview", slow)
        monkeypatch.setattr(module, "Outlook", count)

    async def looks_for(self, seconds: float = 0.0) -> int:
        """How often it has looked after one more question, for whose answer it takes so long."""
        self.seconds = seconds
        await self.insight.overview(lambda project: True)
        return self.looks

    async def change(self) -> None:
        name = f"p{self.clock.now_ms()}"
        await self.store.apply(Project(metadata=Metadata(name=name), spec=ProjectSpec(tenant="t")))


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


async def test_an_answer_at_once_is_given_anew_when_something_has_changed(scene: Scene) -> None:
    assert await scene.looks_for() == await scene.looks_for() == 1
    await scene.change()
    assert await scene.looks_for() == 2
    scene.clock.advance(0.001)
    assert await scene.looks_for() == 3, "another moment, other answers"


async def test_what_took_a_second_is_good_for_ten(scene: Scene) -> None:
    assert await scene.looks_for(1.0) == 1
    await scene.change()
    scene.clock.advance(9.9)
    assert await scene.looks_for() == 1
    scene.clock.advance(0.1)
    assert await scene.looks_for() == 2
    await scene.change()
    assert await scene.looks_for() == 3, "the last look took no time"


async def test_answers_from_an_old_look_make_it_good_for_longer_never_for_less(scene: Scene) -> None:
    await scene.looks_for(1.0)
    scene.clock.advance(5.0)
    assert await scene.looks_for(0.1) == 1
    scene.clock.advance(4.8)
    await scene.change()
    assert await scene.looks_for(2.0) == 1
    scene.clock.advance(19.9)
    assert await scene.looks_for() == 1
    scene.clock.advance(0.1)
    assert await scene.looks_for() == 2
