"""A trainer that was taken over writes what it likes into its events: that costs the platform a bounded part
of its time, memory and store, and the job goes on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from common.store.port import Event
from finetune.core.worker_events import MAX_LINES, last_of, whole_lines
from finetune.jobs import job_progress
from tests.fixtures.tuning import TuningWorld

MIB = 1024**2


@pytest.fixture
async def world(tmp_path: Path) -> TuningWorld:
    made = TuningWorld(tmp_path)
    await made.fill()
    await made.apply_job()
    await made.step()
    await made.set_phase("Running")
    await made.step()
    return made


@pytest.mark.parametrize("line", [b"\n", b"x\n", b"{}\n", b"\r\n"], ids=repr)
def test_lines_that_no_worker_writes_are_understood_up_to_a_number(line: bytes) -> None:
    content = line * (MIB // len(line))
    events, offset = whole_lines(content, 7)
    assert len(events) <= MAX_LINES + 1
    assert offset == 7 + len(content)
    assert "too short to be read" in events[-1].message
    more, after = whole_lines(b'{"type": "error", "created_at": 1, "message": "last"}\n', offset)
    assert (last_of(more, "error"), after > offset) == (more[0], True)


async def test_a_flood_of_events_is_recorded_up_to_a_number_and_in_few_transactions(
    world: TuningWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[Sequence[Event]] = []
    record = world.store.record

    async def counted(*events: Event) -> None:
        recorded.append(events)
        await record(*events)

    monkeypatch.setattr(world.store, "record", counted)
    monkeypatch.setattr(job_progress, "MAX_RECORDED", 700)
    world.tell_steps(*range(1, 601))
    await world.step()
    assert len(recorded) <= 4
    world.tell_steps(*range(601, 901))
    world.leave_adapter(tokens=900)
    await world.set_phase("Succeeded", 0)
    await world.step()
    job = await world.job()
    assert (job.status.state, job.status.step, job.status.trained_tokens) == ("succeeded", 900, 900)
    listed = await world.store.events(kind="FineTune", limit=10_000)
    assert sum(event.reason == "Metrics" for event in listed) == 700
    assert "The first 700 events are listed" in "".join(event.message for event in listed)
    assert job.status.events_recorded == 700


async def test_of_an_event_few_and_small_numbers_are_kept(world: TuningWorld) -> None:
    odd: dict[str, Any] = {f"n{number:03}": number for number in range(2000)}
    world.tell(
        "metrics",
        "Step",
        step=1,
        **{"x" * 1000: 1, "text": "y" * 10_000, "list": [1] * 1000, "huge": 10**300},
    )
    world.tell("metrics", "Step", step=2, **odd)
    await world.step()
    first, second = [e.data for e in await world.store.events(kind="FineTune") if e.reason == "Metrics"]
    assert first == {"step": 1}
    assert (len(second), second["step"]) == (32, 2)
