"""How much each key may have open at the same time, and which keys' requests have to end.

The limits are by key, so that one tenant's key cannot take the gateway or a shared engine from the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from common.clock import Clock
from common.errors import ComputilityError, TooManyRequests
from common.settings import GatewaySettings
from common.wire import RouteKey
from inference.gateway.routes import RouteFollower

CHECK_SECONDS = 0.5
RETRY_AFTER_SECONDS = 2


@dataclass
class KeyLoad:
    """What one key has open: requests, answers asked for (choices times prompts), bytes of bodies held."""

    requests: int = 0
    sequences: int = 0
    body_bytes: int = 0
    large_body: asyncio.Lock | None = None


class Ticket:
    """One open request of a key. What it holds is given back when it ends."""

    def __init__(self, key: RouteKey, load: KeyLoad, settings: GatewaySettings) -> None:
        self.key = key
        self.end: Callable[[ComputilityError], None] | None = None
        """Ends the request before its time; set while it has an engine."""
        self._load = load
        self._settings = settings
        self._sequences = 0
        self._body_bytes = 0

    def take_bytes(self, size: int) -> None:
        """Hold so many bytes more. Raises ``TooManyRequests`` when the key's bodies hold too many."""
        limit = self._settings.body_bytes_per_key
        if self._load.body_bytes + size > limit:
            raise _too_many(f"the bodies of this key's open requests have more than {limit} bytes together")
        self._load.body_bytes += size
        self._body_bytes += size

    def drop_bytes(self) -> None:
        """The body is not needed any more."""
        self._load.body_bytes -= self._body_bytes
        self._body_bytes = 0

    def take_sequences(self, count: int) -> None:
        """Count the answers asked for. Raises ``TooManyRequests`` when the key has too many open."""
        limit = self._settings.max_sequences_per_key
        if self._load.sequences + count > limit:
            raise _too_many(f"the open requests of this key ask for more than {limit} answers at once")
        self._load.sequences += count
        self._sequences += count

    def turn(self) -> asyncio.Lock:
        """Held while a large body of the key is read and parsed: one at a time."""
        if self._load.large_body is None:
            self._load.large_body = asyncio.Lock()
        return self._load.large_body

    def close(self) -> None:
        self.drop_bytes()
        self._load.requests -= 1
        self._load.sequences -= self._sequences


class Admission:
    """All open requests of this gateway."""

    def __init__(self, settings: GatewaySettings, routes: RouteFollower, clock: Clock) -> None:
        self._settings = settings
        self._routes = routes
        self._clock = clock
        self._loads: dict[str, KeyLoad] = {}
        self._open: set[Ticket] = set()

    @contextmanager
    def request(self, key: RouteKey) -> Iterator[Ticket]:
        """Count a request as open. Raises ``TooManyRequests`` when the key has too many."""
        load = self._loads.setdefault(key.digest, KeyLoad())
        if load.requests >= self._settings.max_requests_per_key:
            limit = self._settings.max_requests_per_key
            raise _too_many(f"this key has {limit} requests open, and no more are allowed at once")
        load.requests += 1
        ticket = Ticket(key, load, self._settings)
        self._open.add(ticket)
        try:
            yield ticket
        finally:
            self._open.discard(ticket)
            ticket.close()
            if not load.requests:
                self._loads.pop(key.digest, None)

    async def watch_keys(self) -> None:
        """End what belongs to keys that have been revoked or have expired, soon after. Until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.end_what_may_not_go_on()

    def end_what_may_not_go_on(self) -> None:
        """Look once at the keys of all open requests."""
        index, now_ms = self._routes.index, self._clock.now_ms()
        for ticket in list(self._open):
            error = index.refusal(ticket.key.digest, now_ms)
            if error is not None and ticket.end is not None:
                ticket.end(error)


def _too_many(why: str) -> TooManyRequests:
    return TooManyRequests(f"{why}; wait until some have ended", retry_after_seconds=RETRY_AFTER_SECONDS)
