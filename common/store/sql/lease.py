"""The lease in the database, and the fence in its transactions."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from common.db import Database
from common.errors import NOT_LEADING, Unavailable
from common.leadership.rules import Candidate, Lease
from common.store.schema import leases

CONTROL = "control"
"""The name of the only lease that there is."""
_THIS = leases.c.name == CONTROL
_READ = sa.select(leases.c.epoch, leases.c.holder, leases.c.url, leases.c.beat).where(_THIS)
_FENCE = sa.select(leases.c.epoch).where(_THIS).with_for_update(read=True, key_share=True)


class SqlLease:
    """Implements ``common.leadership.port.LeasePort``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> Lease:
        async with self._database.read() as connection:
            epoch, holder, url, beat = (await connection.execute(_READ)).one()
        return Lease(epoch, holder, url, beat)

    async def take(self, seen: Lease, me: Candidate, least_epoch: int = 0) -> Lease | None:
        taken = Lease(max(seen.epoch + 1, least_epoch), me.holder, me.url)
        values = {"epoch": taken.epoch, "holder": taken.holder, "url": taken.url, "beat": 0}
        beat = await self._set(seen, values, leases.c.beat == seen.beat)
        return None if beat is None else taken

    async def renew(self, held: Lease) -> Lease | None:
        """Counted on from what stands there, for one whose answer was lost is a sign of life as well."""
        beat = await self._set(held, {"beat": leases.c.beat + 1})
        return None if beat is None else Lease(held.epoch, held.holder, held.url, beat)

    async def release(self, held: Lease) -> None:
        await self._set(held, {"holder": "", "url": ""})

    async def _set(self, was: Lease, values: dict[str, object], *more: sa.ColumnElement[bool]) -> int | None:
        """The beat that stands there now; None where it was not the same lease any more."""
        same = sa.and_(_THIS, leases.c.epoch == was.epoch, leases.c.holder == was.holder, *more)
        change = sa.update(leases).where(same).values(values).returning(leases.c.beat)
        async with self._database.write(fenced=False) as connection:
            beat: int | None = (await connection.execute(change)).scalar_one_or_none()
            return beat


class Fence:
    """Implements ``common.leadership.port.EpochFence`` for transactions: see ``Database.fence``."""

    def __init__(self) -> None:
        self.epoch = 0
        self.lost: Callable[[], None] = lambda: None

    async def __call__(self, connection: AsyncConnection) -> None:
        """Called in each transaction that writes, before anything else. To its end nobody can take the lease.
        Raises ``Unavailable`` where another leads."""
        epoch = self.epoch
        if not epoch or (await connection.execute(_FENCE)).scalar_one() != epoch:
            if epoch:
                self.lost()
            raise Unavailable(
                "this control process does not lead: nothing was changed; send it again in a moment, with "
                "the same Idempotency-Key",
                code=NOT_LEADING,
            )
