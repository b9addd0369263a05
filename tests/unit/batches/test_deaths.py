"""A process that dies at any point: each line is in the results once, and billed once, as it was answered."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches.core.answer import Answer
from tests.fixtures.batch_world import BatchWorld, Died, Life, good, refused

_lives = st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=5)
_moods = st.lists(st.sampled_from(["good", "busy", "bad", "broken", "silent"]), min_size=1, max_size=12)


def _say(moods: Sequence[str]) -> object:
    def say(name: str, times: int) -> Answer | None:
        mood = moods[(int(name) * 7 + times) % len(moods)] if times < 4 else "good"
        if mood == "good":
            return good(name, times)
        if mood == "silent":
            return None
        return refused({"busy": 429, "bad": 400, "broken": 502}[mood])

    return say


async def _lived(world: BatchWorld, life: Life) -> None:
    """Until the process ends, or has done all."""
    controller = world.begin(life)
    try:
        for _ in range(60):
            if life.is_over:
                return
            await controller.step()
            for _ in range(10):
                await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            world.clock.advance(1.0)
            if (await world.batch()).has_ended:
                return
    except Died:
        pass
    finally:
        life.is_over = True
        await controller.close()


async def _story(home: Path, lives: Sequence[tuple[int, bool]], moods: Sequence[str], count: int) -> None:
    world = BatchWorld(home, _say(moods))  # type: ignore[arg-type]
    await world.fill()
    await world.make(*(str(number) for number in range(count)))
    for steps, after in lives:
        await _lived(world, Life(steps, after))
    last = world.begin(Life())
    await world.settle(last, passes=200)
    await last.close()
    status = (await world.batch()).status
    answers, errors = await world.results()
    assert set(answers) | set(errors) == {f"id-{number}" for number in range(count)}
    assert (status.completed, status.failed) == (len(answers), len(errors))
    given_out = sorted(line["response"]["body"]["usage"]["completion_tokens"] for line in answers.values())
    billed = sorted(event.quantities["completion_tokens"] for event in world.ledger.events.values())
    assert billed == given_out
    assert status.completion_tokens == sum(billed)
    assert world.lines.kept == {}


@settings(max_examples=60, deadline=None)
@given(_lives, _moods, st.integers(1, 6))
def test_each_line_is_given_out_and_billed_once(
    lives: Sequence[tuple[int, bool]], moods: Sequence[str], count: int
) -> None:
    with TemporaryDirectory() as home:
        asyncio.run(_story(Path(home), lives, moods, count))


@pytest.mark.parametrize("after", [False, True])
def test_a_death_at_each_step_of_a_short_batch(after: bool, tmp_path: Path) -> None:
    for steps in range(0, 90, 3):
        asyncio.run(_story(tmp_path / str(steps), [(steps, after)], ["good"], 3))
