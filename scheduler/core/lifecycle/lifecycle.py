"""What becomes of a workload: from its spec, its state and what is seen of its ranks to its next state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

LOOP_CRASHES, LOOP_CRASHES_AFTER_READY = 2, 5
"""So many failures in a row are no accident: of what never answered, and of what did each time."""
LONG_RUN_MS = 600_000
"""After this long a gang has proven itself: its next failure backs off from the start again."""

Phase = Literal[
    "Pending",
    "Starting",
    "Running",
    "Ready",
    "Restarting",
    "CrashLoopBackOff",
    "Preempting",
    "Resizing",
    "Migrating",
    "Stopping",
    "Suspended",
    "Succeeded",
    "Failed",
]
RankState = Literal["Assigned", "Starting", "Running", "Ready", "Exited", "Lost"]

PLACED: frozenset[str] = frozenset(("Starting", "Running", "Ready"))
"""Phases in which the gang should run."""
BACKING_OFF: frozenset[str] = frozenset(("Restarting", "CrashLoopBackOff"))
"""Phases in which the gang has ended and waits for its next start."""
LEAVING: frozenset[str] = frozenset(("Preempting", "Resizing", "Migrating"))
"""Phases in which the gang is told to end, and has its grace."""
HOLDING: frozenset[str] = PLACED | LEAVING | BACKING_OFF
"""Phases in which the placement is held."""
FINISHED: frozenset[str] = frozenset(("Succeeded", "Failed"))


@dataclass(frozen=True)
class Restarts:
    """``resources.workload.RestartPolicy``."""

    policy: Literal["Always", "OnFailure", "Never"]
    max_restarts: int | None
    backoff_seconds: float
    backoff_max_seconds: float
    max_crashes: int = 0


@dataclass(frozen=True)
class Rank:
    """A rank as it was or as it is seen. ``start_timeout_seconds``: None where the role has no readiness.
    ``forgotten``: its node answers, and knows nothing of it."""

    rank: int
    role: str
    node: str
    state: RankState
    started_ms: int | None = None
    exit_code: int | None = None
    start_timeout_seconds: float | None = None
    detail: str = ""
    forgotten: bool = False


@dataclass(frozen=True)
class State:
    """The part of a workload's status that is decided here. ``backoff_step`` counts restarts since the last
    long run, ``crashes`` those of them that followed a failure. ``next_start_ms``: end of the back-off; of a
    gang that runs, before which no other is started beside it. ``leaves_by_ms``: end of the grace of a gang
    that was told to end."""

    phase: Phase = "Pending"
    attempt: int = 0
    restarts: int = 0
    backoff_step: int = 0
    next_start_ms: int | None = None
    leaves_by_ms: int | None = None
    message: str = ""
    crashes: int = 0


@dataclass(frozen=True)
class Successor:
    """The gang that is to take the place of the current one. ``beside``: it runs already; else it starts when
    the current one has ended. ``usable``: its places are, and it is what the spec says."""

    attempt: int
    ranks: tuple[Rank, ...]
    beside: bool
    usable: bool = True


@dataclass(frozen=True)
class Seen:
    """What is observed of a workload.

    ``alive``: any process of it, of any attempt. ``places_usable``: those that it holds. ``spec_changed``:
    the gang runs other roles than the spec says; ``may_surge``: the new one is to start beside it then.
    ``told``: the gang was told to end. ``leave``: why it cannot stay where it is, in words. ``barred``: why
    it may not run at all for now.
    """

    ranks: tuple[Rank, ...] = ()
    alive: bool = False
    places_usable: bool = True
    spec_changed: bool = False
    may_surge: bool = False
    told: bool = False
    leave: str = ""
    grace_seconds: float = 0.0
    successor: Successor | None = None
    barred: str = ""


@dataclass(frozen=True)
class Note:
    """Something worth an event."""

    reason: str
    message: str
    level: Literal["info", "warning", "error"] = "info"


@dataclass(frozen=True)
class Step:
    """The next state, and what happened. ``release``: give up the places held; a cycle finds new ones.
    ``succeed``: the successor is the current gang now. ``drop``: there is no successor any more."""

    state: State
    notes: tuple[Note, ...] = ()
    release: bool = False
    succeed: bool = False
    drop: bool = False


def advance(restarts: Restarts, suspend: bool, state: State, seen: Seen, now_ms: int) -> Step:
    """One step. Repeating it with what it returned and the same view changes nothing more."""
    if state.phase in FINISHED:
        return Step(state)
    if suspend:
        return _suspend(state, seen)
    if seen.barred and state.phase in PLACED | BACKING_OFF:
        return _bar(state, seen, now_ms)
    return _PHASES[state.phase](restarts, state, seen, now_ms)


def _suspend(state: State, seen: Seen) -> Step:
    if seen.alive:
        notes = (
            () if state.phase == "Stopping" else (Note("Suspending", "stopping because spec.suspend is set"),)
        )
        return Step(
            replace(state, phase="Stopping", message="stopping: spec.suspend is set"), notes, release=True
        )
    notes = () if state.phase == "Suspended" else (Note("Suspended", "suspended: spec.suspend is set"),)
    message = "suspended: set spec.suspend to false to go on"
    return Step(replace(state, phase="Suspended", message=message, next_start_ms=None), notes, release=True)


def _bar(state: State, seen: Seen, now_ms: int) -> Step:
    """It ends as if preempted, with its grace and at no cost of restarts, and waits until it may run."""
    if state.phase in BACKING_OFF:
        return Step(replace(state, phase="Pending", next_start_ms=None, message=seen.barred), release=True)
    leaving = replace(
        state,
        phase="Preempting",
        leaves_by_ms=now_ms + round(seen.grace_seconds * 1000),
        message=seen.barred,
    )
    note = Note("Stopping", f"{seen.barred}; it has {seen.grace_seconds:g} s to end", "warning")
    return Step(leaving, (note,), drop=True)


def _resume(restarts: Restarts, state: State, seen: Seen, now_ms: int) -> Step:
    if seen.alive:
        return Step(state)
    fresh = replace(state, phase="Pending", backoff_step=0, crashes=0, next_start_ms=None, message="")
    return Step(fresh, (Note("Resumed", "waits for a place again"),), release=True)


def _wait(restarts: Restarts, state: State, seen: Seen, now_ms: int) -> Step:
    return Step(state)


def _restart_when_due(restarts: Restarts, state: State, seen: Seen, now_ms: int) -> Step:
    if not seen.places_usable:
        note = Note("Replaced", "its place is gone; waits for a new one", "warning")
        return Step(replace(state, phase="Pending"), (note,), release=True)
    if seen.alive or now_ms < (state.next_start_ms or 0):
        return Step(state)
    return Step(replace(state, phase="Starting", attempt=state.attempt + 1, next_start_ms=None, message=""))


def _watch(restarts: Restarts, state: State, seen: Seen, now_ms: int) -> Step:
    """A gang that should run: has it ended, got lost, changed, or become ready? Has its successor?"""
    if seen.successor is not None and seen.successor.beside:
        step = _succession(restarts, state, seen, seen.successor, now_ms)
        if step is not None:
            return step
    elif seen.spec_changed and not seen.may_surge:
        note = Note("SpecChanged", "spec.roles changed; the gang is stopped and placed anew")
        return Step(
            replace(
                state, phase="Pending", message=note.message, backoff_step=0, crashes=0, next_start_ms=None
            ),
            (note,),
            release=True,
        )
    lost = [rank for rank in seen.ranks if rank.state == "Lost"]
    if lost:
        return _after_loss(restarts, state, seen, lost, now_ms)
    broken = _broken(seen.ranks, now_ms)
    if broken:
        return _after_exit(restarts, state, seen, broken, now_ms, failed=True)
    ended = [rank for rank in seen.ranks if rank.state == "Exited"]
    if ended and restarts.policy == "Always":
        text = f"rank {ended[0].rank} ({ended[0].role}) ended with exit code 0"
        return _after_exit(restarts, state, seen, text, now_ms, failed=False)
    if ended and len(ended) == len(seen.ranks):
        done = replace(state, phase="Succeeded", message="every rank ended with exit code 0")
        return Step(done, (Note("Succeeded", done.message),))
    if seen.leave and restarts.policy != "Never":
        leaves_by_ms = now_ms + round(seen.grace_seconds * 1000)
        leaving = replace(state, phase="Migrating", leaves_by_ms=leaves_by_ms, message=seen.leave)
        return Step(leaving, (Note("Leaving", seen.leave, "warning"),))
    return _health(state, seen)


def _succession(
    restarts: Restarts, state: State, seen: Seen, successor: Successor, now_ms: int
) -> Step | None:
    """What the gang beside the current one means for it; None = nothing yet."""
    problem = _broken(successor.ranks, now_ms)
    lost = [rank for rank in successor.ranks if rank.state == "Lost"]
    if not problem and (lost or not successor.usable):
        problem = "its place is gone" if lost else "it is not what the spec says now, or cannot stay"
    if problem:
        waiting = replace(_back_off(restarts, state, seen, now_ms), message=f"the new gang failed: {problem}")
        return Step(waiting, (Note("SuccessorFailed", waiting.message, "warning"),), drop=True)
    fresh = replace(
        state, attempt=successor.attempt, backoff_step=0, crashes=0, next_start_ms=None, message=""
    )
    if _is_ready(successor.ranks):
        note = Note("TookOver", f"attempt {successor.attempt} is ready and takes over")
        return Step(replace(fresh, phase="Ready"), (note,), succeed=True)
    ended = any(rank.state in ("Lost", "Exited") for rank in seen.ranks)
    if ended or seen.leave or _broken(seen.ranks, now_ms):
        text = f"attempt {state.attempt} cannot go on, so attempt {successor.attempt} takes over at once"
        return Step(replace(fresh, phase="Starting"), (Note("TookOver", text, "warning"),), succeed=True)
    return None


def _is_ready(ranks: tuple[Rank, ...]) -> bool:
    """Whether every rank that is asked answers, and the others run."""
    return all(
        rank.state == "Ready" or (rank.state == "Running" and rank.start_timeout_seconds is None)
        for rank in ranks
    )


def _leave(restarts: Restarts, state: State, seen: Seen, now_ms: int) -> Step:
    """A gang that was told to end, or is to be told."""
    ended = bool(seen.ranks) and all(rank.state == "Exited" and rank.exit_code == 0 for rank in seen.ranks)
    if ended and not seen.told and restarts.policy != "Always":
        done = replace(
            state, phase="Succeeded", leaves_by_ms=None, message="every rank ended with exit code 0"
        )
        return Step(done, (Note("Succeeded", done.message),), drop=True)
    if seen.alive:
        return Step(state)
    fresh = replace(state, next_start_ms=None, leaves_by_ms=None)
    successor = seen.successor
    if successor is not None and successor.usable and not seen.barred:
        what = "with other ranks" if state.phase == "Resizing" else "at its new place"
        note = Note("Resized" if state.phase == "Resizing" else "Migrated", f"starts again {what}")
        started = replace(fresh, phase="Starting", attempt=successor.attempt, message="")
        return Step(started, (note,), succeed=True)
    why = f": {state.message}" if state.message else ""
    note = Note(
        "Preempted" if state.phase == "Preempting" else "Left", f"has ended, and waits for a new place{why}"
    )
    return Step(replace(fresh, phase="Pending"), (note,), release=True, drop=True)


def _broken(ranks: tuple[Rank, ...], now_ms: int) -> str:
    """Why the gang has failed, in words; empty while it has not."""
    for rank in ranks:
        if rank.state == "Exited" and rank.exit_code != 0:
            return f"rank {rank.rank} ({rank.role}) on {rank.node} ended with exit code {rank.exit_code}"
        late = (
            rank.start_timeout_seconds is not None
            and rank.state == "Starting"
            and rank.started_ms is not None
        )
        if late and now_ms - (rank.started_ms or 0) > (rank.start_timeout_seconds or 0) * 1000:
            return f"rank {rank.rank} ({rank.role}) was not ready after {rank.start_timeout_seconds:g} s"
    return ""


def _after_loss(restarts: Restarts, state: State, seen: Seen, lost: list[Rank], now_ms: int) -> Step:
    """A node that is lost, or was started again, is not the workload's fault: it counts towards the back-off,
    but not towards max_restarts."""
    gone = [rank for rank in lost if not rank.forgotten]
    nodes = ", ".join(sorted({rank.node for rank in gone or lost}))
    ranks = ", ".join(str(rank.rank) for rank in lost)
    text, note = f"lost rank {ranks} with node {nodes}", Note("NodeLost", "", "error")
    if not gone:
        text = f"node {nodes} was started again, and rank {ranks} has ended with what ran there"
        note = Note("NodeRestarted", "", "warning")
    note = replace(note, message=text)
    if restarts.policy == "Never":
        return _fail(state, f"{text}, and restart.policy is Never", note)
    waiting = _back_off(restarts, state, seen, now_ms)
    return Step(replace(waiting, phase="Pending", message=text), (note,), release=True)


def _after_exit(
    restarts: Restarts, state: State, seen: Seen, text: str, now_ms: int, *, failed: bool
) -> Step:
    if restarts.policy == "Never":
        return _fail(state, f"{text}, and restart.policy is Never")
    if restarts.max_restarts is not None and state.restarts >= restarts.max_restarts:
        return _fail(state, f"{text}, after {state.restarts} restarts (restart.maxRestarts)")
    waiting = _back_off(restarts, state, seen, now_ms)
    crashes = (0 if _has_run_long(state, seen, now_ms) else state.crashes) + 1 if failed else 0
    if restarts.max_crashes and crashes > restarts.max_crashes:
        return _fail(state, f"{text}, after {state.crashes} restarts in a row (restart.maxCrashes)")
    delay = ((waiting.next_start_ms or now_ms) - now_ms) / 1000
    message = f"{text}; starts again in {delay:g} s"
    accidents = LOOP_CRASHES_AFTER_READY if state.phase == "Ready" else LOOP_CRASHES
    phase: Phase = "CrashLoopBackOff" if crashes >= accidents else "Restarting"
    waiting = replace(waiting, phase=phase, restarts=state.restarts + 1, crashes=crashes, message=message)
    return Step(waiting, (Note(phase, message, "warning" if failed else "info"),))


def _has_run_long(state: State, seen: Seen, now_ms: int) -> bool:
    """Whether the gang has proven itself: one that was to answer did, and went on for long enough."""
    started = min((rank.started_ms for rank in seen.ranks if rank.started_ms is not None), default=now_ms)
    return state.phase != "Starting" and now_ms - started >= LONG_RUN_MS


def _back_off(restarts: Restarts, state: State, seen: Seen, now_ms: int) -> State:
    started = min((rank.started_ms for rank in seen.ranks if rank.started_ms is not None), default=now_ms)
    step = 0 if now_ms - started >= LONG_RUN_MS else state.backoff_step
    delay = min(restarts.backoff_max_seconds, restarts.backoff_seconds * 2.0 ** min(step, 32))
    return replace(state, backoff_step=step + 1, next_start_ms=now_ms + round(delay * 1000))


def _fail(state: State, message: str, *notes: Note) -> Step:
    failed = replace(state, phase="Failed", message=message, next_start_ms=None)
    return Step(failed, (*notes, Note("Failed", message, "error")))


def _health(state: State, seen: Seen) -> Step:
    probed = [
        rank for rank in seen.ranks if rank.start_timeout_seconds is not None and rank.state != "Exited"
    ]
    phase: Phase
    if any(rank.state in ("Assigned", "Starting") for rank in seen.ranks):
        phase = "Starting"
    elif probed and all(rank.state == "Ready" for rank in probed):
        phase = "Ready"
    else:
        phase = "Running"
    if phase == state.phase:
        return Step(state)
    notes = {
        "Ready": (Note("Ready", f"every rank of attempt {state.attempt} is ready"),),
        "Running": (Note("Unready", "a rank does not answer its readiness probe", "warning"),)
        if state.phase == "Ready"
        else (Note("Running", f"every rank of attempt {state.attempt} runs"),),
    }
    return Step(replace(state, phase=phase, message=""), notes.get(phase, ()))


_PHASES: dict[str, Callable[[Restarts, State, Seen, int], Step]] = {
    "Pending": _wait,
    "Starting": _watch,
    "Running": _watch,
    "Ready": _watch,
    "Restarting": _restart_when_due,
    "CrashLoopBackOff": _restart_when_due,
    "Preempting": _leave,
    "Resizing": _leave,
    "Migrating": _leave,
    "Stopping": _resume,
    "Suspended": _resume,
}
