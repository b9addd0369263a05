"""The ledger: takes usage events, posts each once, reverses, and adds up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from billing import metrics
from billing.core.events import UsageEvent
from billing.core.ledger import Transaction, TrialBalance, reversal_of, usage_transaction
from billing.core.rating import Rates
from billing.core.reconciliation import EventGroup
from billing.store import bulk
from billing.store.books import book_of
from billing.store.budgets import Budgets
from billing.store.charges import ChargeRow, add_up_charges
from billing.store.columns import UsageFilter
from billing.store.draws import cover, return_draws
from billing.store.engines import Engine, days_apart, engine_use
from billing.store.rows import event_row, price_ids, price_of, transaction_of, transaction_row
from billing.store.schema import account_totals, journal, prices_pinned, usage_events, usage_series
from billing.store.series import Place, Places, place_of_before
from billing.store.totals import Sums, Totals
from billing.store.usage import UsageRow, add_up
from billing.store.volumes import Rated, rate_by_volume, take_counts
from common.clock import SYSTEM_CLOCK, Clock
from common.db import Database
from common.errors import InvalidInput, NotFound, Unavailable
from common.resources import Price
from common.store.port import Store
from common.telemetry import get_logger

BATCH = 1000
"""Events in one database transaction."""
KNOWN_OTHERWISE = "id: was posted before with another content"

_FAULTS = (InvalidInput, DataError, IntegrityError, ValueError, ArithmeticError, LookupError, TypeError)
"""What an event raises that can be neither rated nor written, where the database itself is well."""
_log = get_logger("billing.ledger")


@dataclass(frozen=True)
class PostResult:
    """What became of the posted events. ``refused`` are ids that were posted before with another content, or
    that can be neither rated nor written; of the latter ``reasons`` says why."""

    accepted: int
    duplicates: int
    refused: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)

    def reason(self, event_id: str) -> str:
        """Why the event was refused."""
        return self.reasons.get(event_id, KNOWN_OTHERWISE)


@dataclass(frozen=True)
class Reversal:
    """What was given back for an event, in money and to orders. ``repeated``: it had been reversed before;
    nothing was posted now."""

    transaction_id: str
    microcredits: int
    repeated: bool


@dataclass(frozen=True)
class _Posted:
    """``known``: id → digest of those that were there already. ``batch`` has the lines that were posted."""

    known: Mapping[str, str]
    batch: Sequence[Rated]


class Ledger:
    """Rates events with the Price resources of ``store`` and keeps them in ``database``.

    Safe to use from several tasks and processes: an event id is posted once, whoever posts it how often.
    """

    def __init__(self, database: Database, store: Store, clock: Clock = SYSTEM_CLOCK) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._totals = Totals()
        self._places = Places()
        self.budgets = Budgets(database, store, clock)

    @property
    def database(self) -> Database:
        """Where it is kept."""
        return self._database

    async def post(self, events: Sequence[UsageEvent]) -> PostResult:
        """Post the events that are new. When this returns, they are durable.

        An id that is known with the same content is counted as a duplicate. With another content it is
        refused: what was posted first stands, and the others of the call are posted nevertheless. So they are
        when one can be neither rated nor written: it is refused with its reason, and holds up nothing.
        """
        if not events:
            return PostResult(0, 0)
        first = {event.id: event for event in reversed(events)}
        books = [book_of(price) for price in await self._store.list(Price)]
        reasons: dict[str, str] = {}
        rates = Rates(books)
        rated = {
            one[0].id: one for one in _rated([event for _, event in sorted(first.items())], rates, reasons)
        }
        known: dict[str, str] = {}
        for batch in _batches(list(rated.values())):
            posted = await self._post_each_that_can_be(batch, rates, reasons)
            known.update(posted.known)
            rated.update({one[0].id: one for one in posted.batch})
        digests = {id_: known.get(id_, digest) for id_, (_, _, digest) in rated.items()}
        result = _count(events, digests, len(first) - len(known) - len(reasons), reasons)
        metrics.count_posted(
            [lines for id_, (_, lines, _) in rated.items() if id_ not in known and id_ not in reasons],
            duplicates=result.duplicates,
            refused=len(result.refused),
        )
        return result

    async def _post_each_that_can_be(
        self, batch: Sequence[Rated], rates: Rates, reasons: dict[str, str]
    ) -> _Posted:
        """Post a batch as one or, where that fails for what an event says, each event alone.

        Why one cannot be written is put into ``reasons``.
        """
        try:
            return await self._post_batch(batch, rates)
        except _FAULTS as error:
            if len(batch) == 1:
                _refuse(batch[0][0], error, reasons)
                return _Posted({}, ())
        parts = [await self._post_each_that_can_be([one], rates, reasons) for one in batch]
        known = {id_: digest for part in parts for id_, digest in part.known.items()}
        return _Posted(known, [one for part in parts for one in part.batch])

    async def _post_batch(self, batch: Sequence[Rated], rates: Rates) -> _Posted:
        """Post a batch, ordered by id after counts of volume and allotments are taken by theirs (so that two
        posters never wait for each other in a circle).
        """
        now_ms = self._clock.now_ms()
        sums = Sums(await self.budgets.index())
        async with self._database.write() as connection:
            batch, placed = await rate_by_volume(connection, batch, rates)
            batch, draws = await cover(connection, batch)
            places = await self._places.of(connection, [event for event, _, _ in batch])
            rows = [
                event_row(event, lines, now_ms, digest, places[event.id].series)
                for event, lines, digest in batch
            ]
            new = await bulk.insert_new(connection, usage_events, rows)
            if not placed | draws.keys() <= new:
                raise Unavailable("this usage is being posted by another; try again")
            posted = [
                (event, usage_transaction(event, lines, draws.get(event.id, ())), places[event.id])
                for event, lines, _ in batch
                if event.id in new
            ]
            await self._enter(connection, posted, sums, now_ms)
            old = [event.id for event, _, _ in batch if event.id not in new]
            known = dict(await bulk.look_up(connection, usage_events, old, "digest"))
        self._totals.committed(sums)
        self._places.committed({id_: place for id_, place in places.items() if id_ in new})
        return _Posted(known, batch)

    async def _enter(
        self,
        connection: AsyncConnection,
        posted: Sequence[tuple[UsageEvent, Transaction, Place]],
        sums: Sums,
        now_ms: int,
    ) -> None:
        """Write transactions into the journal and what they add into the totals."""
        rows = [transaction_row(transaction, now_ms) for _, transaction, _ in posted]
        await bulk.insert(connection, journal, rows)
        for event, transaction, place in posted:
            sums.add(event, transaction, place)
        await self._places.note(connection, [place for _, _, place in posted])
        await self._totals.add(connection, sums)

    async def reverse(self, event_id: str, reason: str) -> Reversal:
        """Take an event back: its amounts are posted with the opposite signs, and reports leave it out.

        Doing it again changes nothing. Raises ``NotFound`` for an id that was never posted.
        """
        now_ms, sums = self._clock.now_ms(), Sums(await self.budgets.index())
        async with self._database.write() as connection:
            query = sa.select(usage_events).where(usage_events.c.id == event_id).with_for_update()
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                raise NotFound(f"there is no usage event {event_id!r}")
            [usage, *before] = await _transactions(connection, event_id)
            reversal = reversal_of(usage, reason)
            if not before:
                event = UsageEvent.from_dict(json.loads(row.document))
                await take_counts(connection, [(event.tenant, usage.lines)])
                reversal = reversal_of(usage, reason, await return_draws(connection, event, usage))
                place = await _place_of(connection, event, row.series)
                await self._enter(connection, [(event, reversal, place)], sums, now_ms)
                await connection.execute(
                    sa.update(usage_events).where(usage_events.c.id == event_id).values(reversed_ms=now_ms)
                )
        return Reversal(reversal.id, row.microcredits, bool(before))

    async def trial_balance(self) -> TrialBalance:
        """The balance of every account; they add up to zero."""
        query = sa.select(account_totals).order_by(account_totals.c.account)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return TrialBalance({row.account: int(row.microcredits) for row in rows})

    async def engine_use(self, from_ms: int, to_ms: int) -> Mapping[Engine, Sequence[EventGroup]]:
        """What each engine has to have counted between two moments, by the events that name it."""
        async with self._database.read() as connection:
            return await engine_use(connection, from_ms, to_ms)

    async def days_apart(self, from_day: str, to_day: str) -> Mapping[str, int]:
        """How far events, totals and charges of these days are apart, by count; empty where they agree."""
        async with self._database.read() as connection:
            return await days_apart(connection, from_day, to_day)

    async def transactions(self, event_id: str) -> list[Transaction]:
        """What was posted for an event: its usage, then its reversal, if any. Empty for an unknown id."""
        async with self._database.read() as connection:
            return await _transactions(connection, event_id)

    async def usage(
        self, group_by: Sequence[str] = (), where: UsageFilter | None = None, limit: int | None = None
    ) -> list[UsageRow]:
        """Usage added up by the given groups (see ``billing.reports``); ``limit``: at most so many rows."""
        async with self._database.read() as connection:
            return await add_up(connection, group_by, where or UsageFilter(), limit)

    async def charges(
        self, group_by: Sequence[str] = (), where: UsageFilter | None = None, limit: int | None = None
    ) -> list[ChargeRow]:
        """What was charged at which price, by the given groups (no hours or minutes); ``limit``: at most so
        many rows."""
        async with self._database.read() as connection:
            return await add_up_charges(connection, group_by, where or UsageFilter(), limit)


async def _place_of(connection: AsyncConnection, event: UsageEvent, series: str) -> Place:
    """Where a posted event was counted."""
    place = place_of_before(event)
    if not series or series == place.series:
        return place
    columns = (await connection.execute(sa.select(usage_series).where(usage_series.c.id == series))).one()
    return Place(place.day, series, tuple(columns[1:]))


def _rated(events: Sequence[UsageEvent], rates: Rates, reasons: dict[str, str]) -> list[Rated]:
    """The events with their lines, as if no volume came before; why one cannot be rated is put into
    ``reasons``."""
    rated: list[Rated] = []
    for event in events:
        try:
            rated.append((event, rates.lines(event), event.digest()))
        except _FAULTS as error:
            _refuse(event, error, reasons)
    return rated


def _refuse(event: UsageEvent, error: Exception, reasons: dict[str, str]) -> None:
    kind = type(error).__name__
    _log.error("a usage event cannot be posted", event_id=event.id, error=repr(error))
    reasons[event.id] = error.message if isinstance(error, InvalidInput) else f"cannot be posted: {kind}"


def _batches(rated: Sequence[Rated]) -> Iterator[Sequence[Rated]]:
    for start in range(0, len(rated), BATCH):
        yield rated[start : start + BATCH]


def _count(
    events: Sequence[UsageEvent], digests: Mapping[str, str], accepted: int, reasons: dict[str, str]
) -> PostResult:
    """``digests`` are those that the ledger has now."""
    refused = tuple(e.id for e in events if e.id in reasons or e.digest() != digests[e.id])
    return PostResult(accepted, len(events) - accepted - len(refused), refused, reasons)


async def _transactions(connection: AsyncConnection, event_id: str) -> list[Transaction]:
    query = sa.select(journal).where(journal.c.event_id == event_id).order_by(journal.c.type.desc())
    rows = (await connection.execute(query)).all()
    ids = sorted({id_ for row in rows for id_ in price_ids(row.entries)})
    found = await bulk.look_up(connection, prices_pinned, ids, "document")
    prices = {id_: price_of(document) for id_, document in found}
    return [transaction_of(row, prices) for row in rows]
