"""What gateways have waiting: told again and again, and forgotten when nobody tells it."""

import asyncio

from common.clock import VirtualClock
from common.wire import Demand, DemandReport
from inference.autoscaling.board import MAX_GATEWAYS, STALE_SECONDS, DemandBoard

NAME = "lab/chat"


def report(gateway: str = "a", held: int = 0, active: int = 0) -> DemandReport:
    return DemandReport(gateway=gateway, demands=(Demand(endpoint=NAME, held=held, active=active),))


def test_all_gateways_count_with_what_they_told_last() -> None:
    board = DemandBoard(VirtualClock())
    board.report(report("a", held=3, active=1))
    board.report(report("b", held=2))
    board.report(report("a", held=1))
    assert board.of(NAME) == Demand(endpoint=NAME, held=3, active=0)
    assert board.of("lab/other").held == 0


def test_a_gateway_that_tells_nothing_for_a_while_is_forgotten() -> None:
    clock = VirtualClock()
    board = DemandBoard(clock)
    board.report(report(held=1))
    clock.advance(STALE_SECONDS + 1)
    assert board.of(NAME).held == 0


def test_however_many_gateways_there_are_a_bounded_number_is_remembered() -> None:
    board = DemandBoard(VirtualClock())
    for index in range(MAX_GATEWAYS + 10):
        board.report(report(str(index), held=1))
    assert board.of(NAME).held == MAX_GATEWAYS


async def test_the_first_who_waits_is_news_and_the_next_is_not() -> None:
    board = DemandBoard(VirtualClock())
    board.report(report(active=1))
    await _no_news(board)
    board.report(report(held=1))
    await asyncio.wait_for(board.news(60), 1)
    board.report(report(held=2))
    await _no_news(board)
    board.report(report())
    board.report(report(held=1))
    await asyncio.wait_for(board.news(60), 1)


async def _no_news(board: DemandBoard) -> None:
    waiting = asyncio.create_task(board.news(60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
