"""Orders in SQL: each is placed once, pins all that it was ordered at, and ends once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.allotments import Allotment, Taken, refund_microcredits
from billing.core.ledger import Transaction, end_transaction, order_transaction
from billing.core.products import DAY_MS, Order
from billing.core.rating import digest_of
from billing.store import bulk
from billing.store.rows import transaction_row
from billing.store.schema import account_totals, allotments, journal, orders
from common.clock import SYSTEM_CLOCK, Clock
from common.db import Database
from common.errors import Conflict, InvalidInput, NotFound, TooManyRequests
from common.telemetry import get_logger

MOST_OPEN = 200
"""Orders of a tenant that are not over."""
MOST_A_DAY = 500
"""Orders that a tenant may place in a day (UTC)."""
LIST_LIMIT = 1000
SETTLE_MS = 7 * DAY_MS
"""So long after its end an order waits for usage that comes late, before what is left of it is closed."""

_log = get_logger("billing.orders")

State = Literal["upcoming", "active", "carried", "used", "over", "cancelled"]


@dataclass(frozen=True)
class Placed:
    """An order as it stands. ``ended_ms`` None = not cancelled, and not closed after its end. ``repeated``:
    it was so before; nothing was written now."""

    order: Order
    taken: Taken
    ended_ms: int | None = None
    cancelled: bool = False
    refund_microcredits: int = 0
    repeated: bool = False

    def state(self, at_ms: int) -> State:
        """What becomes of usage at this moment."""
        terms = self.order.allotment
        if self.cancelled:
            return "cancelled"
        if self.ended_ms is not None or at_ms >= terms.ends_ms:
            return "over"
        if at_ms < terms.from_ms:
            return "upcoming"
        if not self.taken.room(terms, at_ms >= terms.until_ms):
            return "used"
        return "carried" if at_ms >= terms.until_ms else "active"


class Orders:
    """Places, finds and ends orders."""

    def __init__(self, database: Database, clock: Clock = SYSTEM_CLOCK) -> None:
        self._database = database
        self._clock = clock

    async def place(self, order: Order) -> Placed:
        """Write it down, if it is new, and grant what it is for. When this returns, it is durable.

        Raises ``Conflict`` for an id that says something else, and where too many orders are open;
        ``TooManyRequests`` for more than a day's.
        """
        order.check()
        async with self._database.write() as connection:
            return await place(connection, order)

    async def cancel(self, tenant: str, tenant_uid: str, id_: str) -> Placed:
        """End an order now; what of its price is unused is given back, where its product says so. Doing it
        again changes nothing. Raises ``NotFound``, and ``Conflict`` for an order that is over."""
        now_ms = self._clock.now_ms()
        async with self._database.write() as connection:
            row = await _find(connection, f"{tenant}/{id_}", lock=True)
            if row is None or row.tenant_uid != tenant_uid:
                raise NotFound(f"there is no order {id_!r}")
            found = _placed(row, repeated=True)
            if found.cancelled:
                return found
            terms = found.order.allotment
            now_ms = max(now_ms, found.order.ordered_ms)  # a clock that goes back cancels nothing beforehand
            if found.ended_ms is not None or now_ms >= terms.ends_ms:
                raise Conflict(f"the order {id_} is over; there is nothing to cancel")
            refund = refund_microcredits(terms, found.taken, now_ms) if found.order.product.refundable else 0
            await _end(connection, terms, found.taken, now_ms, refund, "cancelled")
            return Placed(found.order, found.taken, now_ms, True, refund)

    async def close(self, before_ms: int | None = None) -> list[Placed]:
        """Close orders that have been over for ``SETTLE_MS`` (or were over by ``before_ms``): what is left of
        their prices is earned. Returns them, some at a time."""
        now_ms = self._clock.now_ms()
        over = allotments.c.ends_ms <= (now_ms - SETTLE_MS if before_ms is None else before_ms)
        query = _orders().where(allotments.c.ended_ms.is_(None), over).order_by(orders.c.id)
        closed = []
        async with self._database.write() as connection:
            rows = (await connection.execute(query.limit(100).with_for_update(of=allotments))).all()
            for found in _readable(rows):
                await _end(connection, found.order.allotment, found.taken, now_ms, 0, "over")
                closed.append(Placed(found.order, found.taken, now_ms))
        return closed

    async def not_over(self) -> list[Placed]:
        """All that are neither cancelled nor closed, of all tenants, by id. One that cannot be read holds up
        no other."""
        query = _orders().where(allotments.c.ended_ms.is_(None)).order_by(orders.c.id)
        async with self._database.read() as connection:
            return list(_readable(await connection.execute(query)))

    async def find(self, tenant: str, tenant_uid: str, id_: str) -> Placed:
        """Raises ``NotFound``."""
        async with self._database.read() as connection:
            row = await _find(connection, f"{tenant}/{id_}")
        if row is None or row.tenant_uid != tenant_uid:
            raise NotFound(f"there is no order {id_!r}")
        return _placed(row)

    async def latest(
        self, tenant: str | None = None, born_ms: int = 0, open_only: bool = False, limit: int = LIST_LIMIT
    ) -> list[Placed]:
        """Those that were placed last come first; none from before ``born_ms``. ``open_only``: that are
        neither cancelled nor closed."""
        query = _orders().where(orders.c.ordered_ms >= born_ms)
        if tenant is not None:
            query = query.where(orders.c.tenant == tenant)
        if open_only:
            query = query.where(allotments.c.ended_ms.is_(None))
        query = query.order_by(orders.c.ordered_ms.desc(), orders.c.id).limit(limit)
        async with self._database.read() as connection:
            return [_placed(row) for row in await connection.execute(query)]


async def find(connection: AsyncConnection, id_: str) -> Placed | None:
    """The order of ``tenant/id``, in a transaction of the caller's."""
    row = await _find(connection, id_)
    return None if row is None else _placed(row, repeated=True)


