"""Whose turn it is at an Endpoint's engines: so many answers at once, and tenants in fair order.

Start-time fair queueing: each tenant has a time of its own, which goes on by what its requests may take, and
whoever is furthest behind goes next. Who has asked for nothing for a while is not ahead for that. How many
answers the engines work on is learned from what they tell: twice as many while none of them waits there, less
as soon as some do, so that who waits, waits here.

What is in the background, as lines of batches are, begins only while nobody else waits, and leaves a part of
the turns free: who comes in the foreground finds room at once. It counts for no tenant's share.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field

FIRST_LIMIT = 32
"""Answers at once of one engine that nothing is known of."""
LEAST_LIMIT = 4
MOST = 1 << 20
MOST_COST = 1_000_000
"""Of one request: engines end sooner, whatever it asks for."""
LATELY_SECONDS = 60.0
"""A tenant that has asked within this is one to leave room for."""
SPARE_PART = 8
"""One in so many turns is left for tenants that have less than their share; so many have to be free for
requests of more."""
WAITING_PART = 16
"""Where more than one in so many of an engine's requests wait there, it has too many."""
STEADY_PART = 16
"""By one in so many the limit rises, once it was found."""
BACKGROUND_PART = 4
"""One in so many turns is never taken by the background."""
USUAL_SECONDS = 1.0
_SMOOTH = 0.1


@dataclass(eq=False, slots=True)
class Waiter:
    """A request that wants ``turns``, one for each answer; ``cost`` is what it may take, in tokens."""

    tenant: str
    turns: int
    cost: int
    is_background: bool = False


@dataclass
class _Tenant:
    """``ahead``: its own time. ``turns``: that it has. ``seen_seconds``: when it last asked."""

    ahead: int = 0
    turns: int = 0
    seen_seconds: float = 0.0
    waiting: deque[Waiter] = field(default_factory=deque)


