"""The course of batches, from their files to their results."""

from pathlib import Path

import pytest

from batches.core.answer import Answer
from common.resources import ApiKey, Batch
from common.store.port import Event
from tests.fixtures.batch_world import KEY, PROJECT, BatchWorld, good, refused


@pytest.fixture
async def world(tmp_path: Path) -> BatchWorld:
    made = BatchWorld(tmp_path)
    await made.fill()
    return made


async def reasons(world: BatchWorld) -> list[str]:
    events: list[Event] = list(await world.store.events(kind="Batch", name="batch-0", project=PROJECT))
    return [event.reason for event in events if event.id.startswith("batchevent")]


async def test_a_batch_is_answered_billed_and_completed(world: BatchWorld) -> None:
    await world.make("a", "b", "c", "d", "e")
    await world.settle()
    status = (await world.batch()).status
    assert (status.state, status.total, status.completed, status.failed) == ("completed", 5, 5, 0)
    assert status.model == "tiny"
    assert status.error_file == ""
    answers, _ = await world.results()
    assert [answers[f"id-{name}"]["response"]["body"]["said"] for name in "abcde"] == list("abcde")
    events = world.ledger.events.values()
    assert {event.service_tier for event in events} == {"batch"}
    assert status.prompt_tokens == 15
    assert status.completion_tokens == sum(event.quantities["completion_tokens"] for event in events)
    assert world.lines.kept == {}
    assert await reasons(world) == ["Validated", "Completed"]


async def test_a_file_that_is_wrong_fails_the_batch_before_anything_is_asked(world: BatchWorld) -> None:
    await world.make("a", b"{", "a")
    await world.settle()
    status = (await world.batch()).status
    assert (status.state, status.failed_ms is not None, world.link.asked) == ("failed", True, {})
    assert [(one.line, one.code, one.param) for one in status.errors] == [
        (2, "invalid_json_line", None),
        (3, "duplicate_custom_id", "custom_id"),
    ]


async def test_lines_that_fail_stand_in_the_file_of_errors(world: BatchWorld) -> None:
    world.link.say = lambda name, _: refused(400) if name == "b" else good(name, 1)
    await world.make("a", "b", "c")
    await world.settle()
    status = (await world.batch()).status
    assert (status.completed, status.failed) == (2, 1)
    answers, errors = await world.results()
    assert set(answers) == {"id-a", "id-c"}
    assert errors["id-b"]["response"]["status_code"] == 400
    assert errors["id-b"]["error"] is None
    assert len(world.ledger.events) == 2


async def test_who_is_busy_is_asked_again_and_not_billed_for_it(world: BatchWorld) -> None:
    def say(name: str, times: int) -> Answer | None:
        return None if times == 1 else refused(429, retry_after_seconds=2) if times < 4 else good(name, times)

    world.link.say = say
    await world.make("a", "b")
    await world.settle()
    status = (await world.batch()).status
    assert (status.state, status.completed) == ("completed", 2)
    assert len(world.ledger.events) == 2


async def test_what_stays_broken_is_given_up(world: BatchWorld) -> None:
    world.link.say = lambda _, __: refused(502)
    await world.make("a")
    await world.settle()
    assert world.link.asked == {"a": 3}
    _, errors = await world.results()
    assert errors["id-a"]["response"]["status_code"] == 502


async def test_one_that_is_cancelled_keeps_what_is_done(world: BatchWorld) -> None:
    world.link.say = lambda name, _: good(name, 1) if name == "a" else refused(503)
    batch = await world.make("a", "b", "c")
    for _ in range(4):
        with pytest.raises(AssertionError):
            await world.settle(passes=1)
    batch = await world.batch()
    assert (batch.status.state, batch.status.completed) == ("in_progress", 1)
    assert batch.status.condition("Progressing") is not None
    batch.spec.cancelled = True
    await world.store.apply(batch)
    await world.settle()
    status = (await world.batch()).status
    assert (status.state, status.completed, status.failed) == ("cancelled", 1, 2)
    answers, errors = await world.results()
    assert set(answers) == {"id-a"}
    assert {name: line["error"]["code"] for name, line in errors.items()} == {
        "id-b": "batch_cancelled",
        "id-c": "batch_cancelled",
    }


async def test_one_whose_time_is_over_expires_with_what_is_done(world: BatchWorld) -> None:
    world.link.say = lambda name, _: good(name, 1) if name == "a" else refused(503)
    await world.make("a", "b")
    for _ in range(4):
        with pytest.raises(AssertionError):
            await world.settle(passes=1)
    world.clock.advance(3600)
    await world.settle()
    status = (await world.batch()).status
    assert (status.state, status.completed, status.failed) == ("expired", 1, 1)
    _, errors = await world.results()
    assert errors["id-b"]["error"]["code"] == "batch_expired"


async def test_a_key_that_is_revoked_ends_its_batches(world: BatchWorld) -> None:
    world.link.say = lambda _, __: refused(503)
    await world.make("a")
    for _ in range(3):
        with pytest.raises(AssertionError):
            await world.settle(passes=1)
    key = await world.store.get(ApiKey, KEY)
    key.spec.revoked = True
    await world.store.apply(key)
    await world.settle()
    status = (await world.batch()).status
    assert status.state == "cancelled"
    assert [one.code for one in status.errors] == ["invalid_api_key"]


async def test_one_key_is_not_another_of_its_name(world: BatchWorld) -> None:
    await world.make("a", api_key_uid="other")
    await world.settle()
    assert (await world.batch()).status.state == "cancelled"
    assert world.link.asked == {}


async def test_a_project_without_room_gets_no_further_answers(tmp_path: Path) -> None:
    world = BatchWorld(tmp_path)
    await world.fill()
    await world.make("a")
    world.settings.limits.max_file_bytes = 1
    await world.settle()
    assert [one.code for one in (await world.batch()).status.errors] == ["limit_reached"]


async def test_a_file_that_is_gone_ends_the_batch(world: BatchWorld) -> None:
    batch = await world.make("a")
    for path in (world.settings.home / "files").rglob("*"):
        if path.is_file():
            path.unlink()
    await world.settle()
    assert [one.code for one in (await world.batch()).status.errors] == ["input_file_gone"]
    assert batch.name == "batch-0"


async def test_only_so_many_of_a_project_are_under_way(world: BatchWorld) -> None:
    world.link.say = lambda _, __: refused(503)
    for name in "abc":
        await world.make(name)
    for _ in range(10):
        with pytest.raises(AssertionError):
            await world.settle(passes=1)
    assert set(world.link.asked) == {"a", "b"}
    told = (await world.batch("batch-2")).status.condition("Progressing")
    assert told is not None
    assert "other batches" in told.message


async def test_batches_that_ended_long_ago_go_and_so_do_outcomes_of_none(world: BatchWorld) -> None:
    await world.make("a")
    await world.settle()
    await world.lines.keep("gone", PROJECT, [])
    world.clock.advance(31 * 86_400)
    await world.controller.step()
    assert list(await world.store.list(Batch)) == []
    assert world.lines.kept == {}
