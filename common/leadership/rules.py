"""Who may take the lease, as a rule without clock or database: see docs/design/high-availability.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal["sole", "free", "restarted", "own", "expired"]
"""Why the lease may be taken. ``sole``: no other process can be there. ``free``: its holder gave it back.
``restarted``: its holder was at the address that is ours now. ``own``: it is ours, but the answer got lost.
``expired``: its holder has not renewed it for too long."""
LOST_LOOKS = 3.0
"""Who has not looked for so many of its pauses was away itself, and has seen nothing."""


@dataclass(frozen=True)
class Lease:
    """What is stored. ``epoch`` grows each time it is taken, ``beat`` each time it is renewed. ``holder`` is
    one run of a process (empty = nobody), ``url`` where it is reached."""

    epoch: int = 0
    holder: str = ""
    url: str = ""
    beat: int = 0


@dataclass(frozen=True)
class Candidate:
    """A process that may lead. ``place`` is its host and port, ``run`` tells this run from others there."""

    place: str
    run: str
    url: str

    @property
    def holder(self) -> str:
        """As the lease names it."""
        return f"{self.place}/{self.run}"


class Sight:
    """What one who does not lead has seen of the lease, on its own clock; no clock of another counts.

    ``lease_seconds``: how long the same beat has to be seen before the lease may be taken. ``look_seconds``:
    how often it is looked at.
    """

    def __init__(self, me: Candidate, lease_seconds: float, look_seconds: float) -> None:
        self._me = me
        self._lease_seconds = lease_seconds
        self._longest_gap_seconds = LOST_LOOKS * look_seconds
        self._seen: tuple[int, int] | None = None
        self._since_seconds = self._looked_seconds = 0.0
        self._is_first = True

    def see(self, lease: Lease, asked_seconds: float, answered_seconds: float) -> Reason | None:
        """Why the lease may be taken now; None while it may not. It was read at some time between the two, so
        a slow answer is no proof of silence."""
        is_first, self._is_first = self._is_first, False
        if not lease.holder:
            return "free"
        if lease.holder == self._me.holder:
            return "own"
        if is_first and lease.holder.rpartition("/")[0] == self._me.place:
            return "restarted"
        was_away = asked_seconds - self._looked_seconds > self._longest_gap_seconds
        self._looked_seconds = answered_seconds
        if self._seen != (lease.epoch, lease.beat) or was_away:
            self._seen, self._since_seconds = (lease.epoch, lease.beat), answered_seconds
        return "expired" if asked_seconds - self._since_seconds >= self._lease_seconds else None

    def miss(self) -> None:
        """The lease could not be read: perhaps its holder could not renew it for the same reason."""
        self._seen = None
