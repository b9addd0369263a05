"""When a replica that fails is left alone for a while."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half_open"]
"""Asked as ever; left alone; asked again after a pause, and left alone for longer at the next failure."""

FAILURES_TO_OPEN = 3
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 15.0


@dataclass
class Breaker:
    """Opens after some failures in a row; each further failure doubles the pause, one success closes it."""

    failures: int = 0
    open_until_seconds: float = 0.0

    def state(self, now_seconds: float) -> State:
        """What it does now."""
        if self.failures < FAILURES_TO_OPEN:
            return "closed"
        return "half_open" if self.allows(now_seconds) else "open"

    def allows(self, now_seconds: float) -> bool:
        return now_seconds >= self.open_until_seconds

    def failed(self, now_seconds: float) -> None:
        self.failures += 1
        over = self.failures - FAILURES_TO_OPEN
        if over >= 0:
            pause = min(FIRST_PAUSE_SECONDS * 2 ** min(over, 10), LONGEST_PAUSE_SECONDS)
            self.open_until_seconds = now_seconds + pause

    def rest(self, now_seconds: float) -> None:
        """Leave the replica alone for the longest time, whatever it answers."""
        self.failures = max(self.failures, FAILURES_TO_OPEN)
        self.open_until_seconds = now_seconds + LONGEST_PAUSE_SECONDS

    def succeeded(self) -> None:
        self.failures = 0
        self.open_until_seconds = 0.0
