"""What an election needs: a place for the lease, and a fence that knows the epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from common.leadership.rules import Candidate, Lease


class LeasePort(Protocol):
    """Where the lease is kept. Every call may raise ``Unavailable``."""

    async def read(self) -> Lease:
        """The lease as it is."""
        ...

    async def take(self, seen: Lease, me: Candidate, least_epoch: int = 0) -> Lease | None:
        """Take it, unless it is another one by now than was seen: then None. Its epoch is above that which
        was seen, and ``least_epoch`` at least. No write that began under the old epoch is under way any more
        when this returns."""
        ...

    async def renew(self, held: Lease) -> Lease | None:
        """Show that its holder lives; None where another has it."""
        ...

    async def release(self, held: Lease) -> None:
        """Give it back; one that another has stays as it is."""
        ...


class EpochFence(Protocol):
    """Lets writes through only while the lease in force has this epoch; 0 = none. ``lost`` is called when it
    meets another."""

    epoch: int
    lost: Callable[[], None]
