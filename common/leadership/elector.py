"""The loop that looks at the lease, takes it, and holds it."""

from __future__ import annotations

import asyncio

from prometheus_client import Counter, Gauge

from common.clock import SYSTEM_CLOCK, Clock
from common.errors import ComputilityError
from common.leadership.port import EpochFence, LeasePort
from common.leadership.rules import Candidate, Lease, Reason, Sight
from common.telemetry import get_logger

BEATS = 4
"""So often a lease is renewed in its time."""
LOOKS = 8
"""So often it is looked at by others in its time."""
LEADS = Gauge("computility_control_leads", "Whether this process leads: 1, or 0 where another does or nobody")
EPOCH = Gauge("computility_control_lease_epoch", "Epoch of the lease as this process saw it last")
TAKEOVERS = Counter("computility_control_takeovers", "Times that this process took the lease", ("reason",))
_log = get_logger(__name__)


class Elector:
    """``lease`` is the lease as it was seen last. ``elected`` is set when this process leads, and stays set;
    ``lost`` when another one has the lease after that: this process must end then. ``moved`` is set, and
    another event takes its place, when the lease is seen to have been taken. Until it leads the fence
    lets no write through, and never again after it has lost.

    ``is_sole``: nobody else can be there (something else sees to that), so that the lease is taken at once
    and never renewed.

    ``hold_seconds`` (shorter than the lease): who has not renewed it for so long by its own clock has lost,
    whoever has it. For those whose writes nothing fences; None = a fence sees to it.
    """

    def __init__(
        self,
        kept: LeasePort,
        fence: EpochFence,
        me: Candidate,
        lease_seconds: float,
        *,
        is_sole: bool = False,
        hold_seconds: float | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.lease = Lease()
        self.elected, self.lost, self.moved = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._kept, self._fence, self._me, self._is_sole, self._clock = kept, fence, me, is_sole, clock
        self._look_seconds, self._beat_seconds = lease_seconds / LOOKS, lease_seconds / BEATS
        self._answer_seconds = lease_seconds / 2
        self._sight = Sight(me, lease_seconds, self._look_seconds)
        self._trouble = ""
        self._hold_seconds = hold_seconds if hold_seconds is not None else float("inf")
        self._held_seconds = clock.monotonic_seconds()
        fence.lost = self.lose

    @property
    def leads(self) -> bool:
        """Whether this process leads, as far as it knows."""
        return self.elected.is_set() and not self.lost.is_set()

    @property
    def may_write(self) -> bool:
        """Whether it leads, and has renewed the lease lately enough that nobody else can have taken it."""
        return self.leads and self._left_seconds > 0

    @property
    def _left_seconds(self) -> float:
        return self._held_seconds + self._hold_seconds - self._clock.monotonic_seconds()

    @property
    def leader_url(self) -> str:
        """Where the leader is reached; empty where there is none, or it cannot be known now."""
        return "" if self._trouble and not self.leads else self.lease.url

    async def run(self) -> None:
        """Look and hold until cancelled or lost."""
        while not self.lost.is_set():
            await self.step()
            if self.leads and self._is_sole:
                return
            await asyncio.sleep(
                min(self._beat_seconds, max(0.0, self._left_seconds)) if self.leads else self._look_seconds
            )

    async def step(self) -> None:
        """Once. A database that does not answer changes nothing about who leads."""
        if self._has_slept():
            return
        try:
            patience = min(self._answer_seconds, self._left_seconds) if self.leads else self._answer_seconds
            async with asyncio.timeout(patience):
                await (self._renew() if self.leads else self._look())
            self._trouble = ""
        except Exception as error:  # noqa: BLE001 - the loop's boundary: who leads must not end with one look
            self._sight.miss()
            self._say(str(error) or "it takes too long")
        self._has_slept()

    def _has_slept(self) -> bool:
        """Whether it led, and has lost because it renewed the lease too long ago."""
        if not self.leads or self._left_seconds > 0:
            return False
        self.lose("the lease was not renewed in time: another process may have it")
        return True

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            _log.warning("the lease cannot be read or renewed", error=trouble)
        self._trouble = trouble

    async def _look(self) -> None:
        asked_seconds = self._clock.monotonic_seconds()
        lease = await self._kept.read()
        reason = self._sight.see(lease, asked_seconds, self._clock.monotonic_seconds())
        self._note(lease)
        if self._is_sole or reason is not None:
            await self._take(lease, "sole" if self._is_sole else reason or "free")

    async def _take(self, seen: Lease, reason: Reason) -> None:
        # No time counts here. But nodes keep epochs, and are to obey who begins with a new database.
        self._held_seconds = self._clock.monotonic_seconds()
        taken = await self._kept.take(seen, self._me, self._clock.now_ms())
        if taken is None:
            return
        self._note(taken)
        self._fence.epoch = taken.epoch
        LEADS.set(1)
        TAKEOVERS.labels(reason).inc()
        self.elected.set()
        _log.info("this process leads", epoch=taken.epoch, reason=reason, before=seen.holder)

    async def _renew(self) -> None:
        asked_seconds = self._clock.monotonic_seconds()
        renewed = await self._kept.renew(self.lease)
        if renewed is None:
            self.lose()
            return
        if renewed.beat != self.lease.beat:
            self._held_seconds = asked_seconds
        self._note(renewed)

    def lose(self, reason: str = "another process has taken the lease") -> None:
        """Another one has the lease, or may have it: write nothing any more."""
        self._fence.epoch = 0
        LEADS.set(0)
        if self.leads:
            _log.error(reason, epoch=self.lease.epoch)
        self.lost.set()

    async def resign(self) -> None:
        """Give the lease back, where it is ours, as the process ends: nothing is written after that."""
        self._fence.epoch = 0
        if not self.leads:
            return
        LEADS.set(0)
        self.lost.set()
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._kept.release(self.lease)
        except (ComputilityError, TimeoutError) as error:
            _log.warning("the lease is not given back, and will expire", error=str(error))

    def _note(self, lease: Lease) -> None:
        if lease.epoch != self.lease.epoch:
            self.moved.set()
            self.moved = asyncio.Event()
        self.lease = lease
        EPOCH.set(lease.epoch)
