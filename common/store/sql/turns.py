"""Writes of several callers in one transaction: who waits for the write lock goes through it together with
the others who wait, as databases do when they commit (group commit)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from common.clock import Clock
from common.errors import Unavailable
from common.resources import Resource
from common.store.answers import Answer, Claim, Replay, current_claim
from common.store.authorship import Author, current_author, events_of
from common.store.port import Applied, Write
from common.store.revisions import ended_by, revised_by
from common.store.sql.batch import SqlBatch
from common.store.sql.history import Noted, SqlHistory
from common.store.sql.notes import SqlNotes
from common.store.sql.revisions import add_revisions, forget_revisions

MOST_WRITES = 256
"""A transaction takes callers until they have so many writes together: nobody holds the lock for long."""


@dataclass
class Transaction:
    """One that holds the write lock of the store. ``revision`` is the last one given, ``noted`` what it was
    given to in this one, ``dropped`` whether old changes were dropped."""

    connection: AsyncConnection
    revision: int
    noted: Sequence[Noted] = ()
    dropped: bool = False


@dataclass(frozen=True)
class _Planned:
    """What comes of a caller's writes: results and the answer to keep, or why they are refused."""

    results: Sequence[Applied[Resource]] = ()
    replay: Replay | None = None
    refused: Exception | None = None


@dataclass(eq=False)
class _Caller:
    """Who waits: its writes are made all or none, whatever becomes of the others."""

    writes: Sequence[Write]
    answer: Answer | None
    claim: Claim | None
    author: Author | None
    done: asyncio.Future[Sequence[Applied[Resource]]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            # A future takes no StopIteration.
            self.done.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)

    def settle(self, planned: _Planned) -> None:
        """The transaction is there to stay."""
        if planned.refused is not None:
            self.fail(planned.refused)
            return
        if self.claim is not None and planned.replay is not None:
            self.claim.kept = True
        if self.author is not None:
            self.author.note(planned.results)
        if not self.done.done():
            self.done.set_result(planned.results)


class SqlTurns:
    """A part of ``SqlStore``. ``begin`` opens a transaction that is committed at the end of its block, or
    rolled back where that raises."""

    def __init__(
        self,
        begin: Callable[[], AbstractAsyncContextManager[Transaction]],
        history: SqlHistory,
        notes: SqlNotes,
        clock: Clock,
    ) -> None:
        self._begin = begin
        self._history = history
        self._notes = notes
        self._clock = clock
        self._waiting: list[_Caller] = []
        self._serving: asyncio.Task[None] | None = None

    async def write(self, writes: Sequence[Write], answer: Answer | None) -> Sequence[Applied[Resource]]:
        """See ``Store.write_all``. A caller who is cancelled before its turn has written nothing."""
        caller = _Caller(writes, answer, current_claim() if answer else None, current_author())
        self._waiting.append(caller)
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve(), context=Context())
        return await caller.done

    async def close(self) -> None:
        """Wait for the writes that are being made."""
        if self._serving is not None:
            await asyncio.wait({self._serving})

    async def _serve(self) -> None:
        """Turn after turn while somebody waits."""
        try:
            while self._waiting:
                await self._turn()
        finally:
            self._serving = None
            for caller in self._waiting:
                caller.done.cancel()
            self._waiting.clear()

    async def _turn(self) -> None:
        taken: list[_Caller] = []
        try:
            await self._together(taken)
        except Exception as error:  # noqa: BLE001 - it is the callers' to know
            await self._part(taken or self._take(), error)
        finally:
            for caller in taken:  # who has no answer yet, as this task is cancelled
                caller.done.cancel()

    async def _part(self, callers: list[_Caller], error: Exception) -> None:
        """Nothing of these was made. Where one of them has what the database does not take, the others are
        made without it: half of them at a time."""
        if isinstance(error, Unavailable) or len(callers) < 2:
            for caller in callers:
                caller.fail(error)
            return
        middle = len(callers) // 2
        for half in (callers[:middle], callers[middle:]):
            try:
                await self._together(half)
            except Exception as own:  # noqa: BLE001 - it is the callers' to know
                await self._part(half, own)

    async def _together(self, taken: list[_Caller]) -> None:
        """Make the writes of these in one transaction; without any, of those who wait when it begins, who are
        added then."""
        async with self._begin() as transaction:
            taken += [] if taken else self._take()
            batch = SqlBatch(transaction.connection, self._clock, transaction.revision)
            await batch.read(write for caller in taken for write in caller.writes)
            plans = [_plan(batch, caller) for caller in taken]
            transaction.dropped = await batch.flush(self._history)
            for caller, planned in zip(taken, plans, strict=True):
                if caller.claim is not None and planned.replay is not None:
                    await self._notes.insert_answer(transaction.connection, caller.claim, planned.replay)
            now_ms = self._clock.now_ms()
            told = [
                event
                for caller, planned in zip(taken, plans, strict=True)
                for event in events_of(caller.author, planned.results, now_ms)
            ]
            await self._notes.record_owned(transaction.connection, told)
            await _keep_revisions(transaction.connection, taken, plans, now_ms)
            transaction.noted, transaction.revision = batch.noted, batch.revision
        for caller, planned in zip(taken, plans, strict=True):
            caller.settle(planned)

    def _take(self) -> list[_Caller]:
        """The first of those who wait, who still want it."""
        taken: list[_Caller] = []
        count = 0
        while self._waiting and (not taken or count + len(self._waiting[0].writes) <= MOST_WRITES):
            caller = self._waiting.pop(0)
            if not caller.done.done():
                taken.append(caller)
                count += len(caller.writes)
        return taken


async def _keep_revisions(
    connection: AsyncConnection, callers: Sequence[_Caller], plans: Sequence[_Planned], now_ms: int
) -> None:
    revised = [
        one
        for caller, planned in zip(callers, plans, strict=True)
        for applied in planned.results
        if (one := revised_by(caller.author, applied, now_ms)) is not None
    ]
    await add_revisions(connection, revised)
    await forget_revisions(connection, [uid for planned in plans for uid in ended_by(planned.results)])


def _plan(batch: SqlBatch, caller: _Caller) -> _Planned:
    """What comes of its writes. All or nothing of them is in the batch."""
    mark = batch.mark()
    try:
        results = batch.write(caller.writes)
        replay = caller.answer(results) if caller.answer is not None and caller.claim is not None else None
    except Exception as error:  # noqa: BLE001 - it is the caller's to know, and holds up no other
        batch.undo(mark)
        return _Planned(refused=error)
    return _Planned(results, replay)
