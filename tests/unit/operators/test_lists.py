"""Lists that many ask for at the same time."""

import asyncio
from typing import Any, cast

import pytest

from common.errors import Unavailable
from operators.control.link import ControlLink
from operators.control.lists import Lists


class Control:
    """Each list has the number of its beginning, and ends when let go."""

    def __init__(self) -> None:
        self.begun = 0
        self.free = asyncio.Event()
        self.error: Exception | None = None

    async def list_all(self, plural: str) -> tuple[list[dict[str, Any]], int]:
        self.begun += 1
        number = self.begun
        await self.free.wait()
        if self.error is not None:
            raise self.error
        return [{"number": number}], 1


def lists_of(control: Control) -> Lists:
    return Lists(cast(ControlLink, control), 0.0)


async def test_who_asks_together_shares_and_who_asks_later_gets_a_later_one() -> None:
    control = Control()
    lists = lists_of(control)
    first = [asyncio.create_task(lists.fresh("apikeys")) for _ in range(100)]
    while control.begun == 0:
        await asyncio.sleep(0)
    later = [asyncio.create_task(lists.fresh("apikeys")) for _ in range(100)]
    while control.begun == 1:
        await asyncio.sleep(0)
    control.free.set()
    assert [await task for task in first] == [[{"number": 1}]] * 100
    assert [await task for task in later] == [[{"number": 2}]] * 100
    assert control.begun == 2


async def test_all_who_asked_are_told_what_went_wrong_and_one_who_gives_up_ends_nothing() -> None:
    control = Control()
    lists = lists_of(control)
    tasks = [asyncio.create_task(lists.fresh("finetunes")) for _ in range(3)]
    while control.begun == 0:
        await asyncio.sleep(0)
    tasks[0].cancel()
    control.error = Unavailable("away")
    control.free.set()
    for task in tasks[1:]:
        with pytest.raises(Unavailable):
            await task
    control.error = None
    assert await lists.fresh("finetunes") == [{"number": 2}]
