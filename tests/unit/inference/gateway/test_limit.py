"""The limit of a request that most never set: it ends its block as a timeout, and nobody else's."""

import asyncio

import pytest

from inference.gateway.engines.limit import Limit


async def _block(limit: Limit, seconds: float | None) -> None:
    limit.begin()
    kind: type[BaseException] | None = None
    try:
        if seconds is not None:
            limit.set(60.0)
            limit.set(seconds)
        await asyncio.get_running_loop().create_future()
    except BaseException as error:
        kind = type(error)
        raise
    finally:
        limit.end(kind)


async def test_what_takes_too_long_ends_with_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        await _block(Limit(), 0.0)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_who_is_cancelled_from_outside_is_not_told_of_a_timeout() -> None:
    task = asyncio.create_task(_block(Limit(), None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_both_at_once_is_a_cancellation() -> None:
    task = asyncio.create_task(_block(Limit(), 0.0))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.wait([task])
    assert task.cancelled() or isinstance(task.exception(), TimeoutError)


async def test_a_block_that_has_ended_is_not_cancelled_later() -> None:
    limit = Limit()
    limit.begin()
    limit.set(0.0)
    limit.end(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
