"""What engines have counted, held against the events that name them. Pure.

A window of an engine begins where nothing was under way: at the start of its process, or at a cut between
two readings in which it did nothing. It ends at a later reading. Each event of the window stands for a lowest
and a highest count that the engine must have: both are the same where all is known, and rules say why where
they are not. So nothing is let pass for being small.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

CLOCKS_APART_MS = 5_000
"""So far the clocks of gateways and of control may be apart: an event that began or ended so near to a cut
may lie on either side of it."""
CUT_OFF = frozenset({"cancelled", "engine_failed", "gateway_lost"})
"""Outcomes of requests that ended before their answers did: billed is what was delivered or told by then, and
the engine may have made more."""

Part = Literal["all", "reading", "answering", "beginning", "rest"]
Result = Literal["equal", "within", "open", "unbilled", "drift"]


@dataclass(frozen=True)
class Counts:
    """Tokens of prompts and of answers as an engine counts them, and the sequences that it has begun: those
    of which there was a first token."""

    prompt: int = 0
    completion: int = 0
    sequences: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.sequences + other.sequences,
        )

    def beyond(self, other: Counts) -> Counts:
        """What of this is more than ``other`` has, count by count."""
        return Counts(
            max(0, self.prompt - other.prompt),
            max(0, self.completion - other.completion),
            max(0, self.sequences - other.sequences),
        )

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion


@dataclass(frozen=True)
class Reading:
    """What a process of an engine has counted from its start to ``at_ms``. ``process`` is another one after a
    restart. ``under_way``: sequences that are running or wait. ``quiet``: nothing was under way for a while
    before and after."""

    process: str
    at_ms: int
    counts: Counts
    under_way: int = 0
    quiet: bool = False


@dataclass(frozen=True)
class EventGroup:
    """Events that are alike, and their sums. ``prompt_counted`` has each prompt once for every choice,
    ``sequences`` are choices times prompts of the requests.

    ``edge``: they began or ended at or beyond an end of the window, so that it may hold any part of them.
    ``part``: which part of the work the engine has done: all of it, only the ``reading`` of prompts, the
    ``answering`` of prompts that another one had read, the ``beginning`` of answers that another one went on
    with, or the ``rest`` of these.
    """

    outcome: str
    events: int
    prompt: int
    completion: int
    prompt_counted: int
    sequences: int
    edge: bool = False
    part: Part = "all"


@dataclass(frozen=True)
class Bounds:
    """The lowest and the highest count that fit the events. ``cut_off``: requests that may have made more."""

    low: Counts = Counts()
    high: Counts = Counts()
    cut_off: int = 0

    def __add__(self, other: Bounds) -> Bounds:
        return Bounds(self.low + other.low, self.high + other.high, self.cut_off + other.cut_off)


@dataclass(frozen=True)
class Finding:
    """A window and what came of it.

    ``equal``: counted is what the events say. ``within``: it lies between their bounds. ``open``: there is
    more, of requests that were under way at an end and of which there are no events yet. ``unbilled``: the
    engine has made more, for requests that were cut off, or of which nobody got an answer (``unanswered``
    sequences). ``drift``: none of the rules explains it; ``missing`` is billed and was not counted,
    ``surplus`` counted and not billed.
    """

    from_ms: int
    to_ms: int
    counted: Counts
    bounds: Bounds
    result: Result
    missing: Counts = Counts()
    surplus: Counts = Counts()
    unanswered: int = 0


def bounds_of(group: EventGroup) -> Bounds:
    """By the rules: an engine counts a prompt once for each choice; what was cut off has begun at least one
    sequence, and nobody knows how many; of work that two engines shared, each has done some part."""
    whole = Counts(group.prompt_counted, group.completion, group.sequences)
    cut_off = group.events if group.outcome in CUT_OFF else 0
    if group.part == "reading":
        return Bounds(Counts(), Counts(group.prompt, group.events, group.events), cut_off)
    if group.part == "rest":
        # It was given the answer so far as a part of its prompt.
        return Bounds(Counts(), Counts(whole.tokens, group.completion, group.sequences), cut_off)
    if group.edge or group.part == "beginning":
        return Bounds(Counts(), whole, cut_off)
    if group.part == "answering":
        return Bounds(Counts(0, group.completion, 0), whole, cut_off)
    if cut_off:
        return Bounds(Counts(group.prompt, group.completion, group.events), whole, cut_off)
    return Bounds(whole, whole)


def judge(begin: Reading, end: Reading, groups: Iterable[EventGroup]) -> Finding:
    """The window between two readings of one process."""
    counted = end.counts.beyond(begin.counts)
    groups = list(groups)
    bounds = sum((bounds_of(group) for group in groups), start=Bounds())
    at_the_edges = sum(group.sequences for group in groups if group.edge)
    missing, surplus = bounds.low.beyond(counted), counted.beyond(bounds.high)
    unanswered = surplus.sequences
    result: Result
    if missing.tokens:
        result = "drift"
    elif surplus.tokens and begin.under_way + end.under_way > at_the_edges:
        result = "open"
    elif surplus.tokens:
        result = "unbilled" if unanswered or bounds.cut_off else "drift"
    else:
        result = "equal" if bounds.low == bounds.high else "within"
    return Finding(begin.at_ms, end.at_ms, counted, bounds, result, missing, surplus, unanswered)
