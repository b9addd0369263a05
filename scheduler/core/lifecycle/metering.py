"""Device time of a run, cut into spans that come out the same however often they are derived."""

from __future__ import annotations

from dataclasses import dataclass

_DEVICE_SECOND = 1_000_000
"""A whole device for a second, in thousandths of a device times milliseconds."""


@dataclass(frozen=True)
class Span:
    """Part ``index`` of a run; its spans together are the whole of it."""

    index: int
    started_ms: int
    ended_ms: int


def due_spans(
    started_ms: int, finished_ms: int | None, now_ms: int, interval_seconds: int, first_index: int
) -> list[Span]:
    """The spans from ``first_index`` on that are over: full intervals counted from the start, and, when the
    run has ended, what is left of it. A run that took no time has none."""
    end_ms = now_ms if finished_ms is None else finished_ms
    interval_ms = 1000 * interval_seconds
    full, rest_ms = divmod(max(0, end_ms - started_ms), interval_ms)
    starts = [started_ms + index * interval_ms for index in range(first_index, full + 1)]
    spans = [Span(first_index + place, at, at + interval_ms) for place, at in enumerate(starts[:-1])]
    if finished_ms is not None and rest_ms and starts:
        spans.append(Span(full, starts[-1], starts[-1] + rest_ms))
    return spans


def device_seconds(started_ms: int, span: Span, millis: int) -> int:
    """What a span of a run that began at ``started_ms`` is charged, for so many thousandths of devices.

    Whole numbers that add up to the run's device time, rounded up once to a whole device-second: no run that
    took any time is free, and none is charged a device-second too much.
    """
    until_end = -(-millis * (span.ended_ms - started_ms) // _DEVICE_SECOND)
    until_start = -(-millis * (span.started_ms - started_ms) // _DEVICE_SECOND)
    return until_end - until_start
