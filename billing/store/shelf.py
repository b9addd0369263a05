"""What can be ordered, in SQL: products, and vouchers that are redeemed once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.products import Order, Product
from billing.core.vouchers import Voucher
from billing.store import bulk, orders
from billing.store.orders import Placed
from billing.store.schema import products, vouchers
from common.clock import SYSTEM_CLOCK, Clock
from common.db import Database
from common.errors import Conflict, InvalidInput, NotFound
from common.ids import new_secret, secret_digest

MOST_PRODUCTS = 1000
LIST_LIMIT = 1000


@dataclass(frozen=True)
class Issued:
    """A voucher as it stands. ``order_id`` is ``tenant/id`` of the order that was made of it; None = not
    redeemed. ``voided_ms`` None = good."""

    voucher: Voucher
    issued_ms: int
    order_id: str | None = None
    voided_ms: int | None = None


class Shelf:
    """Keeps products and vouchers, and makes orders of them."""

    def __init__(self, database: Database, clock: Clock = SYSTEM_CLOCK) -> None:
        self._database = database
        self._clock = clock

    async def put(self, product: Product) -> bool:
        """Write a product, new or in place of the one of its name; whether it is new. Raises ``Conflict``
        where there are too many."""
        row = (product.name, self._clock.now_ms(), json.dumps(product.to_dict(), sort_keys=True))
        change = sa.update(products).where(products.c.name == product.name)
        change = change.values(changed_ms=row[1], document=row[2])
        async with self._database.write() as connection:
            if (await connection.execute(change)).rowcount:
                return False
            count = (await connection.execute(sa.select(sa.func.count()).select_from(products))).scalar_one()
            if count >= MOST_PRODUCTS:
                raise Conflict(f"there are {MOST_PRODUCTS} products; delete some that nobody orders")
            if not await bulk.insert_new(connection, products, [row]):  # another was first meanwhile
                await connection.execute(change)
                return False
        return True

    async def remove(self, name: str) -> Product:
        """The product, which is gone; orders keep it as it was. Raises ``NotFound``."""
        found = await self.product(name)
        async with self._database.write() as connection:
            await connection.execute(sa.delete(products).where(products.c.name == name))
        return found

    async def products(self, tenant: str | None = None) -> list[Product]:
        """By name; for a tenant those that it can order."""
        query = sa.select(products.c.document).order_by(products.c.name)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).scalars().all()
        found = [Product.from_dict(json.loads(row)) for row in rows]
        return [one for one in found if tenant is None or (one.on_shelf and one.tenant in ("", tenant))]

    async def product(self, name: str, tenant: str | None = None) -> Product:
        """Raises ``NotFound``; a tenant does not learn of what is another's."""
        query = sa.select(products.c.document).where(products.c.name == name)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).scalar_one_or_none()
        found = Product.from_dict(json.loads(row)) if row is not None else None
        if found is None or (tenant is not None and found.tenant not in ("", tenant)):
            raise NotFound(f"there is no product {name!r}")
        return found

    async def issue(self, wanted: Sequence[Voucher]) -> list[tuple[Issued, str]]:
        """New vouchers with their codes, which are not kept. Raises ``Conflict`` where a name is taken."""
        now_ms = self._clock.now_ms()
        made: list[tuple[Issued, str]] = []
        async with self._database.write() as connection:
            for voucher in wanted:
                code = new_secret("vc")
                taken = sa.select(vouchers.c.name).where(vouchers.c.name == voucher.name)
                document = json.dumps(voucher.to_dict(), sort_keys=True)
                row = (secret_digest(code), voucher.name, now_ms, document, None, None)
                known = (await connection.execute(taken)).one_or_none()
                if known is not None or not await bulk.insert_new(connection, vouchers, [row]):
                    raise Conflict(
                        f"id: there is a voucher {voucher.name} already, and codes are shown once; choose "
                        "another id",
                        param="id",
                    )
                made.append((Issued(voucher, now_ms), code))
        return made

    async def void(self, name: str) -> Issued:
        """Let a voucher be good no more; doing it again changes nothing. Raises ``NotFound``, and
        ``Conflict`` where it was redeemed."""
        now_ms = self._clock.now_ms()
        async with self._database.write() as connection:
            row = await _find(connection, vouchers.c.name == name)
            if row is None:
                raise NotFound(f"there is no voucher {name!r}")
            issued = _issued(row)
            if issued.order_id is not None:
                raise Conflict(f"the voucher {name} was redeemed as {issued.order_id}; cancel that order")
            if issued.voided_ms is not None:
                return issued
            await connection.execute(
                sa.update(vouchers).where(vouchers.c.name == name).values(voided_ms=now_ms)
            )
        return replace(issued, voided_ms=now_ms)

    async def redeem(self, code: str, tenant: str, tenant_uid: str, by: str) -> Placed:
        """The order that is made of a voucher; the same again for the tenant that has redeemed it.

        Raises ``InvalidInput`` for a code that is none, for this tenant or by now, and ``Conflict`` for one
        that another tenant has used.
        """
        now_ms = self._clock.now_ms()
        async with self._database.write() as connection:
            row = await _find(connection, vouchers.c.digest == secret_digest(code))
            if row is None:
                raise InvalidInput("code: is no voucher's", param="code")
            issued = _issued(row)
            order = issued.voucher.order(tenant, tenant_uid, now_ms, by)
            if issued.order_id is not None:
                return await _redeemed_before(connection, issued, order)
            if issued.voided_ms is not None or issued.voucher.tenant not in ("", tenant):
                raise InvalidInput("code: is no voucher's that is good for this tenant", param="code")
            if now_ms >= issued.voucher.redeem_until_ms:
                raise InvalidInput("code: the voucher has expired", param="code")
            await connection.execute(
                sa.update(vouchers).where(vouchers.c.digest == row.digest).values(order_id=order.allotment.id)
            )
            return await orders.place(connection, order)

    async def vouchers(self, limit: int = LIST_LIMIT) -> list[Issued]:
        """Those that were issued last come first."""
        query = sa.select(vouchers).order_by(vouchers.c.issued_ms.desc(), vouchers.c.name).limit(limit)
        async with self._database.read() as connection:
            return [_issued(row) for row in await connection.execute(query)]


async def _redeemed_before(connection: AsyncConnection, issued: Issued, order: Order) -> Placed:
    found = await orders.find(connection, order.allotment.id)
    if issued.order_id != order.allotment.id or found is None or found.order.tenant_uid != order.tenant_uid:
        raise Conflict("code: the voucher was used before", param="code")
    return found


async def _find(connection: AsyncConnection, which: sa.ColumnElement[bool]) -> sa.Row[Any] | None:
    """The voucher, taken until the transaction ends."""
    return (await connection.execute(sa.select(vouchers).where(which).with_for_update())).one_or_none()


def _issued(row: sa.Row[Any]) -> Issued:
    return Issued(Voucher.from_dict(json.loads(row.document)), row.issued_ms, row.order_id, row.voided_ms)
