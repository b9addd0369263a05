"""When a fleet is changed: only for what pays, for long enough, and not too often.

**It never flaps.** Two rules bound the changes, whatever is told. After a change nothing is changed for a
while that doubles with every change of the last hour, so an hour has ``most_in_an_hour`` changes at most. And
a change is made only to what was better than the present by ``margin`` at every look for ``hold_seconds``:
while what each fleet is worth stays within half the margin of a constant, each change leads to a fleet that
is truly better, so none is ever returned to, and there are fewer changes than fleets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from inference.core.mode.fleet import Fleet

HOUR_SECONDS = 3600.0


@dataclass(frozen=True)
class Rules:
    """``margin``: by how much of worth something has to be better. ``hold_seconds``: for how long. The two
    cool-downs are after a change of roles, and after one that starts engines. ``start_seconds``: until a new
    engine answers. ``horizon_seconds``: within which what a change costs has to be gained."""

    margin: float = 0.05
    hold_seconds: float = 30.0
    roles_cooldown_seconds: float = 60.0
    engines_cooldown_seconds: float = 600.0
    start_seconds: float = 120.0
    horizon_seconds: float = 1800.0

    @property
    def most_in_an_hour(self) -> int:
        """Changes that any hour has at most: the cool-downs between them double, and all lie within it."""
        return 1 + int(math.log2(HOUR_SECONDS / self.roles_cooldown_seconds + 1))


@dataclass(frozen=True)
class Assessed:
    """A fleet and what it is worth: more is better, 0 is nothing, 1 is every request within its limits."""

    fleet: Fleet
    worth: float
    words: str = ""

    @property
    def parts(self) -> int:
        """Fewer are preferred among equals."""
        return int(self.fleet.readers > 0)


@dataclass(frozen=True)
class Standing:
    """What has to be kept between two looks. ``beaten_since``: since when something better has been there at
    every look. ``changes``: times of the changes of the last hour, and whether they started engines."""

    beaten_since: float | None = None
    changes: tuple[tuple[float, bool], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """``taken``: what to change to; None = keep what is there. ``reasons``: in words and figures."""

    taken: Fleet | None
    standing: Standing
    reasons: tuple[str, ...]


def decide_mode(
    present: Assessed, others: Sequence[Assessed], standing: Standing, rules: Rules, now_seconds: float
) -> Verdict:
    """Whether to go over from what is there to one of the others."""
    recent = tuple(one for one in standing.changes if now_seconds - HOUR_SECONDS < one[0] <= now_seconds)
    standing = replace(standing, changes=recent)
    usable = [one for one in others if math.isfinite(one.worth) and one.fleet != present.fleet]
    best = _best(present, usable, rules)
    if best is None:
        return Verdict(None, replace(standing, beaten_since=None), _kept(present, usable, rules))
    since = standing.beaten_since if standing.beaten_since is not None else now_seconds
    since = min(since, now_seconds)
    waiting = replace(standing, beaten_since=since)
    better = f"{best.fleet.words} is better: {_compared(best, present)}"
    held = now_seconds - since
    if held < rules.hold_seconds:
        why = f"it has been for {held:.0f} s, and has to be for {rules.hold_seconds:.0f} s"
        return Verdict(None, waiting, (better, why))
    rest = _rest_seconds(recent, rules, now_seconds)
    if rest > 0:
        why = f"{len(recent)} changes in the last hour: nothing is changed for another {rest:.0f} s"
        return Verdict(None, waiting, (better, why))
    starts = best.fleet.restarts(present.fleet)
    changed = Standing(None, (*recent, (now_seconds, starts > 0)))
    what = f"{starts} engines are started" if starts else "no engine is started, roles change"
    return Verdict(best.fleet, changed, (f"{best.fleet.words}: {_compared(best, present)}", what))


def _best(present: Assessed, others: Sequence[Assessed], rules: Rules) -> Assessed | None:
    """The best of those that pay; of nearly equal ones that with the fewest parts. None = none pays."""
    paying = [one for one in others if _pays(one, present, rules)]
    if not paying:
        return None
    top = max(one.worth for one in paying)
    enough = [one for one in paying if top - one.worth <= rules.margin / 2]
    return min(enough, key=lambda one: (one.parts, -one.worth))


def _pays(other: Assessed, present: Assessed, rules: Rules) -> bool:
    """Better by the margin, and what is lost while engines start is gained within the horizon."""
    gain = other.worth - present.worth
    if not gain > rules.margin:
        return False
    starts = other.fleet.restarts(present.fleet)
    lost = rules.start_seconds * min(1.0, starts / max(1, present.fleet.engines))
    return gain * rules.horizon_seconds > lost * max(0.0, present.worth)


def _rest_seconds(recent: Sequence[tuple[float, bool]], rules: Rules, now_seconds: float) -> float:
    """Until the next change is allowed."""
    if not recent:
        return 0.0
    last, started = recent[-1]
    first = rules.engines_cooldown_seconds if started else rules.roles_cooldown_seconds
    return last + first * float(2 ** (len(recent) - 1)) - now_seconds


def _compared(one: Assessed, other: Assessed) -> str:
    return f"{one.words or f'{one.worth:.3g}'} against {other.words or f'{other.worth:.3g}'} now"


def _kept(present: Assessed, others: Sequence[Assessed], rules: Rules) -> tuple[str, ...]:
    reasons = [f"{present.fleet.words} stays: {present.words or f'{present.worth:.3g}'}"]
    if others:
        best = max(others, key=lambda one: one.worth)
        reasons.append(
            f"the best other, {best.fleet.words}, has {best.words or f'{best.worth:.3g}'}; a change has to "
            f"be better by {100 * rules.margin:.0f} % of requests"
        )
    return tuple(reasons)
