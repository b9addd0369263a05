"""Leases of budgets: what one gateway process may spend of a budget's period without asking.

A lease is a hold on the budget: what control has granted and what is not counted as spent yet. Requests hold
parts of it while they run. Control counts what is posted, whoever posted it, and takes a holder's own word
for what of its lease is still open; so what a holder says is never less than what it may still post.

Whatever is lost, repeated or comes late: spent and all leases together are never more than the limit, unless
a holder has died and its lease is over, or a request took more than it held (which is counted).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

LEASE_SECONDS = 300.0
"""So long a holder may use what it was granted, counted from when it asked."""
GRACE_SECONDS = 30.0
"""So long after that control lends what is left of it to others: clocks differ a little in speed."""
PART_OF_LIMIT, PART_OF_LEFT = 100, 8
"""What is granted beyond what waits is at most the 100th part of the limit, and the 8th of what is left."""
KEPT_PART = 2
"""Room that its requests did not take a holder keeps up to one part in so many of what is left, so that
others find some."""
MAX_AMOUNT = 2**62
"""Of anything counted here: sums stay within 64 bits."""


@dataclass(frozen=True)
class Lease:
    """What control knows of one holder's lease of one period of a budget. ``open`` is all that the holder may
    still spend, or has spent and not posted; ``sequence`` numbers its reports; ``change`` is by how much the
    last one changed its room. It is over at ``expires_ms``."""

    open: int
    sequence: int
    change: int
    expires_ms: int


@dataclass(frozen=True)
class Ask:
    """What a holder says and wants. ``firm``: what its requests hold, and what they have used and is not
    known to be posted; ``room``: what it may lend to further requests. ``needed``: what requests wait for
    now, ``least`` what the smallest of them does; ``active``: whether there were requests lately, so that it
    should have room to spare."""

    sequence: int
    firm: int
    room: int
    needed: int = 0
    active: bool = True
    least: int = 0


def renewed(lease: Lease | None, ask: Ask, limit: int, spent: int, others: int, now_ms: int) -> Lease:
    """The lease after a report. ``others``: what all other holders have open.

    A report that comes twice gets the same answer, one that comes after a younger one changes nothing. What
    is firm is taken as it is, also beyond the limit: it is used. Room that is cut (the limit is lower, or the
    lease was over) counts as open until the holder says that it has it no more. Room that is too little for
    any of those who wait is left to others: else holders that each have a part of the last room, and wait for
    more, keep it from each other for good.
    """
    if lease is not None and ask.sequence <= lease.sequence:
        return lease if ask.sequence == lease.sequence else replace(lease, change=0)
    left = max(0, limit - spent - others - ask.firm)
    wanted = min(ask.room, left // KEPT_PART)
    if ask.active or ask.needed:
        wanted = max(wanted, ask.needed + spare(limit, left))
    room = min(left, wanted)
    if room < ask.least:
        room = 0
    expires_ms = now_ms + round((LEASE_SECONDS + GRACE_SECONDS) * 1000)
    return Lease(ask.firm + max(room, ask.room), ask.sequence, room - ask.room, expires_ms)


def spare(limit: int, left: int) -> int:
    """What is lent beyond what requests wait for, so that the next ones need not wait."""
    return min(limit // PART_OF_LIMIT, left // PART_OF_LEFT)


class Account:
    """A holder's side of a lease. Times are monotonic seconds.

    ``room`` is what new requests may hold. What a request has used stays ``firm`` until it is known to be
    posted; what it held beyond that is room again.
    """

    def __init__(self) -> None:
        self.held = 0
        self.overage = 0
        """Used beyond what was held, all requests together."""
        self.used_at = float("-inf")
        self._left = 0
        """Room and what is held, less what was used beyond both."""
        self._unposted: deque[tuple[float, int]] = deque()
        self._unposted_sum = 0
        self._valid_until = float("-inf")

    def room(self, now: float) -> int:
        """What new requests may hold; nothing once the lease is over."""
        return max(0, self._left - self.held) if now < self._valid_until else 0

    def is_valid(self, now: float) -> bool:
        """Whether control has answered lately enough."""
        return now < self._valid_until

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held, nothing waits to be posted, and there is no room."""
        return not self.firm and self._left <= 0

    @property
    def firm(self) -> int:
        """What requests hold, and what they have used that control may not have counted."""
        return self.held + self._unposted_sum

    def hold(self, amount: int, now: float) -> bool:
        """Take ``amount`` for a request; False where there is no room for it."""
        self.used_at = now
        if now >= self._valid_until or self._left - self.held < amount:
            return False
        self.held += amount
        return True

    def settle(self, held: int, used: int, now: float) -> None:
        """A request that held so much has ended; what it used is spooled. Once for each hold."""
        self.held -= held
        self._left -= used
        self.overage += max(0, used - held)
        if used:
            self._unposted.append((now, used))
            self._unposted_sum += used

    def posted(self, before: float) -> None:
        """All usage that was settled before then is counted by control."""
        while self._unposted and self._unposted[0][0] < before:
            self._unposted_sum -= self._unposted.popleft()[1]

    def to_report(self, now: float, keep: bool) -> tuple[int, int]:
        """What is firm, and what room there is, for a report that is sent now. Where it is not to ``keep``
        any, or the lease is over, there is none from now on: control may lend it to others."""
        if not keep or now >= self._valid_until:
            self._left = min(self._left, self.held)
        return self.firm, max(0, self._left - self.held)

    def changed(self, by: int, asked_at: float) -> None:
        """Control has answered a report that was made then."""
        self._left = max(self._left, self.held) + by
        self._valid_until = asked_at + LEASE_SECONDS
