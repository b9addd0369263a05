"""How much each key and tenant may have open at the same time, and which keys' requests have to end.

One key cannot take the gateway or a shared engine from the others, nor can a tenant that makes itself many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from common.clock import Clock
from common.errors import ComputilityError, TooManyRequests
from common.settings import GatewaySettings
from common.wire import RouteKey
from inference.core.usage import TokenCounts
from inference.gateway.control_link.routes import RouteFollower

CHECK_SECONDS = 0.5
RETRY_AFTER_SECONDS = 2


@dataclass
class KeyLoad:
    """What one key, or tenant, has open: requests, answers asked for (choices times prompts), bytes of bodies
    held, and bytes of answers that have come."""

    requests: int = 0
    sequences: int = 0
    body_bytes: int = 0
    answer_bytes: int = 0
    large_body: asyncio.Lock | None = None


@dataclass(frozen=True)
class Bounds:
    """What ``whose`` load may be at most."""

    whose: str
    requests: int
    sequences: int
    body_bytes: int

    @staticmethod
    def of(settings: GatewaySettings) -> tuple[Bounds, Bounds]:
        """A key's, and a tenant's."""
        return Bounds.of_key(settings), Bounds.of_tenant(settings)

    @staticmethod
    def of_key(settings: GatewaySettings) -> Bounds:
        return Bounds(
            "key",
            settings.max_requests_per_key,
            settings.max_sequences_per_key,
            settings.body_bytes_per_key,
        )

    @staticmethod
    def of_tenant(settings: GatewaySettings) -> Bounds:
        return Bounds(
            "tenant",
            settings.max_requests_per_tenant,
            settings.max_sequences_per_tenant,
            settings.body_bytes_per_tenant,
        )

    def check(self, load: KeyLoad, *, requests: int = 0, sequences: int = 0, body_bytes: int = 0) -> None:
        """Raise ``TooManyRequests`` unless so much more may be open."""
        if load.requests + requests > self.requests:
            raise _too_many(
                f"this {self.whose} has {self.requests} requests open, and no more are allowed at once"
            )
        if load.sequences + sequences > self.sequences:
            raise _too_many(
                f"the open requests of this {self.whose} ask for more than {self.sequences} answers at once"
            )
        if load.body_bytes + body_bytes > self.body_bytes:
            limit = self.body_bytes
            raise _too_many(
                f"the bodies of this {self.whose}'s open requests have more than {limit} bytes together"
            )


class Ticket:
    """One open request of a key. What it holds is given back when it ends."""

    def __init__(
        self,
        key: RouteKey,
        load: KeyLoad,
        settings: GatewaySettings,
        tenant: KeyLoad | None = None,
        bounds: tuple[Bounds, Bounds] | None = None,
    ) -> None:
        of_key, of_tenant = bounds or Bounds.of(settings)
        self.key = key
        self.end: Callable[[ComputilityError], None] | None = None
        """Ends the request before its time; set while it has an engine."""
        self.release: Callable[[int], None] | None = None
        """Told once, at the end, how many tokens are billed; set where limits bind the request."""
        self.settle: Callable[[TokenCounts], None] | None = None
        """The same of tokens by kind; set where budgets do."""
        self.places: tuple[str, ...] = ()
        """What its request is of, besides its key: nothing of it may be paused."""
        self.counts = TokenCounts()
        """What is billed of it."""
        self._load = load
        self._bounded = [(load, of_key)]
        if tenant is not None:
            self._bounded.append((tenant, of_tenant))
        self._answers, self._most_answer_bytes = tenant or load, settings.answer_bytes_per_tenant
        self._sequences = 0
        self._body_bytes = 0
        self._answer_bytes = 0

    def open(self) -> None:
        """Count the request. Raises ``TooManyRequests`` when the key, or its tenant, has too many."""
        for load, bounds in self._bounded:
            bounds.check(load, requests=1)
        for load, _ in self._bounded:
            load.requests += 1

    def take_bytes(self, size: int) -> None:
        """Hold so many bytes more. Raises ``TooManyRequests`` when the bodies hold too many."""
        for load, bounds in self._bounded:
            bounds.check(load, body_bytes=size)
        for load, _ in self._bounded:
            load.body_bytes += size
        self._body_bytes += size

    @property
    def body_bytes(self) -> int:
        """What is held of the body."""
        return self._body_bytes

    def drop_bytes(self) -> None:
        """The body is not held any more, or counts elsewhere."""
        for load, _ in self._bounded:
            load.body_bytes -= self._body_bytes
        self._body_bytes = 0

    def take_sequences(self, count: int) -> None:
        """Count the answers asked for. Raises ``TooManyRequests`` when too many are open."""
        for load, bounds in self._bounded:
            bounds.check(load, sequences=count)
        for load, _ in self._bounded:
            load.sequences += count
        self._sequences += count

    def take_answer(self, size: int) -> bool:
        """Hold so many bytes more of an answer; False when the answers of all keys of the tenant that are on
        their way hold too many."""
        if self._answers.answer_bytes + size > self._most_answer_bytes:
            return False
        self._answers.answer_bytes += size
        self._answer_bytes += size
        return True

    def take_record(self, size: int) -> bool:
        """Hold so many bytes more of a stream, in case that another engine has to go on with it. Records take
        no more than half of the room for answers, so that those in one piece find some."""
        return self._answers.answer_bytes + size <= self._most_answer_bytes // 2 and self.take_answer(size)

    def drop_record(self, size: int) -> None:
        """So many bytes of a stream are not kept any more."""
        self._answers.answer_bytes -= size
        self._answer_bytes -= size

    def drop_answer(self) -> None:
        """Nothing is kept of an answer any more."""
        self._answers.answer_bytes -= self._answer_bytes
        self._answer_bytes = 0

    def turn(self) -> asyncio.Lock:
        """Held while a large body of the key is read and parsed: one at a time."""
        if self._load.large_body is None:
            self._load.large_body = asyncio.Lock()
        return self._load.large_body

    @property
    def tokens(self) -> int:
        """That are billed of it."""
        return self.counts.prompt + self.counts.completion

    def spent(self, counts: TokenCounts) -> None:
        """So many tokens are billed of it."""
        self.counts = counts

    def give_back(self, counts: TokenCounts) -> None:
        """What is held of budgets, of which so much is billed."""
        settle, self.settle = self.settle, None
        if settle is not None:
            settle(counts)

    def close(self) -> None:
        """Give back all that is held, whatever becomes of a part."""
        if self.settle is None and self.release is None:
            self._uncount()
            return
        with ExitStack() as last_first:
            last_first.callback(self._uncount)
            last_first.callback(self.give_back, self.counts)
            if self.release is not None:
                last_first.callback(self.release, self.tokens)

    def _uncount(self) -> None:
        self.drop_bytes()
        self.drop_answer()
        for load, _ in self._bounded:
            load.requests -= 1
            load.sequences -= self._sequences


class Admission:
    """All open requests of this gateway."""

    def __init__(self, settings: GatewaySettings, routes: RouteFollower, clock: Clock) -> None:
        self._settings = settings
        self._routes = routes
        self._clock = clock
        self._loads: dict[str, KeyLoad] = {}
        self._tenants: dict[str, KeyLoad] = {}
        self._open: set[Ticket] = set()
        self._bounds = Bounds.of(settings)

    def request(self, key: RouteKey) -> _Opened:
        """Counts a request as open while entered. Raises ``TooManyRequests`` when its key or tenant has too
        many."""
        load = self._loads.get(key.digest) or KeyLoad()
        tenant = self._tenants.get(key.tenant) or KeyLoad() if key.tenant is not None else None
        ticket = Ticket(key, load, self._settings, tenant, self._bounds)
        ticket.open()
        self._loads[key.digest] = load
        if tenant is not None and key.tenant is not None:
            self._tenants[key.tenant] = tenant
        self._open.add(ticket)
        return _Opened(self, ticket, load, tenant)

    def close(self, ticket: Ticket, load: KeyLoad, tenant: KeyLoad | None) -> None:
        """The request has ended."""
        key = ticket.key
        self._open.discard(ticket)
        try:
            ticket.close()
        finally:
            if not load.requests:
                self._loads.pop(key.digest, None)
            if tenant is not None and not tenant.requests:
                self._tenants.pop(key.tenant or "", None)

    async def watch_keys(self) -> None:
        """End what belongs to keys that have been revoked or have expired, or to what is paused, soon after.
        Until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.end_what_may_not_go_on()

    def end_what_may_not_go_on(self) -> None:
        """Look once at the keys of all open requests."""
        index, now_ms = self._routes.index, self._clock.now_ms()
        for ticket in list(self._open):
            error = index.refusal(ticket.key.digest, now_ms) or index.pause(*ticket.places)
            if error is not None and ticket.end is not None:
                ticket.end(error)


class _Opened:
    """A request that is open until the block ends."""

    __slots__ = ("_admission", "_load", "_tenant", "_ticket")

    def __init__(self, admission: Admission, ticket: Ticket, load: KeyLoad, tenant: KeyLoad | None) -> None:
        self._admission, self._ticket, self._load, self._tenant = admission, ticket, load, tenant

    def __enter__(self) -> Ticket:
        return self._ticket

    def __exit__(self, *_: object) -> None:
        self._admission.close(self._ticket, self._load, self._tenant)


def _too_many(why: str) -> TooManyRequests:
    return TooManyRequests(f"{why}; wait until some have ended", retry_after_seconds=RETRY_AFTER_SECONDS)
