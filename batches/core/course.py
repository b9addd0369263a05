"""How a batch goes from state to state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

State = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
Ending = Literal["", "completed", "expired", "cancelled"]
ENDED = frozenset(("completed", "failed", "expired", "cancelled"))
NEXT: Mapping[State, frozenset[State]] = {
    "validating": frozenset(("failed", "in_progress", "cancelling", "finalizing")),
    "in_progress": frozenset(("finalizing", "cancelling")),
    "finalizing": frozenset(("completed", "expired")),
    "cancelling": frozenset(("cancelled",)),
    "failed": frozenset(),
    "completed": frozenset(),
    "expired": frozenset(),
    "cancelled": frozenset(),
}
"""State -> those that may follow it."""


@dataclass(frozen=True)
class Seen:
    """What is known of a batch: its state and what it comes to, whether its end is asked for, lines in all
    (0 = not known yet) and those with an outcome, and its time."""

    state: State
    ending: Ending
    is_cancelled: bool
    total: int
    done: int
    now_ms: int
    expires_ms: int


@dataclass(frozen=True)
class Step:
    """The state that a batch is to have, and what it comes to while its files are written."""

    state: State
    ending: Ending = ""


def next_step(seen: Seen) -> Step:
    """Where the batch goes on by itself: a check, and the writing of files, are done by somebody, who says
    what came of it."""
    if seen.state not in ("validating", "in_progress"):
        return Step(seen.state, seen.ending)
    if seen.state == "in_progress" and seen.done >= seen.total:
        return Step("finalizing", "completed")
    if seen.is_cancelled:
        return Step("cancelling", "cancelled")
    if seen.now_ms >= seen.expires_ms:
        return Step("finalizing", "expired")
    return Step(seen.state)
