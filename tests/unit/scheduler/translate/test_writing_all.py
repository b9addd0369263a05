"""Statuses are written together, or one by one where one of them breaks that."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from common.errors import DATABASE_UNAVAILABLE, InvalidInput, Unavailable
from common.store.port import StatusWrite, Store
from scheduler.journal import write_all

AWAY = Unavailable("the database is away", code=DATABASE_UNAVAILABLE)
WRITES = cast(Sequence[StatusWrite], ["a", "bad", "c"])


class Statuses:
    """Stands in for a store that fails with some writes, or together."""

    def __init__(self, error: Exception, alone: bool = True) -> None:
        self.error, self.alone = error, alone
        self.calls: list[list[Any]] = []

    async def set_statuses(self, writes: Sequence[Any]) -> Sequence[Any]:
        self.calls.append(list(writes))
        if "bad" in writes and (self.alone or len(writes) > 1):
            raise self.error
        return [f"{one} is written" for one in writes]


async def told(store: Statuses) -> Sequence[Any]:
    return await write_all(cast(Store, store), WRITES)


async def test_what_can_be_written_together_is() -> None:
    store = Statuses(ValueError())
    assert await write_all(cast(Store, store), WRITES[:1]) == ["a is written"]
    assert store.calls == [["a"]]


@pytest.mark.parametrize("error", [ValueError("odd"), InvalidInput("odd")])
async def test_one_that_breaks_is_told_and_the_others_are_written(error: Exception) -> None:
    store = Statuses(error)
    assert await told(store) == ["a is written", error, "c is written"]
    assert store.calls == [["a", "bad", "c"], ["a"], ["bad"], ["c"]]
    store = Statuses(error, alone=False)
    assert await told(store) == ["a is written", "bad is written", "c is written"]


@pytest.mark.parametrize("error", [AWAY, Unavailable("busy"), InvalidInput("odd", DATABASE_UNAVAILABLE)])
async def test_where_nothing_can_be_written_nothing_is_tried_one_by_one(error: Exception) -> None:
    store = Statuses(error)
    with pytest.raises(type(error)):
        await told(store)
    assert store.calls == [["a", "bad", "c"]]


async def test_a_store_that_goes_away_in_between_is_told() -> None:
    class GoesAway(Statuses):
        async def set_statuses(self, writes: Sequence[Any]) -> Sequence[Any]:
            if len(writes) == 1:
                self.error = AWAY
            return await super().set_statuses(writes)

    store = GoesAway(ValueError("odd"))
    with pytest.raises(Unavailable, match="is away"):
        await told(store)
    assert store.calls == [["a", "bad", "c"], ["a"], ["bad"]]
