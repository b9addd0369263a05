"""Device time in whole seconds, cut into spans that come out the same however often they are derived."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Span ``index`` of a run: ``seconds`` to be charged; the seconds of all its spans add up to the whole
    run's."""

    index: int
    started_ms: int
    ended_ms: int
    seconds: int


def due_spans(
    started_ms: int, finished_ms: int | None, now_ms: int, interval_seconds: int, first_index: int
) -> list[Span]:
    """The spans from ``first_index`` on that are over: full intervals counted from the start, and, when the
    run has ended, the last one, rounded down to whole seconds."""
    end_ms = now_ms if finished_ms is None else finished_ms
    total_seconds = max(0, end_ms - started_ms) // 1000
    full = total_seconds // interval_seconds
    spans = [
        _span(started_ms, index, interval_seconds, interval_seconds) for index in range(first_index, full)
    ]
    rest = total_seconds - full * interval_seconds
    if finished_ms is not None and rest and full >= first_index:
        spans.append(_span(started_ms, full, interval_seconds, rest))
    return spans


def _span(started_ms: int, index: int, interval_seconds: int, seconds: int) -> Span:
    start = started_ms + index * interval_seconds * 1000
    return Span(index, start, start + seconds * 1000, seconds)
