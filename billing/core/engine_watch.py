"""The readings of one engine, and which windows of them are to be judged when. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from billing.core.reconciliation import Counts, Finding, Reading

SHORTEST_MS = 60_000
"""Of a window."""
SETTLE_MS = 60_000
"""So long after a reading its events should be in the ledger."""
PATIENCE_MS = 900_000
"""So long what is missing is looked for again: usage may wait in a gateway's spool."""
RETRY_MS = 120_000
GIVEN_UP_MS = 86_400_000
"""A window that could not be judged for so long is let go."""
LONGEST_PAST_MS = 3_600_000
"""A process that is older when it is first seen is followed from where it is quiet, not from its start."""
LONGEST_MS = 6 * 3_600_000
"""A window of an engine that is never quiet ends then, in the midst of requests."""
GROWTH = 0.5
"""A window that does not end, since the engine is never quiet, is judged each time it has grown by this part:
so the work of judging does not grow with its length."""
MOST_WINDOWS = 32
"""That wait to be judged; beyond, the last of them grows."""


@dataclass
class Window:
    """Two readings of one process. Not judged before ``again_ms``."""

    begin: Reading
    end: Reading
    again_ms: int

    @property
    def is_judged(self) -> bool:
        """Whether it was judged, and is to be judged again."""
        return self.again_ms > self.end.at_ms + SETTLE_MS


class EngineWatch:
    """One engine, whatever process runs it."""

    def __init__(self) -> None:
        self._last: Reading | None = None
        self._begin: Reading | None = None
        self._grown_ms = 0
        self._windows: list[Window] = []
        self._told: tuple[str, int, Counts, Counts] | None = None

    def saw(self, reading: Reading, started_ms: int = 0) -> None:
        """A reading, later than those before; one of another process ends what is known of the former.
        ``started_ms``: when its process was started, having counted nothing; 0 = not known."""
        if self._last is None or self._last.process != reading.process:
            self.lost()
            if 0 < reading.at_ms - started_ms < LONGEST_PAST_MS:
                self._begin = Reading(reading.process, started_ms, Counts(), quiet=True)
        cut = cut_of(self._last, reading)
        self._last = reading
        if self._begin is None:
            self._begin, self._grown_ms = (cut, 0) if cut.quiet else (None, 0)
        elif self._ends_at(cut):
            self._end(self._begin, cut)

    def lost(self) -> None:
        """The process is gone: its last reading ends its window. What it has counted since, nobody knows."""
        if self._begin is not None and self._last is not None and self._last.counts != self._begin.counts:
            self._end(self._begin, self._last)
        self._begin, self._last, self._grown_ms = None, None, 0

    def due(self, now_ms: int) -> Iterator[Window]:
        """The windows that are to be judged now."""
        yield from [window for window in self._windows if now_ms >= window.again_ms]

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing more to judge, and no process."""
        return self._last is None and not self._windows

    def judged(self, window: Window, finding: Finding, now_ms: int) -> bool:
        """Whether the finding is news. Where events may be on their way, the window is judged again."""
        unanswered = finding.result == "unbilled" and finding.unanswered > 0
        late = unanswered or (finding.result == "drift" and not finding.missing.tokens)
        if late and now_ms < window.end.at_ms + PATIENCE_MS:
            window.again_ms = now_ms + RETRY_MS
            return False
        self._windows.remove(window)
        told = (window.begin.process, finding.from_ms, finding.missing, finding.surplus)
        known, self._told = self._told == told, told
        return not (known and (finding.missing.tokens or finding.surplus.tokens))

    def postpone(self, window: Window, now_ms: int) -> None:
        """The window could not be judged now."""
        window.again_ms = now_ms + RETRY_MS
        if now_ms > window.end.at_ms + GIVEN_UP_MS and window in self._windows:
            self._windows.remove(window)

    def _ends_at(self, cut: Reading) -> bool:
        """Whether the window ends there, or is to be judged up to there."""
        assert self._begin is not None
        length_ms = cut.at_ms - self._begin.at_ms
        if cut.counts == self._begin.counts:
            return False
        return length_ms >= SHORTEST_MS and (cut.quiet or length_ms >= self._grown_ms)

    def _end(self, begin: Reading, end: Reading) -> None:
        """A window that was to be judged, and has grown, is judged as it is now."""
        self._windows = [one for one in self._windows if one.begin != begin or one.is_judged]
        if len(self._windows) < MOST_WINDOWS:
            self._windows.append(Window(begin, end, end.at_ms + SETTLE_MS))
            length_ms = end.at_ms - begin.at_ms
            ends = end.quiet or length_ms >= LONGEST_MS
            self._begin, self._grown_ms = (end, 0) if ends else (begin, round(length_ms * (1 + GROWTH)))


def cut_of(last: Reading | None, now: Reading) -> Reading:
    """Where a window may begin or end: in the midst of two readings between which nothing was done, else at
    the later one."""
    if last is None or now.under_way or replace(last, at_ms=now.at_ms) != now:
        return now
    return replace(now, at_ms=(last.at_ms + now.at_ms) // 2, quiet=True)
