"""Where spans of requests go, in the terms of OpenTelemetry."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from common.settings.section import Section

TRACES_PATH = "/v1/traces"


class TracingSettings(Section):
    """Spans of requests, sent to a collector by OTLP over HTTP. Without an address there are none, and no
    request costs anything."""

    endpoint: str = Field(
        "",
        max_length=2048,
        description="of the collector, such as http://127.0.0.1:4318; /v1/traces is put behind it. Where it "
        "is not set, OTEL_EXPORTER_OTLP_ENDPOINT says it",
    )
    traces_endpoint: str = Field(
        "",
        max_length=2048,
        description="the same in full, used as it is: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    )
    service_name: str = Field(
        "computility-gateway", min_length=1, max_length=255, description="or OTEL_SERVICE_NAME"
    )
    sample_ratio: float = Field(
        1.0, ge=0, le=1, description="part of the requests that are traced, where no client has decided"
    )
    follow_clients: bool = Field(
        True,
        description="a traceparent decides by its flag whether its request is traced; false = sample_ratio "
        "does for all, so that no client can have more traced",
    )
    queue_spans: int = Field(
        4096, ge=1, le=1_000_000, description="that wait to be sent; what comes when it is full is dropped"
    )
    engines: bool = Field(
        True, description="engines send spans of their own there, as parts of the same traces"
    )

    @field_validator("endpoint", "traces_endpoint")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value and not _is_plain_url(value):
            raise ValueError(
                "must be http(s)://host[:port][/path]; a user or key in it would be seen in the commands of "
                "engines: headers belong into OTEL_EXPORTER_OTLP_HEADERS"
            )
        return value

    @property
    def url(self) -> str:
        """Where spans are posted; empty where there are none."""
        if self.traces_endpoint or not self.endpoint:
            return self.traces_endpoint
        return self.endpoint.rstrip("/") + TRACES_PATH

    @property
    def engines_url(self) -> str:
        """Where engines send theirs; empty where they send none."""
        return self.url if self.engines else ""


def _is_plain_url(value: str) -> bool:
    if not value.isascii() or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return False
    nothing_else = not (parts.username or parts.password or parts.query or parts.fragment)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and nothing_else and "@" not in value
