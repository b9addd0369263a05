"""Spans on their way to the collector: sent from a thread of its own, and dropped rather than waited for."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from common.telemetry import get_logger
from inference.gateway import metrics

BATCH_SPANS = 256
"""Sent together. To write so many takes the processor some milliseconds, in which requests wait."""
PERIOD_MS = 1000
FAREWELL_SECONDS = 3.0
"""So long a gateway that ends waits for the collector to take what is left."""
_log = get_logger("gateway.tracing")


class Counted(SpanExporter):
    """An exporter of which it is told how many spans it sent, once for all when it fails and works again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.taken = 0
        """Spans that do not wait any more."""
        self._exporter = exporter
        self._works = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """As the exporter does; never raises."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001 - the boundary to the exporter: no thread ends by it
            _log.error("spans could not be sent", error=type(error).__name__)
            result = SpanExportResult.FAILURE
        self.taken += len(spans)
        works = result is SpanExportResult.SUCCESS
        metrics.SPANS.labels("sent" if works else "failed").inc(len(spans))
        if works != self._works:
            self._works = works
            if works:
                _log.info("the collector takes spans again")
            else:
                _log.warning("the collector takes no spans: they are dropped and counted")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class Outbox(BatchSpanProcessor):
    """Holds so many spans at most; what comes when it is full is dropped and counted."""

    def __init__(self, exporter: SpanExporter, most: int) -> None:
        self._counted = Counted(exporter)
        self._most, self._ended = most, 0
        super().__init__(
            self._counted,
            max_queue_size=most,
            schedule_delay_millis=PERIOD_MS,
            max_export_batch_size=min(BATCH_SPANS, most),
        )

    def on_end(self, span: ReadableSpan) -> None:
        if self._ended - self._counted.taken >= self._most:
            metrics.SPANS.labels("dropped").inc()
            return
        self._ended += 1
        super().on_end(span)

    async def close(self) -> None:
        """Send what waits, for a while: nobody waits longer for a collector that does not answer."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def send_all() -> None:
            self.shutdown()
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=send_all, name="last-spans", daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), FAREWELL_SECONDS)


def keep_libraries_quiet() -> None:
    """OpenTelemetry's loggers would write a line for each span that is dropped, past our log."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
