"""How many engines a role should have: up at once, down late, to zero when nobody asks.

Target tracking as the horizontal autoscaler of Kubernetes has it: the most that any sign asks for, with a
tolerance, and down only to the most that was asked for within a window. Times are monotonic seconds.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from inference.core.autoscaling.signals import RoleLoad, Signal, Targets, counted, signals_of

TOLERANCE = 0.1
"""So much more than the engines' target is no reason for another one."""
STEP_UP = 4
"""At most so many engines in all at once, or twice as many as there are."""
UP_REST_SECONDS = 15.0
"""Between two steps up."""
SURE_LOOKS = 2
"""A sign of load has to be there in so many looks: what one look sees is chance."""
GAP_SECONDS = 60.0
"""Longer without a look: what was seen before says nothing about the time between."""


@dataclass(frozen=True, slots=True)
class Rule:
    """``least`` and ``most`` engines as of now. Fewer only after ``down_after_seconds`` of less load and
    ``cool_down_seconds`` after the last change; none after ``zero_after_seconds`` without a request, where
    ``least`` is 0. ``floor_reason`` says where ``least`` comes from."""

    targets: Targets = field(default_factory=Targets)
    least: int = 1
    most: int = 4
    down_after_seconds: float = 300.0
    cool_down_seconds: float = 60.0
    zero_after_seconds: float = 900.0
    floor_reason: str = "Minimum"


@dataclass(frozen=True, slots=True)
class Decision:
    """So many engines are wanted now. ``reason`` is a word, ``message`` says it with figures; ``asked`` is
    how many load asks for, before limits, windows and steps."""

    wanted: int
    reason: str
    message: str
    asked: int


class RoleScaler:
    """Remembers what was asked for lately. ``wanted`` is what is in force."""

    def __init__(self, wanted: int, now_seconds: float) -> None:
        self.wanted = wanted
        self._changed_seconds = self._raised_seconds = -math.inf
        self._asked: deque[tuple[float, int]] = deque()
        self._last_asked: deque[int] = deque(maxlen=SURE_LOOKS)
        self._begin(now_seconds)

    def _begin(self, now_seconds: float) -> None:
        """Nothing is known of the time before."""
        self._now_seconds = self._since_seconds = self._active_seconds = now_seconds
        self._asked.clear()
        self._last_asked.clear()

    @property
    def active_seconds(self) -> float:
        """When something was asked last, of this role or another, as far as that is known."""
        return self._active_seconds

    def look(self, load: RoleLoad, rule: Rule, now_seconds: float, *, may_sleep: bool = True) -> Decision:
        """Take in what is seen now, and decide. ``may_sleep``: the other roles have nothing to do either."""
        if not 0 <= now_seconds - self._now_seconds <= GAP_SECONDS:
            self._begin(now_seconds)
        self._now_seconds = now_seconds
        if load.is_active or load.held or not load.is_known or not may_sleep:
            self._active_seconds = now_seconds
        signals = signals_of(load, rule.targets)
        decision = self._decide(load, rule, signals, self._ask(load, rule, signals), may_sleep)
        if decision.wanted != self.wanted:
            self._changed_seconds = now_seconds
            if decision.wanted > self.wanted:
                self._raised_seconds = now_seconds
            self.wanted = decision.wanted
        return decision

    def _ask(self, load: RoleLoad, rule: Rule, signals: list[Signal]) -> int:
        """How many load asks for, noted for as long as it counts."""
        needed = signals[0].replicas
        asked = math.ceil(needed - 1e-9)
        if self.wanted < asked and needed <= self.wanted * (1 + TOLERANCE):
            asked = self.wanted
        if not load.is_known or (self.wanted and not load.ready):
            asked = max(asked, self.wanted)  # what is not seen may be at work, or is only starting
        while self._asked and self._asked[-1][1] <= asked:
            self._asked.pop()
        self._asked.append((self._now_seconds, asked))
        while len(self._asked) > 1 and self._asked[0][0] <= self._now_seconds - rule.down_after_seconds:
            self._asked.popleft()
        self._last_asked.append(asked)
        return asked

    def _decide(
        self, load: RoleLoad, rule: Rule, signals: list[Signal], asked: int, may_sleep: bool
    ) -> Decision:
        now, current = self._now_seconds, self.wanted
        idle_seconds = now - self._active_seconds
        if load.held and not current and rule.most:
            woken = max(self._step(max(asked, 1), rule), rule.least)
            return Decision(woken, "Woken", f"{signals[0].text}; no engine was wanted", asked)
        may_sleep = may_sleep and not rule.least and not load.held
        if current and may_sleep and idle_seconds >= rule.zero_after_seconds:
            text = f"nothing was asked for {idle_seconds:.0f} s, of {rule.zero_after_seconds:g} s"
            return Decision(0, "Idle", text, asked)
        if current < rule.least:
            text = f"not below {rule.least}; load asks for {asked}"
            return Decision(rule.least, rule.floor_reason, text, asked)
        if current > rule.most:
            return Decision(rule.most, "Maximum", f"not above {rule.most}; load asks for {asked}", asked)
        sure = min(self._last_asked) if len(self._last_asked) == SURE_LOOKS or load.held else current
        if current and sure > current:
            return self._raise(rule, signals[0], sure, asked)
        return self._lower(rule, signals[0], asked)

    def _step(self, asked: int, rule: Rule) -> int:
        return min(asked, rule.most, max(STEP_UP, 2 * self.wanted))

    def _raise(self, rule: Rule, signal: Signal, sure: int, asked: int) -> Decision:
        wanted = self._step(sure, rule)
        if wanted <= self.wanted:
            text = f"{signal.text}: {counted(asked, 'engine')}, but {rule.most} are the most"
            return Decision(self.wanted, "Maximum", text, asked)
        if self._now_seconds - self._raised_seconds < UP_REST_SECONDS:
            text = f"{signal.text}: {counted(asked, 'engine')}, after those that were just added"
            return Decision(self.wanted, "Settling", text, asked)
        return Decision(wanted, signal.name, f"{signal.text}: {counted(asked, 'engine')}", asked)

    def _lower(self, rule: Rule, signal: Signal, asked: int) -> Decision:
        """One that is not needed any more goes, half of them at most; the last one only when nobody asks."""
        current, now = self.wanted, self._now_seconds
        most_lately = max(count for _, count in self._asked)
        wanted = max(most_lately, rule.least, min(current, 1), current - max(1, current // 2))
        if wanted >= current:
            return Decision(
                current, "Steady", f"{signal.text}: {asked} of {counted(current, 'engine')}", asked
            )
        rested = now - self._changed_seconds >= rule.cool_down_seconds
        if now - self._since_seconds < rule.down_after_seconds or not rested:
            text = f"{signal.text}: {asked} of {counted(current, 'engine')}, if that lasts"
            return Decision(current, "CoolingDown", text, asked)
        text = f"{signal.text}: {counted(most_lately, 'engine')} at most for {rule.down_after_seconds:g} s"
        return Decision(wanted, "LessLoad", text, asked)
