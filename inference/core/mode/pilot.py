"""One look at an Endpoint of mode ``auto``: what came is rehearsed on what could be, and a change decided."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from math import ceil, inf

from inference.core.mode.candidates import role_variants
from inference.core.mode.decide import Assessed, Rules, Standing, Verdict, decide_mode
from inference.core.mode.fleet import Fleet
from inference.core.mode.rehearsal import Course, Rehearsal, Stage
from inference.core.mode.traffic import Profile, ServedRequest
from inference.core.performance.options import Slo
from inference.core.performance.steps import NotKnown

FEWEST_REQUESTS = 40
"""Of fewer nothing is concluded."""
MOST_UNENDED = 0.5
"""Of all that is remembered. Where more has not ended, as when a service has just begun, answers may be much
longer than those that were seen."""
MOST_REQUESTS = 4000
ENOUGH_REQUESTS, ENOUGH_SECONDS = 500, 30.0
"""Of what came only so much is rehearsed, the latest: both where there is both."""
PLAYED_SECONDS = 60.0
"""So long it is played, again and again: queues that grow need time to be seen."""
MOST_TOKENS = 50_000_000
"""Of prompts, in all: a pass reads 8,192, so some thousands of passes for each fleet."""
MOST_OF_OTHERS = 4
"""Fleets with readers that are rehearsed of engines that are not there."""
TARGET = 0.95
"""Part of the requests that have to be within the limits before devices are saved."""
RESERVE = 1.1
"""So many times as fast as they came requests are played: what barely holds a minute does not hold long.
Where nothing keeps the target then, they are played as they came: of a load that is too much as it is, more
of it tells which fleet is worst, not which is best."""
LOST = 0.05
"""Where no fleet has more in time, what waits is lost whatever is done, and so is what comes meanwhile: that
passes, and the roles remain, so they are told apart without it."""
MOST_TURNS = 4
"""So often at most, since of little nothing is known for long."""
MOST_COURSE = 24_000
"""Of requests that came last, which are played once and on the present engines alone."""
COURSE_SECONDS = 120.0
"""What came last is played on the present engines first, and each fleet begins with what these are at then:
whatever is taken has to work a backlog off, and an engine ends in any role what it has begun. So long, since
of what was on its way before it is not known whether it was waiting to be read."""
HEADROOM = 1.25
"""What has fewer devices than now has to keep the target at so many times the load."""
TTFT_WEIGHT = 0.1
"""What is lost of a fleet's worth where the first token takes as long as it may, in the mean."""


def look(
    stage: Stage,
    present: Fleet,
    more: Sequence[Fleet],
    requests: Sequence[ServedRequest],
    profile: Profile | None,
    slo: Slo,
    standing: Standing,
    rules: Rules,
    now_seconds: float,
) -> Verdict:
    """``more``: fleets of other engines than those that are there; their roles are varied like those of the
    present one."""
    if profile is None or len(requests) < FEWEST_REQUESTS:
        why = f"{len(requests)} requests are too few to judge by; {FEWEST_REQUESTS} are needed"
        return Verdict(None, Standing((), standing.changes), (f"{present.words} stays", why))
    unended = sum(one.ended_seconds > requests[-1].started_seconds for one in requests)
    if unended > MOST_UNENDED * len(requests):
        why = f"{unended} of {len(requests)} requests have not ended: too little is known of them"
        return Verdict(None, Standing((), standing.changes), (f"{present.words} stays", why))
    sample = latest(requests)
    played = in_turns(sample)
    try:
        lately = means(sample)
        fleets = dict.fromkeys(role_variants(stage, present, sample, lately, slo))
        changed = standing.changes[-1][0] if standing.changes else -inf
        after = stage.underway(present, course(requests, changed))
        now = stage.rehearse(present, played, slo, RESERVE, after)
    except NotKnown as unknown:
        why = f"nothing can be foretold: {unknown}"
        return Verdict(None, Standing((), standing.changes), (f"{present.words} stays", why))
    for other in more:
        fleets.update(_known_variants(stage, other, sample, lately, slo))
    fleets.update(dict.fromkeys(one.fleet for one in standing.contenders if _is_possible(one.fleet, present)))
    fleets.pop(present, None)
    most = max((fleet.cost for fleet in (*fleets, present)), default=1.0)
    saved = {
        one: stage.rehearse(one, played, slo, HEADROOM, after) for one in fleets if one.cost < present.cost
    }
    others = [saved.get(one) or stage.rehearse(one, played, slo, RESERVE, after) for one in fleets]
    if all(one.good < TARGET for one in (now, *others)):
        now = stage.rehearse(present, played, slo, 1.0, after)
        others = [saved.get(one) or stage.rehearse(one, played, slo, 1.0, after) for one in fleets]
        if all(one.good < LOST for one in (now, *others)):
            now = stage.rehearse(present, played, slo)
            others = [saved.get(one) or stage.rehearse(one, played, slo) for one in fleets]
    assessed = [assess(one, slo, most) for one in others]
    verdict = decide_mode(assess(now, slo, most), assessed, standing, rules, now_seconds)
    seen = f"{len(sample)} requests: {profile.words}"
    kept = replace(verdict.standing, suffers=now.good < TARGET)
    return Verdict(verdict.taken, kept, (*verdict.reasons, seen))


