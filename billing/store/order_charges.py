"""What was charged for orders, and given back: what invoices and cost rows have beside usage."""

from __future__ import annotations

import json
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.invoicing import InvoiceLine, LineKey, Period
from billing.core.products import Order
from billing.store.schema import allotments, orders
from common.db import Database

ORDER = "order"
"""The meter of what an order costs."""
REFUND = "order_refund"
"""The meter of what is given back for a cancelled order."""


@dataclass(frozen=True)
class OrderCharge:
    """What an order cost at ``at_ms``, or (negative) what was given back for it."""

    order: Order
    at_ms: int
    microcredits: int

    @property
    def is_refund(self) -> bool:
        """Whether something is given back."""
        return self.microcredits < 0

    @property
    def line(self) -> InvoiceLine:
        """As an invoice has it: the order in place of a price book, pieces in place of a quantity."""
        meter, product = REFUND if self.is_refund else ORDER, self.order.product
        key = LineKey("", product.name, product.device_class, meter, self.order.allotment.id, 1, 0)
        return InvoiceLine(key, 0 if self.is_refund else self.order.pieces, self.microcredits)


async def order_charges(
    connection: AsyncConnection, tenant: str, period: Period, born_ms: int
) -> list[OrderCharge]:
    """Those of a period, of orders since ``born_ms``, in their order."""
    query = sa.select(
        orders.c.document, orders.c.ordered_ms, allotments.c.ended_ms, allotments.c.refund_microcredits
    )
    query = query.join_from(orders, allotments, orders.c.id == allotments.c.id)
    query = query.where(orders.c.tenant == tenant, orders.c.ordered_ms >= born_ms)
    ended = allotments.c.ended_ms
    touched = sa.or_(
        orders.c.ordered_ms >= period.begin_ms, sa.and_(ended.is_not(None), ended >= period.begin_ms)
    )
    query = query.where(touched, orders.c.ordered_ms < period.end_ms).order_by(
        orders.c.ordered_ms, orders.c.id
    )
    charges = []
    for row in await connection.execute(query):
        order = Order.from_dict(json.loads(row.document))
        told = [(row.ordered_ms, order.price_microcredits), (row.ended_ms, -row.refund_microcredits)]
        charges += [
            OrderCharge(order, at_ms, amount)
            for at_ms, amount in told
            if amount and at_ms is not None and period.begin_ms <= at_ms < period.end_ms
        ]
    return charges


async def charges_of(database: Database, tenant: str, period: Period, born_ms: int) -> list[OrderCharge]:
    """The same, with a connection of its own."""
    async with database.read() as connection:
        return await order_charges(connection, tenant, period, born_ms)
