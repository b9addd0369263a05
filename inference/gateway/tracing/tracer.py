"""What begins the span of a request, by what it was sent with and how many are to be traced."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanKind, set_span_in_context

from common.auth import Principal
from common.settings import Settings
from common.settings.tracing import TracingSettings
from inference.core.body import Api
from inference.gateway.exchange import Exchange
from inference.gateway.tracing import attributes as says
from inference.gateway.tracing.outbox import Outbox, keep_libraries_quiet
from inference.gateway.tracing.parent import parent_of
from inference.gateway.tracing.request import Attribute, Made, RequestTrace

_LIMITS = SpanLimits(  # of the length of values: says.name, which costs less
    max_span_attributes=48,
    max_events=64,
    max_links=0,
    max_event_attributes=8,
)
_NOWHERE = Context()


class RequestTracer:
    """Begins the spans of requests whose key is known: a stranger's request makes none. ``exporter``: where
    they go; else to the collector of the settings, by OTLP over HTTP."""

    def __init__(self, settings: Settings, exporter: SpanExporter | None = None) -> None:
        keep_libraries_quiet()
        tracing, gateway = settings.tracing, settings.gateway
        self._outbox = Outbox(exporter or OTLPSpanExporter(tracing.url), tracing.queue_spans)
        provider = TracerProvider(
            sampler=_sampler(tracing),
            resource=Resource.create({"service.name": tracing.service_name}),
            span_limits=_LIMITS,
            shutdown_on_exit=False,
        )
        provider.add_span_processor(self._outbox)
        self._tracer = provider.get_tracer("computility.gateway")
        self._address: dict[str, Attribute] = {
            says.SERVER_ADDRESS: says.name(gateway.host),
            says.SERVER_PORT: gateway.port,
        }

    async def close(self) -> None:
        """Send what is left."""
        await self._outbox.close()

    def inference(self, exchange: Exchange, api: Api, principal: Principal) -> RequestTrace:
        """The span of a request on an inference path begins."""
        operation = says.OPERATIONS[api]
        return self._begin(
            exchange, operation, operation, principal, {says.OPERATION: operation, says.PROVIDER: says.OURS}
        )

    def passed_on(self, exchange: Exchange, path: str, principal: Principal) -> RequestTrace:
        """The span of a request that control answers begins. ``path``: one of a few."""
        method = exchange.method if exchange.method in says.METHODS else says.OTHER
        return self._begin(exchange, f"{method} {path}", "", principal, {says.HTTP_METHOD: method})

    def _begin(
        self,
        exchange: Exchange,
        name: str,
        operation: str,
        principal: Principal,
        told: dict[str, Attribute],
    ) -> RequestTrace:
        parent = parent_of(exchange.pairs)
        context = _NOWHERE if parent is None else set_span_in_context(NonRecordingSpan(parent), _NOWHERE)
        told |= self._address
        told[says.REQUEST_ID] = exchange.request_id
        if principal.tenant is not None:
            told[says.TENANT] = says.name(principal.tenant)
        if principal.project is not None:
            told[says.PROJECT] = says.name(principal.project)
        span = self._tracer.start_span(name, context, SpanKind.SERVER, told)
        return RequestTrace(Made(self._tracer, span, operation))


def _sampler(tracing: TracingSettings) -> Sampler:
    ratio = TraceIdRatioBased(tracing.sample_ratio)
    return ParentBased(ratio) if tracing.follow_clients else ratio
