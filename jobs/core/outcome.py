"""What becomes of a job: from what it asks for, what its workload does and the time to its next phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Phase = Literal[
    "Pending", "Running", "Retrying", "Stopping", "Collecting", "Succeeded", "Failed", "Cancelled"
]
COMPLETED = "Completed"
CANCELS = ("Cancelled", "Idle")
"""Reasons of an end that is neither a success nor a failure."""
CANNOT_START_CODES = frozenset((126, 127))
"""Of shells and of what starts the command: there is no such program, or it is none. To try again is in
vain."""
_RUNS = frozenset(("Running", "Ready", "Preempting", "Resizing", "Migrating", "Stopping"))
_OVER = frozenset(("Suspended", "Succeeded", "Failed"))


@dataclass(frozen=True)
class RankEnd:
    """How a rank of the last attempt is; None where it has not ended by itself."""

    rank: int
    exit_code: int | None = None
    finished_ms: int | None = None


@dataclass(frozen=True)
class Asked:
    """What holds of a job from before: ``ending`` is why it ends or has ended, empty = it does not.
    ``trouble``: why it may not go on, as its folder has grown too large."""

    cancelled: bool = False
    deadline_seconds: int | None = None
    started_ms: int | None = None
    ending: str = ""
    ending_message: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class Seen:
    """Its workload. ``started_ms``: of the first rank of this attempt. ``idle``: its session had no input for
    as long as it may."""

    phase: str
    attempt: int = 0
    ranks: tuple[RankEnd, ...] = ()
    started_ms: int | None = None
    message: str = ""
    idle: bool = False


@dataclass(frozen=True)
class Outcome:
    """Where the job is now. ``stop``: its processes are to be ended. ``final``: what it is when what it left
    is kept."""

    phase: Phase
    reason: str = ""
    message: str = ""
    stop: bool = False
    final: Literal["", "Succeeded", "Failed", "Cancelled"] = ""


def judge(asked: Asked, seen: Seen | None, now_ms: int) -> Outcome:
    """The outcome; the same again for what it led to."""
    if seen is not None and seen.phase == "Succeeded":
        return Outcome("Collecting", COMPLETED, final="Succeeded")
    ending = _ending(asked, seen, now_ms)
    if ending is not None:
        reason, message = ending
        if seen is None or seen.phase in _OVER:
            return Outcome("Collecting", reason, message, final=_final(reason))
        return Outcome("Stopping", reason, message, stop=True)
    if seen is None:
        return Outcome("Pending")
    if seen.phase == "Failed":
        return Outcome("Collecting", "BackoffLimitExceeded", _failure(seen), final="Failed")
    if seen.phase in _RUNS:
        return Outcome("Running")
    if seen.phase == "Restarting":
        return Outcome("Retrying", "Retrying", _failure(seen))
    return Outcome("Pending" if seen.attempt <= 1 else "Retrying", message=seen.message)


def first_failure(ranks: Sequence[RankEnd]) -> RankEnd | None:
    """The rank that failed before the others were ended with it; None where none failed."""
    failed = [rank for rank in ranks if rank.exit_code]
    return min(
        failed, key=lambda rank: (rank.finished_ms is None, rank.finished_ms or 0, rank.rank), default=None
    )


def exit_code_of(ranks: Sequence[RankEnd]) -> int | None:
    """That of the first failure; 0 where all ended well, None where not all have ended."""
    failed = first_failure(ranks)
    if failed is not None:
        return failed.exit_code
    return 0 if ranks and all(rank.exit_code == 0 for rank in ranks) else None


def _ending(asked: Asked, seen: Seen | None, now_ms: int) -> tuple[str, str] | None:
    """Why the job is to end before its time, in a word and in words. What was said once stays."""
    if asked.ending:
        return asked.ending, asked.ending_message
    if asked.cancelled:
        return "Cancelled", "it was cancelled"
    if asked.trouble:
        return "FolderTooLarge", asked.trouble
    failed = first_failure(seen.ranks) if seen is not None else None
    if failed is not None and failed.exit_code in CANNOT_START_CODES:
        return "CannotStart", f"{_words(failed)}: the command cannot be started, see its log"
    if seen is not None and seen.idle and seen.phase not in _OVER:
        return "Idle", "its session had no input for spec.session.idleSeconds"
    deadline = asked.deadline_seconds
    if deadline is None or asked.started_ms is None or now_ms < asked.started_ms + 1000 * deadline:
        return None
    return "DeadlineExceeded", f"it has run for its deadline of {deadline} s"


def _final(reason: str) -> Literal["Succeeded", "Failed", "Cancelled"]:
    if reason == COMPLETED:
        return "Succeeded"
    return "Cancelled" if reason in CANCELS else "Failed"


def _failure(seen: Seen) -> str:
    failed = first_failure(seen.ranks)
    attempts = "1 attempt" if seen.attempt == 1 else f"{seen.attempt} attempts"
    return f"{_words(failed) if failed else seen.message or 'it was lost'}, after {attempts}"


def _words(failed: RankEnd) -> str:
    code = failed.exit_code or 0
    signal = f" (signal {code - 128})" if 128 < code < 160 else ""
    return f"exit code {code}{signal} of rank {failed.rank}"
