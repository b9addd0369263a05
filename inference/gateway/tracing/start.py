"""Whether requests are traced. OpenTelemetry's libraries are imported only where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import SetupError
from common.settings import Settings

if TYPE_CHECKING:
    from inference.gateway.tracing.tracer import RequestTracer


def start_tracing(settings: Settings) -> RequestTracer | None:
    """What traces requests; None where that is off. Raises ``SetupError`` where its libraries are missing."""
    if not settings.tracing.url:
        return None
    try:
        from inference.gateway.tracing.tracer import RequestTracer
    except ImportError as error:
        raise SetupError(
            f"tracing is on (spans go to {settings.tracing.url}), but {error.name} is not installed: "
            "pip install 'computility[tracing]', or unset tracing.endpoint and OTEL_EXPORTER_OTLP_ENDPOINT"
        ) from error
    return RequestTracer(settings)
