"""When a fleet is changed: only for what pays, for long enough, and not too often.

**It never flaps.** Two rules bound the changes, whatever is told. After a change nothing is changed for a
while that doubles with every change of the last hour, unless much is to be gained, and an hour has
``most_in_an_hour`` changes at most. And a change is made only to what was itself better than the present by
``margin`` at every look for ``hold_seconds``, or, where no engine is started, for a part of it: by much more,
or because it keeps a target that is missed. While what each fleet is worth stays within half the margin of a
constant, each change leads to a fleet that is truly better, so none is ever returned to, and there are fewer
changes than fleets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from inference.core.mode.fleet import Fleet

HOUR_SECONDS = 3600.0
MOST_LATELY = 3
"""Fleets that are remembered for having been better."""


@dataclass(frozen=True)
class Rules:
    """``margin``: by how much of worth something has to be better. ``hold_seconds``: for how long, or until
    as much is forgone over the margin as the margin is in that time, but at two looks at least; for
    ``rescue_seconds`` where what is there misses its target and the other one, which starts no engine, keeps
    it. The two cool-downs are after a change of roles, and after one that starts engines; they double with
    each change of the last hour, but not for roles by which more than ``much`` is gained. ``start_seconds``:
    until a new engine answers. ``horizon_seconds``: within which what a change costs has to be gained."""

    margin: float = 0.05
    hold_seconds: float = 30.0
    rescue_seconds: float = 10.0
    roles_cooldown_seconds: float = 60.0
    engines_cooldown_seconds: float = 600.0
    start_seconds: float = 120.0
    horizon_seconds: float = 1800.0
    much: float = 0.2

    @property
    def most_in_an_hour(self) -> int:
        """Changes that any hour has at most: the cool-downs between them double, and all lie within it."""
        return 1 + int(math.log2(HOUR_SECONDS / self.roles_cooldown_seconds + 1))


@dataclass(frozen=True)
class Assessed:
    """A fleet and what it is worth: more is better, 0 is nothing, 1 is every request within its limits.
    ``keeps``: what it should."""

    fleet: Fleet
    worth: float
    words: str = ""
    keeps: bool = True

    @property
    def parts(self) -> int:
        """Fewer are preferred among equals."""
        return int(self.fleet.readers > 0)


@dataclass(frozen=True)
class Contender:
    """A fleet that has been better than the present at every look since ``since``, or was lately. ``looked``,
    ``gain``: when the last look was, and by how much it was better. ``lost``: what was forgone over the
    margin, in all seconds, less the margin of the seconds in which nothing was."""

    fleet: Fleet
    since: float
    looked: float
    gain: float
    lost: float = 0.0


@dataclass(frozen=True)
class Standing:
    """What has to be kept between two looks. ``contenders``: what a change is being held for. ``changes``:
    times of the changes of the last hour, and whether they started engines. ``suffers``: what is there did
    not keep its target."""

    contenders: tuple[Contender, ...] = ()
    changes: tuple[tuple[float, bool], ...] = ()
    suffers: bool = False


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
    usable = [one for one in others if math.isfinite(one.worth) and one.fleet != present.fleet]
    paying = [one for one in usable if _pays(one, present, rules)]
    held, lately = _weighed(present, usable, paying, standing, rules, now_seconds)
    if not paying:
        return Verdict(None, Standing(lately, recent), _kept(present, usable, rules))
    left = {one.fleet: _left_seconds(held[one.fleet], one, present, rules, now_seconds) for one in paying}
    waiting = Standing((*held.values(), *lately), recent)
    ripe = [one for one in paying if left[one.fleet] <= 0]
    best = _best(ripe or paying, rules)
    better = f"{best.fleet.words} is better: {_compared(best, present)}"
    if not ripe:
        been, more = now_seconds - held[best.fleet].since, left[best.fleet]
        why = f"it has been for {been:.0f} s, and has to be for another {more:.0f} s"
        return Verdict(None, waiting, (better, why))
    rest = _rest_seconds(recent, best.worth - present.worth, rules, now_seconds)
    if rest > 0:
        why = f"{len(recent)} changes in the last hour: nothing is changed for another {rest:.0f} s"
        return Verdict(None, waiting, (better, why))
    starts = best.fleet.restarts(present.fleet)
    changed = Standing((), (*recent, (now_seconds, starts > 0)))
    what = f"{starts} engines are started" if starts else "no engine is started, roles change"
    return Verdict(best.fleet, changed, (f"{best.fleet.words}: {_compared(best, present)}", what))


def _weighed(
    present: Assessed,
    usable: Sequence[Assessed],
    paying: Sequence[Assessed],
    standing: Standing,
    rules: Rules,
    now_seconds: float,
) -> tuple[dict[Fleet, Contender], tuple[Contender, ...]]:
    """What is held of those that pay; and of those that do not, what is not forgotten yet."""
    known, found = _known(standing, present.fleet), {}
    for one in usable:
        before = known.get(one.fleet) or known.get(one.fleet.mode)
        found[one.fleet] = _held(one.fleet, before, one.worth - present.worth, rules, now_seconds)
    held = {one.fleet: found[one.fleet] for one in paying}
    others = [one for one in found.values() if one.fleet not in held and one.lost > 0]
    lately = sorted(others, key=lambda one: -one.lost)[:MOST_LATELY]
    return held, tuple(replace(one, since=now_seconds) for one in lately)


def _known(standing: Standing, present: Fleet) -> dict[Fleet | str, Contender]:
    """What was held at the last look, by fleet. By mode where that is another than now, since it is the mode
    that is better then, whichever of its splits is the best of a moment; or where engines came or went."""
    known: dict[Fleet | str, Contender] = {}
    for one in sorted(standing.contenders, key=lambda one: -one.since):
        known[one.fleet] = one
        scaled = one.fleet.kinds == present.kinds and one.fleet.engines != present.engines
        if scaled or one.fleet.mode != present.mode:
            known[one.fleet.mode] = one
    return known


def _held(fleet: Fleet, before: Contender | None, gain: float, rules: Rules, now_seconds: float) -> Contender:
    """What is known of a fleet after a look at which it was better by ``gain``. Between two looks no more is
    forgone than at the one that found less; what was is not forgotten at once where load comes in bursts, but
    by the margin a second."""
    if before is None or before.since > now_seconds:
        return Contender(fleet, now_seconds, now_seconds, gain)
    over = gain - rules.margin
    if over > 0:
        over = max(0.0, min(gain, before.gain) - rules.margin)
    lost = before.lost + max(-rules.margin, over) * max(0.0, now_seconds - before.looked)
    most = rules.margin * rules.hold_seconds
    return Contender(fleet, before.since, now_seconds, gain, min(most, max(0.0, lost)))


def _left_seconds(
    one: Contender, assessed: Assessed, present: Assessed, rules: Rules, now_seconds: float
) -> float:
    """For how long it has to stay as much better as it is: ``hold_seconds``, or, since roles cost nothing to
    change, until as much is forgone over the margin as the margin is in that time (Page's test), or for
    ``rescue_seconds``."""
    been = now_seconds - one.since
    if one.fleet.restarts(present.fleet):
        return rules.hold_seconds - been
    left = (rules.rescue_seconds if assessed.keeps > present.keeps else rules.hold_seconds) - been
    if one.gain <= 2 * rules.margin:
        return left
    return min(left, (rules.margin * rules.hold_seconds - one.lost) / (one.gain - rules.margin))


def _best(paying: Sequence[Assessed], rules: Rules) -> Assessed:
    """The best of those that pay; of nearly equal ones that with the fewest parts."""
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


def _rest_seconds(
    recent: Sequence[tuple[float, bool]], gain: float, rules: Rules, now_seconds: float
) -> float:
    """Until the next change is allowed. Where much is to be gained and no engine was started, the cool-down
    does not double: the number of changes in an hour is bounded all the same."""
    if not recent:
        return 0.0
    most = rules.most_in_an_hour
    full = recent[-most][0] + HOUR_SECONDS if len(recent) >= most else -math.inf
    last, started = recent[-1]
    first = rules.engines_cooldown_seconds if started else rules.roles_cooldown_seconds
    times = 0 if gain > rules.much and not started else len(recent) - 1
    return max(full, last + first * float(2**times)) - now_seconds


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
