"""When an Endpoint of mode ``auto`` is looked at anew: where there is something new, and not too often."""

from __future__ import annotations

import math
from dataclasses import dataclass

from inference.core.mode.decide import Standing
from inference.core.mode.fleet import Fleet
from inference.core.mode.pilot import ENOUGH_SECONDS, FEWEST_REQUESTS
from inference.core.mode.traffic import Profile

LOOK_SECONDS = 5.0
"""Between two looks where a change is being held, or where less than a minute has been seen."""
LEAST_SECONDS = 15.0
"""Between two looks at what one Endpoint has served, where nothing waits."""
AGAIN_SECONDS = 120.0
"""After which it is looked at all the same."""
MOVED = 1.1
"""A profile that has changed by less since the last look says the same."""


@dataclass
class Pace:
    """What was seen at the last look, and when; when it was last asked whether to look; and since when there
    has been enough to conclude from."""

    fleet: Fleet | None = None
    profile: Profile | None = None
    looked_seconds: float = -math.inf
    checked_seconds: float = -math.inf
    since_seconds: float = math.inf

    def rests(self, now_seconds: float, standing: Standing) -> bool:
        """Whether it is too early to look, whatever there is to see."""
        least = LOOK_SECONDS if standing.contenders or self._is_new(now_seconds) else LEAST_SECONDS
        return 0 <= now_seconds - self.checked_seconds < least

    def looks(self, now_seconds: float, fleet: Fleet, profile: Profile | None, standing: Standing) -> bool:
        """Whether there is something new to see: other engines, other traffic, more of what is new, a change
        that is being held, or what becomes of a load that is not kept up with, which the same profile says
        nothing of. If so, it counts as seen."""
        self.checked_seconds = now_seconds
        if profile is None:
            return False
        fresh = self.fleet == fleet and now_seconds - self.looked_seconds < AGAIN_SECONDS
        moved = self.profile is None or profile.moved_from(self.profile) >= MOVED
        unsettled = standing.contenders or standing.suffers
        if fresh and not (unsettled or moved or self._is_new(now_seconds)):
            return False
        if profile.requests >= FEWEST_REQUESTS:
            self.since_seconds = min(self.since_seconds, now_seconds)
        self.fleet, self.profile, self.looked_seconds = fleet, profile, now_seconds
        return True

    def _is_new(self, now_seconds: float) -> bool:
        """Whether less than a minute has been seen: what a queue makes of it may show later."""
        return now_seconds - self.since_seconds < ENOUGH_SECONDS
