"""Invoices and credit notes: numbered without gaps, never changed, and in sum what the ledger has charged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.invoicing import Document, InvoiceLine, LineKey, Period, added, not_yet_billed
from billing.store.charges import ChargeRow, add_up_charges
from billing.store.columns import UsageFilter
from billing.store.order_charges import order_charges
from billing.store.schema import invoices
from common.clock import SYSTEM_CLOCK, Clock, rfc3339
from common.db import Database
from common.errors import Conflict, InvalidInput, NotFound

LIST_LIMIT = 1000
MAX_LINES = 20_000
LINE_GROUPS = ("project", "model_identity", "model", "kind", "device_class")


@dataclass(frozen=True)
class Issued:
    """What was issued for a period; ``document`` None = everything was billed before."""

    document: Document | None
    earlier: tuple[Document, ...]


class Invoices:
    """Issues and finds documents."""

    def __init__(self, database: Database, clock: Clock = SYSTEM_CLOCK) -> None:
        self._database = database
        self._clock = clock

    async def issue(self, tenant: str, display_name: str, period: Period, born_ms: int = 0) -> Issued:
        """Bill what the period's documents do not have yet: an invoice at first, later an invoice of what
        came late or a credit note of what was taken back. ``born_ms``: when the tenant was made.

        Raises ``InvalidInput`` for a period that is not over, ``Conflict`` for one that overlaps another that
        was billed.
        """
        now_ms = self._clock.now_ms()
        if period.end_ms > now_ms:
            raise InvalidInput(f"month: not over before {rfc3339(period.end_ms)}", param="month")
        async with self._database.write() as connection:
            if not self._database.is_sqlite:
                await connection.execute(sa.text("LOCK TABLE invoices IN SHARE ROW EXCLUSIVE MODE"))
            earlier = await _of_period(connection, tenant, period, born_ms)
            where = UsageFilter(tenant=tenant, from_ms=period.begin_ms, to_ms=period.end_ms, born_ms=born_ms)
            charged = await add_up_charges(connection, LINE_GROUPS, where, MAX_LINES + 1)
            if len(charged) > MAX_LINES:
                raise InvalidInput(f"month: more than {MAX_LINES} lines", param="month")
            ordered = [one.line for one in await order_charges(connection, tenant, period, born_ms)]
            lines = not_yet_billed((*lines_of(charged), *ordered), earlier)
            if not lines:
                return Issued(None, tuple(earlier))
            total = sum(line.microcredits for line in lines)
            document = Document(
                number=await _next_number(connection),
                kind="credit_note" if total < 0 else "invoice",
                tenant=tenant,
                display_name=display_name,
                period=period,
                issued_ms=now_ms,
                lines=lines,
                refers_to=earlier[0].number if earlier else None,
            )
            await _write(connection, document)
        return Issued(document, tuple(earlier))

    async def find(self, number: int) -> Document:
        """Raises ``NotFound``."""
        query = sa.select(invoices.c.document).where(invoices.c.number == number)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound(f"there is no invoice {number}")
        return Document.from_dict(json.loads(row.document))

    async def issued(
        self, tenant: str | None = None, after: int = 0, limit: int = LIST_LIMIT, born_ms: int = 0
    ) -> list[Document]:
        """Documents in the order of their numbers, from the one after ``after`` on; none from before
        ``born_ms``."""
        query = sa.select(invoices.c.document).where(
            invoices.c.number > after, invoices.c.issued_ms >= born_ms
        )
        if tenant is not None:
            query = query.where(invoices.c.tenant == tenant)
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(invoices.c.number).limit(min(limit, LIST_LIMIT)))
        return [Document.from_dict(json.loads(row.document)) for row in rows]

    async def of_period(self, tenant: str, period: Period, born_ms: int = 0) -> list[Document]:
        """The documents of exactly this period, first to last."""
        async with self._database.read() as connection:
            found = await _overlapping(connection, tenant, period, born_ms)
        return [one for one in found if one.period.is_same(period)]


def lines_of(charged: Sequence[ChargeRow]) -> tuple[InvoiceLine, ...]:
    """The lines of charges that are grouped by ``LINE_GROUPS``."""
    return added(InvoiceLine(_key(row), row.quantity, row.microcredits) for row in charged)


def _key(row: ChargeRow) -> LineKey:
    group, price = row.group, row.price
    is_device = group["kind"] == "device"
    model = "" if is_device else group["model_identity"] or group["model"]
    device = group["device_class"] if is_device or (price and price.item.device_class != "*") else ""
    if price is None:
        return LineKey(group["project"], model, device, row.meter)
    rate = price.item.microcredits_per_million
    return LineKey(group["project"], model, device, row.meter, price.book, price.version, rate)


async def _of_period(
    connection: AsyncConnection, tenant: str, period: Period, born_ms: int
) -> list[Document]:
    earlier = await _overlapping(connection, tenant, period, born_ms)
    for one in earlier:
        if not one.period.is_same(period):
            raise Conflict(
                f"{one.name} bills {' to '.join(one.period.days())} ({one.period.zone}) already, which "
                "overlaps this month; bill a tenant in one time zone"
            )
    return earlier


async def _overlapping(
    connection: AsyncConnection, tenant: str, period: Period, born_ms: int
) -> list[Document]:
    query = sa.select(invoices.c.document).where(
        invoices.c.tenant == tenant,
        invoices.c.begin_ms < period.end_ms,
        invoices.c.end_ms > period.begin_ms,
        invoices.c.issued_ms >= born_ms,
    )
    rows = await connection.execute(query.order_by(invoices.c.number))
    return [Document.from_dict(json.loads(row.document)) for row in rows]


async def _next_number(connection: AsyncConnection) -> int:
    """One more than the last: nobody else writes until the transaction ends, and nothing is ever removed."""
    last = (await connection.execute(sa.select(sa.func.max(invoices.c.number)))).scalar_one()
    return int(last or 0) + 1


async def _write(connection: AsyncConnection, document: Document) -> None:
    row = {
        "number": document.number,
        "kind": document.kind,
        "tenant": document.tenant,
        "begin_ms": document.period.begin_ms,
        "end_ms": document.period.end_ms,
        "issued_ms": document.issued_ms,
        "microcredits": document.microcredits,
        "document": json.dumps(document.to_dict(), sort_keys=True),
    }
    await connection.execute(sa.insert(invoices).values(row))
