"""What was seen of the engines of one Endpoint, look by look, and what is wanted of each of its roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from common.clock import Clock
from common.first_tokens import FirstTokens
from common.load import ReplicaLoad
from common.resources import Endpoint
from common.resources.scaling import EngineRole
from common.wire import Demand
from inference.autoscaling.limits import rule_of
from inference.core.autoscaling.scaler import Decision, RoleScaler, Rule
from inference.core.autoscaling.signals import RoleLoad

FIRST_TOKEN_MS = 60_000
TOGETHER = "Together"
"""Why a role has an engine that sees no load of its own: requests would go by it for ever."""
LEAST_FIRST_TOKENS = 5
"""First tokens are judged over the last minute, from so many on, and only by those of today's engines."""


@dataclass
class RoleWatch:
    """One role. ``changed`` is the decision that made ``wanted`` what it is, None before there was one."""

    scaler: RoleScaler
    first_tokens: FirstTokens = field(default_factory=lambda: FirstTokens(FIRST_TOKEN_MS, LEAST_FIRST_TOKENS))
    finished: dict[str, int] = field(default_factory=dict)
    load: RoleLoad = field(default_factory=RoleLoad)
    rule: Rule = field(default_factory=Rule)
    decision: Decision | None = None
    changed: Decision | None = None

    def see(self, replicas: Sequence[ReplicaLoad], demand: Demand, now_seconds: float) -> None:
        """Take in what the engines tell now."""
        now_ms = round(now_seconds * 1000)  # not the wall's: that may be set back
        told = {one.id: one.load for one in replicas if one.load is not None}
        if told.keys() != self.finished.keys():
            self.first_tokens.forget()
        came = self.first_tokens.note({id_: load.first_token_buckets for id_, load in told.items()}, now_ms)
        ended = any(load.finished != self.finished.get(id_, load.finished) for id_, load in told.items())
        self.finished = {id_: load.finished for id_, load in told.items()}
        running = sum(load.running for load in told.values())
        waiting = sum(load.waiting for load in told.values())
        late_seconds = self.first_tokens.p95_seconds()
        self.load = RoleLoad(
            ready=len(replicas),
            telling=len(told),
            running=running,
            waiting=waiting,
            kv_caches_in_use=sum(_part(load.kv_cache_use) for load in told.values()),
            ttft_p95_ms=None if late_seconds is None else 1000 * late_seconds,
            held=demand.held,
            is_active=any((running, waiting, came, ended, demand.held, demand.active)),
        )

    def decide(self, now_seconds: float, *, may_sleep: bool, is_up: bool) -> None:
        """What is wanted now, from what was seen last; one engine at least where the others' are up."""
        before = self.scaler.wanted
        rule = _awake(self.rule) if is_up else self.rule
        self.decision = self.scaler.look(self.load, rule, now_seconds, may_sleep=may_sleep)
        if self.decision.wanted != before:
            self.changed = self.decision


def _awake(rule: Rule) -> Rule:
    return rule if rule.least else replace(rule, least=1, floor_reason=TOGETHER)


def _part(use: float) -> float:
    """Between 0 and 1, whatever an engine tells; what is no number is nothing."""
    return min(1.0, max(0.0, use))


class EndpointWatch:
    """The roles of one Endpoint that follow their load."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.roles: dict[EngineRole, RoleWatch] = {}
        self.looked_ms = 0

    @property
    def on_their_way(self) -> int | None:
        """Requests that engines and gateways had at the last look; None before it, and where an engine did
        not tell."""
        loads = [watch.load for watch in self.roles.values()]
        if not self.looked_ms or not all(load.is_known for load in loads):
            return None
        return sum(load.running + load.waiting + load.held for load in loads)

    def look(
        self, endpoint: Endpoint, replicas: Mapping[EngineRole, Sequence[ReplicaLoad]], demand: Demand
    ) -> None:
        """See and decide, for each role. ``replicas``: those that get requests."""
        now_ms, now_seconds = self._clock.now_ms(), self._clock.monotonic_seconds()
        self.looked_ms = now_ms
        ttft_ms, wanted = endpoint.spec.slo.ttft_milliseconds, endpoint.wanted
        specs = {role: spec.autoscaling for role, spec in endpoint.spec.roles.items()}
        self.roles = {
            role: self.roles.get(role) or RoleWatch(RoleScaler(wanted[role], now_seconds))
            for role, spec in specs.items()
            if spec is not None
        }
        for role, watch in self.roles.items():
            spec = specs[role]
            assert spec is not None
            watch.rule = rule_of(spec, ttft_ms, now_ms)
            watch.see(replicas.get(role, ()), demand, now_seconds)
        roles = self.roles.values()
        self._join_rules()
        is_active = any(watch.load.is_active or not watch.load.is_known for watch in roles)
        is_up = len(roles) > 1 and is_active and any(watch.scaler.wanted for watch in roles)
        for watch in roles:
            watch.decide(now_seconds, may_sleep=not is_active, is_up=is_up)

    def _join_rules(self) -> None:
        """All roles are up where one has to be, and sleep after the same time: one that slept alone would see
        no load, since the other one takes it, and never wake."""
        rules = [watch.rule for watch in self.roles.values()]
        zero_after = max((rule.zero_after_seconds for rule in rules), default=0.0)
        is_up = any(rule.least for rule in rules)
        for watch in self.roles.values():
            rule = _awake(watch.rule) if is_up else watch.rule
            watch.rule = replace(rule, zero_after_seconds=zero_after)
