"""A load on a pool in one of the modes: what was answered in time."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.disaggregation.gateway import GatewayRouting
from bench.disaggregation.pools import Pool
from bench.routing.trace import Request
from inference.core.mode.batching import Job
from inference.core.mode.candidates import THRESHOLDS
from inference.core.mode.decide import Rules, Standing
from inference.core.mode.fleet import Fleet
from inference.core.mode.pace import LOOK_SECONDS, Pace
from inference.core.mode.pilot import look
from inference.core.mode.rehearsal import is_good
from inference.core.mode.replay import Replay
from inference.core.mode.traffic import ServedRequest, TrafficLog
from inference.core.performance.options import Slo

RANKED_REQUESTS = 2000
"""Of each third of a load: by these, fixed splits are ranked before the best are played."""


@dataclass(frozen=True)
class Result:
    """``goodput``: requests per second and device within both limits. ``changes``: when to what."""

    goodput: float
    good_percent: float
    ttft_p50_ms: float
    ttft_p90_ms: float
    itl_p90_ms: float
    changes: tuple[tuple[float, str], ...] = ()


def play(
    pool: Pool, fleet: Fleet, requests: Sequence[Request], slo: Slo, seconds: float, *, auto: bool = False
) -> Result:
    """All requests, to the end of the last answer. ``auto``: from this fleet on roles are decided anew, by
    what has been answered by then, when mode ``auto`` looks."""
    engines = pool.stage.engines(fleet)
    routing = GatewayRouting(requests, engines)
    done: list[Job] = []
    pilot = _Pilot(pool, fleet, slo, routing) if auto else None

    def on_done(job: Job) -> None:
        done.append(job)
        if pilot is not None:
            pilot.served(job)

    replay = Replay(engines, routing, on_done, fleet.min_prompt_tokens)
    next_look = LOOK_SECONDS
    for number, one in enumerate(requests):
        while pilot is not None and one.at_seconds >= next_look:
            replay.until(next_look)
            pilot.look(next_look, replay, number - len(done))
            next_look += LOOK_SECONDS
        replay.until(one.at_seconds)
        replay.arrive(Job(number, one.at_seconds, one.prompt_tokens, one.answer_tokens, one.prompt_tokens))
    replay.until(float("inf"))
    return _result(done, slo, seconds, fleet.devices, tuple(pilot.changes) if pilot else ())


class _Pilot:
    """Mode ``auto`` over simulated engines: the product's own look at what was answered."""

    def __init__(self, pool: Pool, fleet: Fleet, slo: Slo, routing: GatewayRouting) -> None:
        self._pool, self._fleet, self._slo, self._routing = pool, fleet, slo, routing
        self._log, self._standing, self._rules, self._pace = TrafficLog(), Standing(), Rules(), Pace()
        self.changes: list[tuple[float, str]] = []

    def served(self, job: Job) -> None:
        cached = self._routing.cached_tokens.get(job.number, 0)
        self._log.add(
            ServedRequest(job.at_seconds, job.last_seconds, job.prompt_tokens, job.output_tokens, cached)
        )

    def look(self, now: float, replay: Replay, on_their_way: int) -> None:
        self._log.on_their_way(now, on_their_way)
        if self._pace.rests(now, self._standing):
            return
        profile = self._log.profile(now)
        if not self._pace.looks(now, self._fleet, profile, self._standing):
            return
        verdict = look(
            self._pool.stage,
            self._fleet,
            (),
            self._log.recent(now),
            profile,
            self._slo,
            self._standing,
            self._rules,
            now,
        )
        self._standing = verdict.standing
        if verdict.taken is not None:
            self._fleet = verdict.taken
            self.changes.append((now, verdict.taken.words))
            assign(replay, verdict.taken)


def assign(replay: Replay, fleet: Fleet) -> None:
    """Give running engines the roles of a fleet of the same engines."""
    replay.assign(_roles(fleet), fleet.min_prompt_tokens)


def _roles(fleet: Fleet) -> list[str]:
    other = "decode" if fleet.readers else ""
    return [
        "prefill" if place < group.readers else other
        for group in fleet.groups
        for place in range(group.engines)
    ]


def fixed_splits(pool: Pool) -> list[Fleet]:
    """All numbers of readers, the device models in the order in which they read best and the other way."""
    found: dict[Fleet, None] = {}
    groups = pool.fleet.groups
    for order in (range(len(groups)), reversed(range(len(groups)))):
        ranked = list(order)
        for readers in range(1, pool.fleet.engines):
            left, made = readers, list(groups)
            for at in ranked:
                some = min(left, groups[at].engines)
                made[at] = replace(groups[at], readers=some)
                left -= some
            found[Fleet(tuple(made), THRESHOLDS[0])] = None
    return list(found)


def best_splits(pool: Pool, requests: Sequence[Request], slo: Slo, most: int) -> list[Fleet]:
    """The fixed splits that turn out best on these very requests: on three parts of them, without caches."""
    known = [
        ServedRequest(one.at_seconds, one.at_seconds, one.prompt_tokens, one.answer_tokens)
        for one in requests
    ]
    third = max(1, len(known) // 3)
    parts = [known[start : start + min(third, RANKED_REQUESTS)] for start in range(0, 3 * third, third)]

    def good(fleet: Fleet) -> float:
        return sum(pool.stage.rehearse(fleet, part, slo).good for part in parts if part)

    return sorted(fixed_splits(pool), key=good, reverse=True)[:most]


def _result(
    done: Sequence[Job], slo: Slo, seconds: float, devices: int, changes: tuple[tuple[float, str], ...]
) -> Result:
    good = sum(is_good(job, slo) for job in done)
    ttft = sorted(job.ttft_ms for job in done)
    itl = sorted(job.itl_ms for job in done)
    return Result(
        goodput=good / seconds / devices,
        good_percent=100 * good / max(1, len(done)),
        ttft_p50_ms=_quantile(ttft, 50),
        ttft_p90_ms=_quantile(ttft, 90),
        itl_p90_ms=_quantile(itl, 90),
        changes=changes,
    )


def _quantile(values: Sequence[float], percent: int) -> float:
    if len(values) < 2:
        return values[0] if values else 0.0
    return statistics.quantiles(values, n=100)[percent - 1]