async def place(connection: AsyncConnection, order: Order) -> Placed:
    """Write an order that is new, in a transaction of the caller's."""
    terms, said = order.allotment, said_by(order)
    before = await _find(connection, terms.id)
    if before is not None:
        return _placed_before(before, order, said)
    await _check_room(connection, order)
    document = json.dumps(order.to_dict(), sort_keys=True)
    row = (
        terms.id,
        order.tenant,
        order.tenant_uid,
        said,
        order.ordered_ms,
        order.price_microcredits,
        document,
    )
    new = await bulk.insert_new(connection, orders, [row])
    if not new:
        found = await _find(connection, terms.id)
        assert found is not None
        return _placed_before(found, order, said)
    await bulk.insert(
        connection, allotments, [(terms.id, order.tenant, terms.granted, terms.ends_ms, 0, 0, None, 0, 0)]
    )
    await _post(connection, order_transaction(terms, order.product.name), order.ordered_ms)
    return Placed(order, Taken())


async def _check_room(connection: AsyncConnection, order: Order) -> None:
    mine = sa.and_(allotments.c.tenant == order.tenant, allotments.c.ended_ms.is_(None))
    if await _count(connection, mine) >= MOST_OPEN:
        raise Conflict(f"the tenant has {MOST_OPEN} orders that are not over; cancel some of them")
    midnight_ms = order.ordered_ms // DAY_MS * DAY_MS
    today = sa.and_(orders.c.tenant == order.tenant, orders.c.ordered_ms >= midnight_ms)
    if await _count(connection, today) >= MOST_A_DAY:
        raise TooManyRequests(
            f"the tenant has placed {MOST_A_DAY} orders today; go on after midnight (UTC)",
            retry_after_seconds=-(-(midnight_ms + DAY_MS - order.ordered_ms) // 1000),
        )


async def _count(connection: AsyncConnection, where: sa.ColumnElement[bool]) -> int:
    return int((await connection.execute(sa.select(sa.func.count()).where(where))).scalar_one())


def said_by(order: Order) -> str:
    """The same for orders that ask for the same, whenever they do."""
    asked = (order.product.name, order.pieces, order.queue, order.voucher)
    begins = order.begins_ms if order.begins_ms != order.ordered_ms else None
    return digest_of([order.tenant_uid, order.id, *asked, begins])


def _placed_before(row: sa.Row[Any], order: Order, said: str) -> Placed:
    if row.digest != said or row.tenant_uid != order.tenant_uid:
        raise Conflict(
            f"id: {order.id!r} was ordered before and says something else; choose another id", param="id"
        )
    return _placed(row, repeated=True)


async def _end(
    connection: AsyncConnection, terms: Allotment, taken: Taken, now_ms: int, refund: int, why: str
) -> None:
    change = sa.update(allotments).where(allotments.c.id == terms.id)
    values = {"ended_ms": now_ms, "cancelled": int(why == "cancelled"), "refund_microcredits": refund}
    await connection.execute(change.values(values))
    await _post(connection, end_transaction(terms, taken.used, refund, why), now_ms)


async def _post(connection: AsyncConnection, transaction: Transaction, now_ms: int) -> None:
    await bulk.insert(connection, journal, [transaction_row(transaction, now_ms)])
    sums: dict[str, int] = {}
    for entry in transaction.entries:
        sums[entry.account] = sums.get(entry.account, 0) + entry.microcredits
    await bulk.add(connection, account_totals, sums.items())


def _orders() -> sa.Select[Any]:
    columns = [column for column in allotments.columns if column.name not in ("id", "tenant")]
    return sa.select(orders, *columns).join_from(orders, allotments, orders.c.id == allotments.c.id)


async def _find(connection: AsyncConnection, id_: str, lock: bool = False) -> sa.Row[Any] | None:
    query = _orders().where(orders.c.id == id_)
    if lock:
        query = query.with_for_update(of=allotments)
    row: sa.Row[Any] | None = (await connection.execute(query)).one_or_none()
    return row


def _readable(rows: Iterable[sa.Row[Any]]) -> Iterator[Placed]:
    """All but what another version of this program wrote in a way that this one cannot read."""
    for row in rows:
        try:
            yield _placed(row)
        except (InvalidInput, ValueError, LookupError, TypeError) as error:
            _log.error("an order cannot be read", order=row.id, error=repr(error))


def _placed(row: sa.Row[Any], *, repeated: bool = False) -> Placed:
    return Placed(
        Order.from_dict(json.loads(row.document)),
        Taken(row.used, row.carried),
        row.ended_ms,
        bool(row.cancelled),
        row.refund_microcredits,
        repeated,
    )
