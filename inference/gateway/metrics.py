"""What the gateway tells Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, Metric

from billing.core.events import UsageEvent
from inference.core.routing.breaker import State


class Tally(Counter):
    """A counter for the loop's thread alone. ``count`` adds up what is told to Prometheus when it asks:
    to look for a series and to lock it takes longer than all else of counting."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._counted: dict[tuple[str, ...], int] = {}
        super().__init__(*args, **kwargs)

    def count(self, *labels: str, amount: int = 1) -> None:
        """As ``labels(…).inc(amount)``."""
        counted = self._counted
        counted[labels] = counted.get(labels, 0) + amount

    def collect(self) -> Iterable[Metric]:
        self._tell()
        return super().collect()

    def remove_by_labels(self, labels: dict[str, str]) -> None:
        self._tell()
        super().remove_by_labels(labels)

    def _tell(self) -> None:
        while self._counted:
            labels, amount = self._counted.popitem()
            self.labels(*labels).inc(amount)


class Level(Gauge):
    """The same of a gauge without labels."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.change = 0
        """Since Prometheus asked."""
        super().__init__(*args, **kwargs)

    def collect(self) -> Iterable[Metric]:
        change, self.change = self.change, 0
        self.inc(change)
        return super().collect()


_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

REQUESTS = Tally(
    "computility_gateway_requests",
    "Requests answered, by path, status and model",
    ("path", "status", "model"),
)
IN_FLIGHT = Level("computility_gateway_in_flight", "Requests being served")
UPSTREAM_SECONDS = Histogram(
    "computility_gateway_upstream_seconds",
    "From sending a request to an engine to its end",
    ("model",),
    buckets=_SECONDS,
)
FIRST_BYTE_SECONDS = Histogram(
    "computility_gateway_first_byte_seconds",
    "From a request's arrival to the first byte of the engine's answer",
    ("model",),
    buckets=_SECONDS,
)
TOKENS = Tally("computility_gateway_tokens", "Tokens billed, by meter", ("model", "kind"))
OUTCOMES = Tally("computility_gateway_outcomes", "Billed requests, by how they ended", ("model", "outcome"))
ENGINE_REFUSED = Counter(
    "computility_gateway_engine_refused",
    "Requests that an engine failed on though it goes on serving others; told as the client's mistake",
)
FAILOVERS = Counter("computility_gateway_failovers", "Attempts moved on to another replica", ("model",))
ROUTED = Tally(
    "computility_gateway_routed",
    "Requests sent to a replica, by what decided for it: the prompt in its cache, its queue, its load, the "
    "adapter, the session; tie = nothing, only = it was the only one",
    ("model", "reason"),
)
ROUTED_BYTES = Tally(
    "computility_gateway_routed_prompt_bytes",
    "Of prompts sent to replicas, by whether the replica was sent the same beginning before",
    ("model", "cached"),
)
BREAKER_STATE = Gauge(
    "computility_gateway_breaker_state",
    "Of a replica's breaker: 0 = closed, 1 = open (left alone after failures in a row), 2 = half open (asked "
    "again after its pause); of more replicas than have series, those that are not closed come first",
    ("model", "replica"),
)
LEGS = Counter(
    "computility_gateway_legs",
    "Requests of disaggregated models by what became of the first leg: handed_over, failed, or why there was "
    "none (short, no_pair, or what takes one engine; tried = long, but read with the answer to see what that "
    "takes)",
    ("model", "how"),
)
MIN_PROMPT_TOKENS = Gauge(
    "computility_gateway_min_prompt_tokens",
    "Of disaggregated models whose Endpoint does not say it: from how many tokens on a prompt is read by an "
    "engine for that, as this gateway has learned",
    ("model",),
)
GUARD_HITS = Counter(
    "computility_gateway_guard_hits",
    "What guards have found in requests and answers, by what they look for, what was done, and direction",
    ("finds", "action", "direction"),
)
CONTINUED = Counter(
    "computility_gateway_continued",
    "Streams whose engine broke in the middle, by what became of them: went_on (on another engine), anew "
    "(the client had nothing yet), whole (only the end was missing), refused (the request, or the room for "
    "what it takes, does not allow it), no_engine (no other one took it), differs (it went on otherwise)",
    ("model", "outcome"),
)
CANARY_REQUESTS = Tally(
    "computility_gateway_canary_requests",
    "Requests of models with a canary, by side and what became of them there: answered, failed (those of the "
    "canary go on to the stable side), refused (as wrong), left (the client, before a first token), absent "
    "(no engine was there)",
    ("model", "variant", "outcome"),
)
SHADOW_REQUESTS = Tally(
    "computility_gateway_shadow_requests",
    "Copies of requests of a model by what became of them: answered, failed, dropped (too much was under "
    "way, or a hard budget has too little left), absent (no engine was there)",
    ("model", "outcome"),
)
QUEUED = Gauge("computility_gateway_queued", "Requests that wait for a turn at engines that are busy")
QUEUED_HOW = Counter(
    "computility_gateway_queued_requests",
    "Such requests by what became of them: served, timeout, refused (too many of the tenant wait), left (the "
    "client, or its key)",
    ("how",),
)
WAKING = Gauge("computility_gateway_waking", "Requests that wait for an engine of an Endpoint to wake")
BUDGET_REFUSED = Counter(
    "computility_gateway_budget_refused",
    "Requests refused by a budget: spent, or soon where other requests hold what is left",
    ("why",),
)
BUDGET_OVERAGE = Counter(
    "computility_gateway_budget_overage",
    "What requests used beyond what they held of budgets, by unit",
    ("unit",),
)
RATE_LIMITED = Counter(
    "computility_gateway_rate_limited",
    "Requests refused by a limit that somebody set, by whose it is and by its name",
    ("scope", "limit"),
)
WOKEN = Counter(
    "computility_gateway_woken",
    "Such requests by what became of them: served, timeout, refused (too many wait), left (the client)",
    ("how",),
)
WAKING_SECONDS = Histogram(
    "computility_gateway_waking_seconds", "How long those that were served waited", buckets=_SECONDS
)
SPOOL_SEGMENTS = Gauge(
    "computility_gateway_spool_segments", "Segments of usage events not yet taken by control"
)
SPOOL_OLDEST_SECONDS = Gauge("computility_gateway_spool_oldest_seconds", "Age of the oldest such segment")
SPOOL_REJECTED_BYTES = Gauge(
    "computility_gateway_spool_rejected_bytes",
    "Usage events that wait in rejected.ndjson for a person to mend them; 0 = none",
)
USAGE_OVERDUE = Gauge(
    "computility_gateway_usage_overdue",
    "Ended requests whose usage waits in the journal for room on the disk; none is begun meanwhile",
)
USAGE_SET_ASIDE = Counter(
    "computility_gateway_usage_set_aside",
    "Usage events that could not be posted as they were, kept with their reason in rejected.ndjson",
)
USAGE_NOT_TOLD = Counter(
    "computility_gateway_usage_not_told",
    "Answers whose engine told no token counts, or no final ones: the engine is rested",
)
ROUTES_AGE_SECONDS = Gauge(
    "computility_gateway_routes_age_seconds", "Since control last confirmed the routing table; -1 = never"
)
JOURNAL_TORN = Counter(
    "computility_gateway_journal_torn", "Requests of a gateway that died, whose noted usage was unreadable"
)
SPANS = Counter(
    "computility_gateway_spans",
    "Spans of requests by what became of them: sent, failed (the collector did not take them), dropped (too "
    "many waited for it)",
    ("outcome",),
)
_BY_MODEL = (
    REQUESTS,
    UPSTREAM_SECONDS,
    FIRST_BYTE_SECONDS,
    TOKENS,
    OUTCOMES,
    FAILOVERS,
    ROUTED,
    ROUTED_BYTES,
    BREAKER_STATE,
    LEGS,
    MIN_PROMPT_TOKENS,
    CONTINUED,
    CANARY_REQUESTS,
    SHADOW_REQUESTS,
)
MAX_MODELS = 500
MAX_BREAKERS = 5_000
OTHER_MODELS = "other"
_STATES: Mapping[State, int] = {"closed": 0, "open": 1, "half_open": 2}


_SERIES: dict[tuple[Histogram, tuple[str, ...]], Histogram] = {}


def series(metric: Histogram, *labels: str) -> Histogram:
    """As ``metric.labels``, whose look-up takes longer than the counting, looked up once."""
    found = _SERIES.get((metric, labels))
    if found is None:
        found = _SERIES[metric, labels] = metric.labels(*labels)
    return found


class ModelLabels:
    """Which models have series of their own: those that are served now, up to a number; others share one."""

    def __init__(self) -> None:
        self._told: frozenset[str] = frozenset()

    def of(self, model: str) -> str:
        """What a metric says for the model; empty stays empty: it is no model."""
        return model if not model or model in self._told else OTHER_MODELS

    def serve(self, models: Iterable[str]) -> None:
        """These are served from now on; the series of others end."""
        served = set(models)
        stay = self._told & served
        told = frozenset((*stay, *sorted(served - stay)[: MAX_MODELS - len(stay)]))
        for gone in self._told - told:
            for metric in _BY_MODEL:
                metric.remove_by_labels({"model": gone})
        _SERIES.clear()
        self._told = told


MODELS = ModelLabels()


def show_breakers(states: Mapping[tuple[str, str], State]) -> None:
    """Tell the breakers of all replicas; those of others are told no more."""
    shown = sorted(states.items(), key=lambda item: (item[1] == "closed", item[0]))[:MAX_BREAKERS]
    BREAKER_STATE.clear()
    for (model, replica), state in shown:
        BREAKER_STATE.labels(model, replica).set(_STATES[state])


def count_billed(event: UsageEvent) -> None:
    """Count a request that is in the spool now."""
    model = MODELS.of(event.model)
    OUTCOMES.count(model, event.outcome)
    for kind, amount in event.quantities.items():
        TOKENS.count(model, kind, amount=amount)
