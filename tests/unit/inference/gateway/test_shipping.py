"""Usage reaches control once, whatever control refuses and whoever left it behind."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from billing.core.events import UsageEvent
from inference.core.usage import TokenCounts
from inference.gateway.books import shipper as shipping
from inference.gateway.books.aside import REJECTED_FILE, read_rejected
from inference.gateway.books.journal import JOURNAL_FILE, Journal
from inference.gateway.books.shipper import BATCH_EVENTS
from inference.gateway.books.spool import Spool
from tests.unit.inference.gateway.front_scene import ASK, Front


def usage(number: int) -> UsageEvent:
    return UsageEvent(f"use-{number:04d}", "inference", "acme", "bots", 1, 2, {"prompt_tokens": number + 1})


@pytest.fixture
async def open_front(front: Front) -> Front:
    """With control there, and nobody who ships but the test."""
    await front.stand_still()
    await front.start_control()
    return front


async def spool(front: Front, *numbers: int) -> None:
    await asyncio.gather(*(front.gateway.spool.append(usage(number)) for number in numbers))


async def test_what_is_taken_is_not_kept_and_not_sent_twice(open_front: Front) -> None:
    await open_front.ask(ASK)
    for _ in range(2):
        await open_front.gateway.shipper.step()
    assert len(open_front.control.events) == 1
    assert open_front.spooled() == []


async def test_more_than_a_batch_is_shipped_in_several(open_front: Front) -> None:
    await spool(open_front, *range(BATCH_EVENTS + 1))
    await open_front.gateway.shipper.step()
    assert sorted(open_front.control.events) == [usage(n).id for n in range(BATCH_EVENTS + 1)]


@pytest.mark.parametrize("whole_batch", [True, False], ids=["batch refused", "event named"])
async def test_an_event_that_control_refuses_is_kept_with_its_reason_and_holds_up_no_other(
    open_front: Front, whole_batch: bool
) -> None:
    refused = open_front.control.refused_ids if whole_batch else open_front.control.rejected_ids
    refused.add(usage(2).id)
    await spool(open_front, *range(5))
    await open_front.gateway.shipper.step()
    assert sorted(open_front.control.events) == [usage(n).id for n in (0, 1, 3, 4)]
    folder = open_front.gateway.spool.folder
    [line] = read_rejected(folder)
    assert line.event == usage(2)
    reason = json.loads(line.text)["reason"]
    assert ("no such project" if whole_batch else "posted before with another content") in reason


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_whatever_control_refuses_events_with_the_bad_one_is_found(
    open_front: Front, status: int
) -> None:
    open_front.control.refused_status = status
    open_front.control.refused_ids.add(usage(3).id)
    await spool(open_front, *range(4))
    await open_front.gateway.shipper.step()
    assert sorted(open_front.control.events) == [usage(n).id for n in range(3)]
    assert [line.event for line in read_rejected(open_front.gateway.spool.folder)] == [usage(3)]
    assert open_front.spooled() == []


@pytest.mark.parametrize("status", [401, 404, 500, 503])
async def test_what_control_does_not_take_for_its_own_reasons_stays_where_it_is(
    open_front: Front, status: int
) -> None:
    open_front.control.refused_status = status
    open_front.control.refused_ids.add(usage(0).id)
    await spool(open_front, 0, 1)
    with pytest.raises(aiohttp.ClientResponseError):
        await open_front.gateway.shipper.step()
    assert [event["id"] for event in open_front.spooled()] == [usage(0).id, usage(1).id]
    assert (open_front.control.events, read_rejected(open_front.gateway.spool.folder)) == ({}, [])


async def test_what_was_set_aside_is_posted_once_somebody_has_mended_it(open_front: Front) -> None:
    control, shipper = open_front.control, open_front.gateway.shipper
    folder = open_front.gateway.spool.folder
    control.rejected_ids |= {usage(1).id, usage(2).id}
    await spool(open_front, 0, 1, 2)
    await shipper.step()
    await shipper.retry(folder)
    assert list(control.events) == [usage(0).id]
    control.rejected_ids.remove(usage(1).id)
    await shipper.retry(folder)
    assert list(control.events) == [usage(0).id], "the file has not changed, so nobody has mended anything"
    file = folder / REJECTED_FILE
    file.write_text(file.read_text() + "\n")
    await shipper.retry(folder)
    assert list(control.events) == [usage(0).id, usage(1).id]
    assert [line.event for line in read_rejected(folder)] == [usage(2)]


async def test_a_line_that_is_no_event_is_kept_for_a_person(open_front: Front) -> None:
    await spool(open_front, 0)
    [segment] = open_front.gateway.spool.folder.glob("*.jsonl")
    with segment.open("a") as file:
        file.write("{odd\n")
    await open_front.gateway.shipper.step()
    assert list(open_front.control.events) == [usage(0).id]
    [line] = read_rejected(open_front.gateway.spool.folder)
    assert (line.event, json.loads(line.text)["event"]) == (None, "{odd")


async def test_what_a_dead_gateway_left_is_shipped_by_its_neighbour(open_front: Front) -> None:
    folder = open_front.gateway.spool.folder.parent / "gateway-1"
    left = Spool(folder)
    await left.append(usage(0))
    journal = Journal(folder / JOURNAL_FILE)
    journal.open(usage(1)).note(TokenCounts(5, 2, 3), 9)
    shipper = open_front.gateway.shipper
    await shipper.adopt()
    assert open_front.control.events == {}, "its gateway lives"
    journal.close()
    await left.close()
    await shipper.adopt()
    assert sorted(open_front.control.events) == [usage(0).id, usage(1).id]
    cut_off = open_front.control.events[usage(1).id]
    assert (cut_off["outcome"], cut_off["quantities"]["completion_tokens"]) == ("gateway_lost", 3)
    assert list(folder.glob("*.jsonl")) == []
    Spool(folder)  # nobody holds it any more


async def test_events_wait_while_control_is_away_with_growing_pauses(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    await front.stand_still()
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            await front.start_control()
        if len(pauses) == 10:
            raise asyncio.CancelledError

    await front.ask(ASK)
    monkeypatch.setattr(shipping.asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await front.gateway.shipper.run()
    monkeypatch.undo()
    assert pauses == [0.6, 1.2, 2.4, 4.8, 9.6, 10.0, 10.0, 10.0, 0.3, 0.3]
    assert len(front.control.events) == 1


async def test_a_fault_of_ours_does_not_end_the_shipping(
    open_front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipper, calls = open_front.gateway.shipper, 0

    async def step() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("odd")
        raise asyncio.CancelledError

    async def sleep(seconds: float) -> None:
        assert seconds == 0.6

    monkeypatch.setattr(shipper, "step", step)
    monkeypatch.setattr(shipping.asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await shipper.run()
    assert calls == 2
    monkeypatch.undo()


@pytest.mark.parametrize("away", [False, True], ids=["control there", "control away"])
async def test_a_gateway_that_stops_ships_what_it_can_and_keeps_the_rest(
    front: Front, away: bool, tmp_path: Path
) -> None:
    if not away:
        await front.start_control()
    await front.ask(ASK)
    await front.gateway.stop()
    assert len(front.spooled()) + len(front.control.events) == 1
    assert bool(front.spooled()) is away
    await front.gateway.start()
    assert len(front.spooled()) == away


async def test_a_control_that_breaks_takes_nothing(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    await front.stand_still()

    async def broken(request: Any) -> Any:
        return aiohttp.web.json_response({"error": "boom"}, status=500)

    monkeypatch.setattr(front.control, "_usage", broken)
    await front.start_control()
    await front.ask(ASK)
    with pytest.raises(aiohttp.ClientResponseError):
        await front.gateway.shipper.step()
    assert len(front.spooled()) == 1