def assess(rehearsal: Rehearsal, slo: Slo, most_cost: float) -> Assessed:
    """The part of requests within the limits; what keeps the target is worth more the less it costs."""
    waiting = min(1.0, rehearsal.ttft_ms / slo.ttft_ms) if slo.ttft_ms else 0.0
    worth = rehearsal.good * (1.0 - TTFT_WEIGHT * waiting)
    if rehearsal.good >= TARGET:
        worth += 1.0 - rehearsal.fleet.cost / most_cost
    words = (
        f"{100 * rehearsal.good:.0f} % of requests within the SLO (TTFT {rehearsal.ttft_ms:,.0f} ms, "
        f"{rehearsal.itl_ms:,.1f} ms between tokens, {rehearsal.fleet.devices} devices)"
    )
    return Assessed(rehearsal.fleet, worth, words, rehearsal.good >= TARGET)


def latest(requests: Sequence[ServedRequest]) -> Sequence[ServedRequest]:
    """So many that both enough requests and enough time are in it, where there are, and no more work than is
    bounded."""
    start = requests[-1].started_seconds - ENOUGH_SECONDS
    count = max(ENOUGH_REQUESTS, sum(one.started_seconds >= start for one in requests))
    sample = requests[-min(count, MOST_REQUESTS) :]
    tokens = list(accumulate(one.prompt_tokens for one in reversed(sample)))
    return sample[-max(1, bisect_right(tokens, MOST_TOKENS)) :]


def means(sample: Sequence[ServedRequest]) -> Profile:
    """The profile of what is rehearsed, by which candidates are named for it: one with decay is for minutes
    still that of what came before a shift."""
    count, span = len(sample), sample[-1].started_seconds - sample[0].started_seconds
    prompt = sum(one.prompt_tokens for one in sample)
    cached = sum(one.cached_tokens for one in sample)
    answer = sum(one.output_tokens for one in sample)
    rate = count / max(1.0, span)
    return Profile(rate, round(prompt / count), max(1, round(answer / count)), cached / prompt, count)


def course(requests: Sequence[ServedRequest], changed_seconds: float) -> Course:
    """What the present engines got last, since ``changed_seconds`` at most. Of an answer that was on its way
    at the beginning such a part is left as of its time."""
    last = requests[-1].started_seconds
    first = requests[-min(len(requests), MOST_COURSE)].started_seconds
    start = min(last, max(first, last - COURSE_SECONDS, changed_seconds))
    begun = [
        (one, max(1, ceil(one.output_tokens * _part_after(one, start))))
        for one in requests
        if one.started_seconds < start < one.ended_seconds
    ]
    since = [one for one in requests if one.started_seconds >= start]
    return Course(begun[-MOST_COURSE:], since, start)


def _part_after(request: ServedRequest, at_seconds: float) -> float:
    lasted = request.ended_seconds - request.started_seconds
    return min(1.0, (request.ended_seconds - at_seconds) / lasted)


def _is_possible(fleet: Fleet, present: Fleet) -> bool:
    """Whether it still is the same engines in other roles; others are named anew at each look."""
    return fleet.engines_only == present.engines_only


def in_turns(requests: Sequence[ServedRequest]) -> Sequence[ServedRequest]:
    """The requests again and again until there is a minute of them, as far as that is no more work than is
    bounded."""
    span = requests[-1].started_seconds - requests[0].started_seconds
    each = span * len(requests) / max(1, len(requests) - 1)
    if not each > 0:
        return requests
    tokens = sum(one.prompt_tokens for one in requests)
    most = min(MOST_TURNS, MOST_REQUESTS // len(requests), MOST_TOKENS // tokens)
    return [
        replace(one, started_seconds=one.started_seconds + turn * each)
        for turn in range(max(1, min(most, ceil(PLAYED_SECONDS / each))))
        for one in requests
    ]


def _known_variants(
    stage: Stage, fleet: Fleet, sample: Sequence[ServedRequest], profile: Profile, slo: Slo
) -> dict[Fleet, None]:
    try:
        return dict.fromkeys(role_variants(stage, fleet, sample, profile, slo, MOST_OF_OTHERS))
    except NotKnown:
        return {}
