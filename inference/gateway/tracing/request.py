"""The spans of one request: its own, and one for each call of an engine that it takes.

What is not traced has the same methods, which do nothing, and a context that tells engines not to trace it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, StatusCode, Tracer, set_span_in_context

from common.wire import Route, RouteReplica
from inference.core.body import InferenceRequest
from inference.core.usage import TokenCounts
from inference.gateway.tracing import attributes as says

Leg = Literal["whole", "prefill", "decode"]
"""What a call is for: all of the answer, reading its prompt, or all but that."""
Attribute = str | int | float | bool | list[str]


@dataclass(frozen=True)
class Made:
    """What makes the spans of calls: by whom, below which span, of which operation."""

    tracer: Tracer
    span: Span
    operation: str


class CallTrace:
    """The span of one call of an engine. ``headers``: what tells the engine of it."""

    def __init__(self, span: Span | None, headers: dict[str, str]) -> None:
        self.headers = headers
        self._span = span

    def answering(self, counts: TokenCounts | None) -> None:
        """The first byte is there; of an answer in one piece all of it, with what it has used."""
        if self._span is None:
            return
        self._span.add_event("first_byte")
        if counts is not None:
            self._span.set_attributes(_usage(counts))

    def end(self, status: int, error: str) -> None:
        """The call is over. ``error``: what broke it, in a word; else a status may be one."""
        if self._span is None:
            return
        if status:
            self._span.set_attribute(says.HTTP_STATUS, status)
        if error or status >= 400:
            self._span.set_attribute(says.ERROR_TYPE, error or str(status))
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class RequestTrace:
    """The span of a request. It ends with ``end``, once."""

    def __init__(self, made: Made) -> None:
        self._made = made
        self._span = made.span
        self._records = made.span.is_recording()
        self._context: Context = set_span_in_context(made.span)
        self._route: Route | None = None
        self._stream = False
        self._leg: Leg = "whole"
        self._why = "first"
        self._calls = 0
        self._reasons: list[str] = []
        self._error = ""
        self.headers = _headers(made.span.get_span_context())
        """What tells others of it."""

    def serves(self, route: Route, request: InferenceRequest) -> None:
        """What is asked is known. Names of models that nobody serves are the client's, and not told."""
        self._route, self._stream = route, request.stream
        if not self._records:
            return
        model = says.name(route.model)
        self._span.update_name(f"{self._made.operation} {model}")
        told: dict[str, Attribute] = {
            says.REQUEST_MODEL: model,
            says.BASE_MODEL: says.name(route.base_model),
            says.REQUEST_STREAM: request.stream,
        }
        if request.choices_per_prompt > 1:
            told[says.REQUEST_CHOICES] = says.count(request.choices_per_prompt)
        if request.token_limits:
            told[says.REQUEST_MAX_TOKENS] = says.count(min(limit for _, limit in request.token_limits))
        self._span.set_attributes(told)

    def is_billed_to(self, tenant: str, project: str) -> None:
        """Who pays: not always who the key is of."""
        if self._records:
            self._span.set_attributes({says.TENANT: says.name(tenant), says.PROJECT: says.name(project)})

    def note(self, event: str) -> None:
        """Something happened, in a word of ours."""
        if self._records:
            self._span.add_event(event)

    def first_leg(self, how: str) -> None:
        """What became of the first of two legs."""
        if self._records:
            self._span.set_attribute(says.FIRST_LEG, how)

    def begin(self, leg: Leg, why: str = "first") -> None:
        """The next calls are for this; those after the first one because it failed."""
        self._leg, self._why = leg, why

    def call(self, replica: RouteReplica, reason: str) -> CallTrace:
        """A call of an engine begins; ``reason``: of its choice."""
        if not self._records or self._route is None:
            return CallTrace(None, self.headers)
        self._calls += 1
        model = says.name(self._route.model)
        address, port = says.address_of(replica.url)
        told: dict[str, Attribute] = {
            says.OPERATION: self._made.operation,
            says.PROVIDER: says.ENGINES,
            says.REQUEST_MODEL: model,
            says.SERVER_ADDRESS: address,
            says.SERVER_PORT: port,
            says.LEG: self._leg,
            says.CALL_NUMBER: self._calls,
            says.CALL_WHY: self._why,
            says.ROUTING_REASON: reason,
            says.ENGINE: says.name(replica.id),
            says.ENGINE_ROLE: replica.role or "both",
            says.DEVICE_CLASS: says.name(replica.device_class),
        }
        self._why = "failover"
        what = self._made.operation if self._leg == "whole" else self._leg
        span = self._made.tracer.start_span(f"{what} {model}", self._context, SpanKind.CLIENT, told)
        return CallTrace(span, _headers(span.get_span_context()))

    def answers(self, waited_seconds: float) -> None:
        """The first byte of the answer is there."""
        if not self._records or self._route is None:
            return
        self._span.set_attribute(says.RESPONSE_MODEL, says.name(self._route.model))
        if self._stream:
            self._span.set_attribute(says.FIRST_CHUNK_SECONDS, waited_seconds)

    def saw(self, data: bytes) -> None:
        """A part of the answer: only why it ended is taken from it."""
        if self._records and len(self._reasons) < says.MAX_REASONS:
            self._reasons += says.finish_reasons(data)

    def settled(self, counts: TokenCounts, outcome: str) -> None:
        """What is billed."""
        if self._records:
            self._span.set_attributes({**_usage(counts), says.OUTCOME: outcome})

    def failed(self, code: str) -> None:
        """What the client is told when it is too late for a status."""
        self._error = code

    def end(self, status: int, code: str = "", variant: str = "") -> None:
        """The answer is over; ``code``: of the error that it was. A mistake of the client's is told by its
        type and is no failure of ours."""
        if not self._records:
            return
        error = code or self._error
        self._span.set_attribute(says.HTTP_STATUS, status)
        if self._reasons:
            self._span.set_attribute(says.FINISH_REASONS, self._reasons[: says.MAX_REASONS])
        if variant:
            self._span.set_attribute(says.VARIANT, variant)
        if error or status >= 500:
            self._span.set_attribute(says.ERROR_TYPE, error or str(status))
        if status >= 500 or (error and status < 400):
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def _usage(counts: TokenCounts) -> dict[str, int]:
    told = {
        says.INPUT_TOKENS: says.count(counts.prompt),
        says.OUTPUT_TOKENS: says.count(counts.completion),
    }
    if counts.cached:
        told[says.CACHED_TOKENS] = says.count(counts.cached)
    return told


def _headers(context: SpanContext) -> dict[str, str]:
    if not context.is_valid:
        return {}
    told = {"traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"}
    if context.trace_state:
        told["tracestate"] = context.trace_state.to_header()
    return told
