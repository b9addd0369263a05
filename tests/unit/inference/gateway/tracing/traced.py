"""A gateway whose spans are kept in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.unit.inference.gateway.front_scene import Front, front_scene

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C


class Spans:
    """All that were sent to the collector."""

    def __init__(self, front: Front, exporter: InMemorySpanExporter) -> None:
        self._front, self._exporter = front, exporter

    @property
    def all(self) -> list[ReadableSpan]:
        """In the order in which they ended."""
        assert self._front.gateway.tracer is not None
        self._front.gateway.tracer._outbox.force_flush()
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    @property
    def request(self) -> ReadableSpan:
        """The one of the only request."""
        [span] = [span for span in self.all if span.kind.name == "SERVER"]
        return span

    @property
    def calls(self) -> list[ReadableSpan]:
        """Those of calls of engines, as they began."""
        found = [span for span in self.all if span.kind.name == "CLIENT"]
        return sorted(found, key=lambda span: told(span)["computility.call.number"])


def told(span: ReadableSpan) -> dict[str, Any]:
    """What a span says."""
    return dict(span.attributes or {})


def identity(span: ReadableSpan) -> tuple[int, int]:
    """Of its trace and its own."""
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


@asynccontextmanager
async def traced(
    home: Path, monkeypatch: pytest.MonkeyPatch, engines: int = 1, **tracing: Any
) -> AsyncIterator[tuple[Front, Spans]]:
    """The scene while it runs."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr("inference.gateway.tracing.tracer.OTLPSpanExporter", lambda url: exporter)
    for name, value in {"endpoint": "http://collector:4318", **tracing}.items():
        monkeypatch.setenv(f"COMPUTILITY_TRACING__{name.upper()}", str(value))
    async with front_scene(home, monkeypatch, engines=engines) as front:
        yield front, Spans(front, exporter)