class FairTurns:
    """The turns of one Endpoint with so many ``engines``."""

    def __init__(self, engines: int) -> None:
        self._engines = engines
        self.limit = FIRST_LIMIT * engines
        self.is_found = False
        """Whether the engines have ever said that they have enough."""
        self.open = 0
        self.unused = 0
        """Turns of requests that the engines are done with, as they told last: who reads slowly holds one."""
        self.waiting = 0
        self._virtual = 0
        self._hold_seconds = USUAL_SECONDS
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()
        self._queues: dict[str, None] = {}
        self._background: OrderedDict[str, deque[Waiter]] = OrderedDict()

    @property
    def needs_look(self) -> bool:
        """Whether it matters how many the engines work on: somebody waits here, or might have to in an
        engine, behind others."""
        return self.waiting > 0 or (len(self._tenants) > 1 and self.open >= FIRST_LIMIT // 4 * self._engines)

    @property
    def is_idle(self) -> bool:
        """Whether nobody is here."""
        return not self.open and not self.waiting

    def resize(self, engines: int) -> None:
        """There are more engines, or fewer."""
        if engines != self._engines:
            self.limit = max(1, self.limit * engines // self._engines)
            self._engines = engines

    def ask(self, waiter: Waiter, now_seconds: float) -> bool:
        """Whether it is the request's turn at once; else it waits."""
        if waiter.is_background:
            self._background.setdefault(waiter.tenant, deque()).append(waiter)
            self.waiting += 1
            return self._start_background(only=waiter) is waiter
        tenant = self._tenants.get(waiter.tenant)
        if tenant is None:
            tenant = self._tenants[waiter.tenant] = _Tenant()
        tenant.seen_seconds = now_seconds
        if len(self._tenants) > 1:
            self._tenants.move_to_end(waiter.tenant)
            self._forget(now_seconds)
        if not self._queues and self._may_have_more(tenant) and self._fits(waiter.turns):
            self._start(waiter, tenant)
            return True
        tenant.waiting.append(waiter)
        self._queues[waiter.tenant] = None
        self.waiting += 1
        return self._start_next(only=waiter) is waiter

    def next(self) -> Waiter | None:
        """The next one whose turn it is; None where nobody's is."""
        if not self.waiting:
            return None
        return self._start_next() or self._start_background()

    def leave(self, waiter: Waiter) -> None:
        """It waits no longer."""
        if waiter.is_background:
            self._leave_background(waiter)
            return
        tenant = self._tenants[waiter.tenant]
        tenant.waiting.remove(waiter)
        self.waiting -= 1
        if not tenant.waiting:
            del self._queues[waiter.tenant]

    def end(self, waiter: Waiter, held_seconds: float, used: int | None = None) -> None:
        """Its turns are over; ``used``: the tokens that it took, None where that is not known."""
        if not waiter.is_background:
            tenant = self._tenants[waiter.tenant]
            tenant.turns -= waiter.turns
            if used is not None:
                tenant.ahead -= min(waiter.cost, MOST_COST) - min(used, MOST_COST)
        self.open -= waiter.turns
        self.unused = min(self.unused, self.open)
        self._hold_seconds += _SMOOTH * (held_seconds - self._hold_seconds)

    def waiting_of(self, name: str) -> int:
        """Requests of a tenant that wait."""
        tenant = self._tenants.get(name)
        return len(tenant.waiting) if tenant is not None else 0

    def wait_seconds(self, name: str) -> int:
        """How long a further request of the tenant would about wait, at least a second."""
        ahead = self.waiting_of(name) + 1
        share = max(1.0, self.limit / max(1, len(self._tenants)))
        return max(1, math.ceil(ahead * self._hold_seconds / share))

    def told(self, requests: int, waiting: int) -> None:
        """The engines have so many requests, of which so many wait there."""
        self.unused = max(0, self.open - requests)
        if waiting > max(1, requests // WAITING_PART):
            self.is_found = True
            running = (self.open - self.unused) * (requests - waiting) // requests
            self.limit = max(LEAST_LIMIT * self._engines, min(self.limit, running))
        elif self.waiting:
            more = self.limit // STEADY_PART if self.is_found else self.limit
            self.limit = min(MOST, self.limit + max(1, more))

    def untold(self) -> None:
        """The engines do not tell: nothing keeps anybody waiting."""
        self.limit = min(MOST, 2 * self.limit)

    def _start_next(self, only: Waiter | None = None) -> Waiter | None:
        """Start whoever is furthest behind of those whose tenants may have more; ``only``: none but this."""
        best: _Tenant | None = None
        for name in self._queues:
            tenant = self._tenants[name]
            if self._may_have_more(tenant) and (best is None or self._time_of(tenant) < self._time_of(best)):
                best = tenant
        if best is None:
            return None
        waiter = best.waiting[0]
        if (only is not None and waiter is not only) or not self._fits(waiter.turns):
            return None
        self.leave(waiter)
        self._start(waiter, best)
        return waiter

    def _start(self, waiter: Waiter, tenant: _Tenant) -> None:
        self._virtual = self._time_of(tenant)
        tenant.ahead = self._virtual + min(waiter.cost, MOST_COST)
        tenant.turns += waiter.turns
        self.open += waiter.turns

    def _start_background(self, only: Waiter | None = None) -> Waiter | None:
        """Start one of whoever has waited longest, where nobody else waits and enough is free."""
        if self._queues or not self._background:
            return None
        name = next(iter(self._background))
        waiter = self._background[name][0]
        used, most = self.open - self.unused, self.limit - self.limit // BACKGROUND_PART
        if (only is not None and waiter is not only) or (used and used + waiter.turns > most):
            return None
        self._leave_background(waiter)
        if name in self._background:
            self._background.move_to_end(name)
        self.open += waiter.turns
        return waiter

    def _leave_background(self, waiter: Waiter) -> None:
        line = self._background[waiter.tenant]
        line.remove(waiter)
        self.waiting -= 1
        if not line:
            del self._background[waiter.tenant]

    def _time_of(self, tenant: _Tenant) -> int:
        return max(tenant.ahead, self._virtual)

    def _fits(self, turns: int) -> bool:
        """Whoever asks for many waits until a part of the turns is free, and then has more than there are: if
        all had to end first, engines would have nothing to do meanwhile."""
        used = self.open - self.unused
        return not used or used + min(turns, max(1, self.limit // SPARE_PART)) <= self.limit

    def _may_have_more(self, tenant: _Tenant) -> bool:
        """A tenant with its share leaves some turns to those that have less."""
        active = len(self._tenants)
        if active < 2 or tenant.turns * active < self.limit:
            return True
        return self.open - self.unused < self.limit - self.limit // SPARE_PART

    def _forget(self, now_seconds: float) -> None:
        """Those who have nothing here, and have asked for nothing lately."""
        while self._tenants:
            name, tenant = next(iter(self._tenants.items()))
            if tenant.seen_seconds > now_seconds - LATELY_SECONDS:
                return
            if tenant.turns or tenant.waiting:
                tenant.seen_seconds = now_seconds
                self._tenants.move_to_end(name)
            else:
                del self._tenants[name]
