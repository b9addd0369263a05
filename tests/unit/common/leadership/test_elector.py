"""One process and its lease, step by step."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from common.clock import VirtualClock
from common.errors import Unavailable
from common.leadership.elector import BEATS, LOOKS, Elector
from common.leadership.rules import Candidate, Lease
from common.store.sql.lease import Fence
from control.main import _Parts
from tests.fixtures.leases import LEASE_SECONDS, Line, Process, Shared


async def look_for(process: Process, seconds: float) -> None:
    """Its steps in these seconds of its clock."""
    pause = LEASE_SECONDS / LOOKS
    for _ in range(round(seconds / pause)):
        process.advance(pause)
        await process.act()


async def test_the_first_leads_and_the_second_knows_where_it_is() -> None:
    shared = Shared()
    first, second = Process(shared, "a:1"), Process(shared, "b:1")
    await first.act()
    await second.act()
    assert (first.elector.leads, second.elector.leads) == (True, False)
    assert second.elector.leader_url == "http://a:1"
    assert (first.write(), second.write()) == (True, False)


async def test_who_is_killed_is_followed_after_the_time_of_the_lease_and_not_before() -> None:
    shared = Shared()
    first, second = Process(shared, "a:1"), Process(shared, "b:1")
    await first.act()
    await second.act()
    await look_for(second, LEASE_SECONDS - 1)
    assert not second.elector.leads
    await look_for(second, 1)
    assert (first.write(), second.write()) == (False, True), "the fence knows before the one that slept"
    await first.act()
    assert first.elector.lost.is_set()


async def test_who_renews_leads_on() -> None:
    shared = Shared()
    first, second = Process(shared, "a:1"), Process(shared, "b:1", rate=1.5)
    await first.act()
    for _ in range(100):
        first.advance(LEASE_SECONDS / BEATS)
        await first.act()
        await look_for(second, LEASE_SECONDS / BEATS)
    assert first.elector.leads
    assert not second.elector.leads


async def test_one_that_gives_it_back_is_followed_at_once() -> None:
    shared = Shared()
    first, second = Process(shared, "a:1"), Process(shared, "b:1")
    await first.act()
    await first.elector.resign()
    assert not first.write()
    before = shared.lease.epoch
    await second.act()
    assert second.elector.leads
    assert shared.lease.epoch > before


async def test_a_database_that_was_away_makes_nobody_another_leader() -> None:
    shared = Shared()
    first, second = Process(shared, "a:1"), Process(shared, "b:1")
    await first.act()
    await second.act()
    shared.away = True
    await first.act()
    await look_for(second, 5 * LEASE_SECONDS)
    assert second.elector.leader_url == "", "where nothing can be read nobody is known to lead"
    shared.away = False
    await look_for(second, 2)
    await first.act()
    await look_for(second, LEASE_SECONDS - 1)
    assert (first.elector.leads, second.elector.leads) == (True, False)
    assert second.elector.leader_url == "http://a:1"


async def test_a_take_whose_answer_is_lost_is_made_again() -> None:
    shared = Shared()
    first = Process(shared, "a:1")
    first.line.hold()
    await first.act()
    first.line.let_go()
    first.line.loses_answer = True  # of the look
    await first.act()
    shared.lease = Lease(1, first.me.holder, first.me.url)
    await first.act()
    assert first.write()
    assert shared.lease.epoch > 1


async def test_one_that_is_sole_waits_for_nobody_and_renews_nothing() -> None:
    shared = Shared(Lease(4, "gone:1/x", "http://gone:1", 9))
    process = Process(shared, "a:1")
    process.elector._is_sole = True
    async with asyncio.timeout(5):
        await process.elector.run()
    assert process.elector.leads
    epoch = process.clock.now_ms()
    assert shared.lease == Lease(epoch, process.me.holder, process.me.url, 0)


async def test_an_epoch_is_above_the_last_one_whatever_the_clock_says() -> None:
    shared = Shared(Lease(10**15, "", ""))
    process = Process(shared, "a:1")
    await process.act()
    assert process.fence.epoch == shared.lease.epoch == 10**15 + 1


async def test_without_the_lease_the_fence_says_what_to_do() -> None:
    process = Process(Shared(), "a:1")
    with pytest.raises(Unavailable, match="Idempotency-Key") as refused:
        await process.fence(cast(AsyncConnection, None))
    assert refused.value.code == "not_leading"


async def test_who_waits_for_a_leader_that_hangs_is_told_when_another_has_its_place() -> None:
    shared = Shared()
    first, second = Process(shared, "a:1"), Process(shared, "b:1")
    await first.act()
    await second.act()
    moved = second.elector.moved
    await first.act()
    await second.act()
    assert not moved.is_set(), "renewing moves nothing"
    await look_for(second, LEASE_SECONDS + 1)
    assert moved.is_set()
    assert not second.elector.moved.is_set()


async def test_one_that_cannot_begin_lets_another_lead_at_once_and_not_itself_again() -> None:
    shared = Shared()
    first, second = Process(shared, "a:1"), Process(shared, "b:1")
    await first.act()
    await second.act()
    await _Parts.give_up(cast(Any, SimpleNamespace(elector=first.elector)))
    await second.act()
    next_run = Process(shared, "a:1")
    await next_run.act()
    assert (second.elector.leads, next_run.elector.leads) == (True, False)


@pytest.mark.parametrize("trouble", ["away", "hangs", "asleep"])
async def test_one_that_nothing_fences_has_lost_before_another_can_lead(trouble: str) -> None:
    """Whether the lease is away, or never answers, or the process itself was not running."""
    shared, clock = Shared(), VirtualClock()
    line = Line(shared)
    elector = Elector(
        line, Fence(), Candidate("a", "1", ""), LEASE_SECONDS, hold_seconds=0.7 * LEASE_SECONDS, clock=clock
    )
    await elector.step()
    for _ in range(10):
        clock.advance(LEASE_SECONDS / 4)
        await elector.step()
    writes = [elector.may_write]
    clock.advance(0.699 * LEASE_SECONDS)
    writes.append(elector.may_write)
    shared.away = trouble == "away"
    if trouble == "hangs":
        line.hold()
        await elector.step()
    clock.advance(0.02 * LEASE_SECONDS)
    writes.append(elector.may_write)
    await elector.step()
    assert writes == [True, True, False]
    assert elector.lost.is_set()


async def test_an_answer_without_a_renewal_holds_nothing() -> None:
    shared, clock = Shared(), VirtualClock()

    class Busy(Line):
        async def renew(self, held: Lease) -> Lease | None:
            return held

    me = Candidate("a", "1", "")
    elector = Elector(Busy(shared), Fence(), me, LEASE_SECONDS, hold_seconds=5.0, clock=clock)
    await elector.step()
    for _ in range(3):
        clock.advance(2.0)
        await elector.step()
    assert elector.lost.is_set()
