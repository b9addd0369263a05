"""Which fleets are worth a rehearsal: the roles that engines could have, and other engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from inference.core.mode.batching import MOST_SEQUENCES, PassTimes
from inference.core.mode.fleet import EngineGroup, Fleet
from inference.core.mode.rehearsal import Stage, unread_tokens
from inference.core.mode.traffic import Profile, ServedRequest
from inference.core.performance.device_figures import Layout
from inference.core.performance.memory import most_sequences
from inference.core.performance.options import Option, Slo
from inference.core.performance.serving import DECODE_SLOWER, PREFILL_SLOWER
from inference.core.performance.sizing import BATCHES

THRESHOLDS = (512, 1024, 2048, 4096, 8192, 16384)
"""Shortest prompts that readers read, in tokens; the first is ``minPromptTokens`` where it is unset."""
MOST_REHEARSED = 6
"""Fleets with readers."""


@dataclass(frozen=True)
class _Costs:
    """Seconds of one engine for a request of the profile: to read all of its prompt, and to write its answer
    in a batch that is as full as the limit between tokens allows."""

    reads: float
    writes: float


def role_variants(
    stage: Stage,
    fleet: Fleet,
    requests: Sequence[ServedRequest],
    profile: Profile,
    slo: Slo,
    most: int = MOST_REHEARSED,
) -> list[Fleet]:
    """The same engines in other roles: all of them doing both; and with readers, the ``most`` in which the
    busiest engines are least busy. Raises ``NotKnown``."""
    plain = fleet.engines_only
    times = [stage.times(group.supply, group.layout) for group in plain.groups]
    if fleet.engines < 2 or not all(one.supply.fits(fleet.groups[0].supply) for one in fleet.groups):
        return [plain]
    costs = [_costs(one, profile, slo) for one in times]
    tokens = sum(unread_tokens(one) for one in requests) or 1
    longer = {
        least: sum(unread_tokens(one) for one in requests if one.prompt_tokens >= least) / tokens
        for least in THRESHOLDS
    }
    ranked = sorted(
        (_busiest(split, costs, part), least, split.readers, split)
        for split in _splits(plain, costs)
        for least, part in longer.items()
        if part > 0.0
    )
    return [plain, *(replace(split, min_prompt_tokens=least) for _, least, _, split in ranked[:most])]


def capacity(stage: Stage, fleet: Fleet, profile: Profile, slo: Slo) -> float:
    """Requests per second of the profile that the engines serve in their best roles, about. Raises
    ``NotKnown``."""
    plain = fleet.engines_only
    costs = [_costs(stage.times(group.supply, group.layout), profile, slo) for group in plain.groups]
    if fleet.engines < 2:
        return 1.0 / (costs[0].reads + costs[0].writes)
    return 1.0 / min(_busiest(split, costs, 1.0) for split in _splits(plain, costs))


def _splits(fleet: Fleet, costs: Sequence[_Costs]) -> Iterator[Fleet]:
    """1 reader, 2 readers … all but one. Those read that are best at it against what they write."""
    order = sorted(range(len(costs)), key=lambda at: costs[at].reads / costs[at].writes)
    for readers in range(1, fleet.engines):
        groups, left = list(fleet.groups), readers
        for at in order:
            some = min(left, groups[at].engines)
            groups[at] = replace(groups[at], readers=some)
            left -= some
        yield Fleet(tuple(groups))


def _busiest(fleet: Fleet, costs: Sequence[_Costs], part: float) -> float:
    """Engine-seconds per request of the busier role, where readers read ``part`` of all tokens."""
    reading = sum(group.readers / cost.reads for group, cost in zip(fleet.groups, costs, strict=True))
    writing = sum(
        (group.engines - group.readers) / (cost.writes + (1.0 - part) * cost.reads)
        for group, cost in zip(fleet.groups, costs, strict=True)
    )
    return max(part / reading, 1.0 / writing)


def _costs(times: PassTimes, profile: Profile, slo: Slo) -> _Costs:
    unread = max(1, round(profile.prompt_tokens * (1.0 - profile.cached_part)))
    reads = PREFILL_SLOWER * times.reading(unread, profile.prompt_tokens, 0, 0)
    middle = profile.prompt_tokens + profile.output_tokens // 2
    most = most_sequences(times.engine, profile.prompt_tokens + profile.output_tokens)
    writes = float("inf")
    for batch in BATCHES:
        if batch > min(MOST_SEQUENCES, max(1, most)):
            break
        seconds = DECODE_SLOWER * times.decode(batch, batch * middle)
        if batch > 1 and slo.itl_ms is not None and 1e3 * seconds > slo.itl_ms:
            break
        writes = min(writes, seconds * max(1, profile.output_tokens - 1) / batch)
    return _Costs(reads, writes)


def fleet_of(option: Option) -> Fleet:
    """What an option of the performance model is made of; legs of equal engines are one group."""
    groups: dict[tuple[str, Layout], EngineGroup] = {}
    for leg in option.legs:
        key = leg.supply.device_class, leg.layout
        before = groups.get(key, EngineGroup(leg.supply, leg.layout, 0))
        readers = before.readers + (leg.engines if leg.role == "prefill" else 0)
        groups[key] = replace(before, engines=before.engines + leg.engines, readers=readers)
    least = THRESHOLDS[0] if option.mode == "disaggregated" else 0
    return Fleet(tuple(groups.values()), least)
