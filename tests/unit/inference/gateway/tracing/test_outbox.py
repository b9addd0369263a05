"""No request waits for the collector, and no more spans wait for it than are allowed."""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import REGISTRY

from inference.gateway.tracing import outbox
from inference.gateway.tracing.outbox import Outbox, keep_libraries_quiet


class Collector(SpanExporter):
    """Takes spans when it is let, and answers as it is told."""

    def __init__(self, answer: SpanExportResult | Exception = SpanExportResult.SUCCESS) -> None:
        self.answer = answer
        self.let = threading.Event()
        self.busy = threading.Event()
        self.taken: list[str] = []
        self.ended = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.busy.set()
        self.let.wait(10)
        if isinstance(self.answer, Exception):
            raise self.answer
        self.taken += [span.name for span in spans]
        return self.answer

    def shutdown(self) -> None:
        self.ended = True


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("computility_gateway_spans_total", {"outcome": outcome}) or 0


def end_spans(box: Outbox, count: int) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(box)
    tracer = provider.get_tracer("test")
    for number in range(count):
        tracer.start_span(str(number)).end()


def test_while_the_collector_hangs_nobody_waits_and_no_more_is_kept_than_allowed() -> None:
    collector, before = Collector(), counted("dropped")
    box = Outbox(collector, 10)
    began_seconds = time.process_time()
    end_spans(box, 5000)
    assert time.process_time() - began_seconds < 5
    assert counted("dropped") - before >= 5000 - 2 * 10
    assert len(box._batch_processor._queue) <= 10
    collector.let.set()
    box.shutdown()
    assert len(collector.taken) + counted("dropped") - before == 5000


@pytest.mark.parametrize("answer", [SpanExportResult.FAILURE, OSError("away"), ValueError("odd")])
def test_what_the_collector_does_not_take_is_counted_and_does_no_harm(
    answer: SpanExportResult | Exception,
) -> None:
    collector = Collector(answer)
    collector.let.set()
    failed, sent, dropped = counted("failed"), counted("sent"), counted("dropped")
    box = Outbox(collector, 100)
    end_spans(box, 60)
    box.force_flush()
    collector.answer = SpanExportResult.SUCCESS
    end_spans(box, 90)
    box.force_flush()
    assert (counted("failed") - failed, counted("sent") - sent) == (60, 90)
    assert counted("dropped") == dropped  # there is room again for what was given up
    box.shutdown()
    assert collector.ended


async def test_the_end_sends_what_is_left_but_waits_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Collector()
    collector.let.set()
    box = Outbox(collector, 100)
    end_spans(box, 3)
    await box.close()
    assert collector.taken == ["0", "1", "2"]

    monkeypatch.setattr(outbox, "FAREWELL_SECONDS", 0.05)
    hanging = Collector()
    box = Outbox(hanging, 100)
    end_spans(box, 3)
    async with asyncio.timeout(5):
        await box.close()
    assert hanging.taken == []
    hanging.let.set()


def test_the_library_writes_no_line_for_each_span(caplog: pytest.LogCaptureFixture) -> None:
    keep_libraries_quiet()
    logging.getLogger("opentelemetry.sdk._shared_internal").warning("Queue full, dropping Span.")
    assert not caplog.records
