"""What the gateway tells Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from billing.core.events import UsageEvent

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

REQUESTS = Counter(
    "computility_gateway_requests",
    "Requests answered, by path, status and model",
    ("path", "status", "model"),
)
IN_FLIGHT = Gauge("computility_gateway_in_flight", "Requests being served")
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
TOKENS = Counter("computility_gateway_tokens", "Tokens billed, by meter", ("model", "kind"))
OUTCOMES = Counter("computility_gateway_outcomes", "Billed requests, by how they ended", ("model", "outcome"))
ENGINE_REFUSED = Counter(
    "computility_gateway_engine_refused",
    "Requests that an engine failed on though it goes on serving others; told as the client's mistake",
)
FAILOVERS = Counter("computility_gateway_failovers", "Attempts moved on to another replica", ("model",))
SPOOL_SEGMENTS = Gauge(
    "computility_gateway_spool_segments", "Segments of usage events not yet taken by control"
)
SPOOL_OLDEST_SECONDS = Gauge("computility_gateway_spool_oldest_seconds", "Age of the oldest such segment")
SPOOL_REJECTED_BYTES = Gauge(
    "computility_gateway_spool_rejected_bytes",
    "Usage events that wait in rejected.ndjson for a person to mend them; 0 = none",
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


def count_billed(event: UsageEvent) -> None:
    """Count a request that is in the spool now."""
    OUTCOMES.labels(event.model, event.outcome).inc()
    for kind, amount in event.quantities.items():
        TOKENS.labels(event.model, kind).inc(amount)
