"""What becomes of a world, as lines of text: who starts where, who gives way or moves for whom, and what
those are told that wait. What is told is told once, until it changes."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence

from scheduler.core.forecast import forecast
from scheduler.core.fragmentation.workload_mix import workload_mix_of
from scheduler.core.model.types import (
    WHOLE_MILLIS,
    Admit,
    Assignment,
    Decision,
    Defer,
    Placement,
    Preempt,
    Share,
)
from tests.unit.scheduler.crowded import crowded_world
from tests.unit.scheduler.life import GRACE_MS, Life
from tests.unit.scheduler.rich_worlds import lively_workload, lively_world, rich_workload, rich_world
from tests.unit.scheduler.worlds import GIB, NOW_MS, make_world

WORLDS = {
    "mixed": lambda rng: make_world(rng, 6, rng.choice((0.6, 1.2, 1.5)), 6),
    "crowded": crowded_world,
    "rich": rich_world,
    "disturbed": crowded_world,
    "lively": lively_world,
}
"""``disturbed``: people change something in nearly every cycle, and who gives way takes three of them to."""
ARRIVING = {"rich": rich_workload, "lively": lively_workload}
PREDICTED_SECONDS = 1800
SLOW_MS = 190_000


def story(kind: str, seed: int, cycles: int) -> Iterator[str]:
    """Of the world that the seed draws; things happen in it between cycles."""
    rng = random.Random(seed)
    grace_ms = SLOW_MS if kind == "disturbed" else GRACE_MS
    life = Life.of(WORLDS[kind](rng), grace_ms=grace_ms)
    if kind in ARRIVING:
        run = [one.workload for one in life.running.values()]
        life.workload_mix = workload_mix_of([*life.pending.values(), *run])
    yield from _expected(life)
    told: dict[str, str] = {}
    for number in range(cycles):
        at_seconds = (life.now_ms - NOW_MS) // 1000
        life.cycle()
        for decision in life.decided:
            line = line_of(decision)
            if told.get(decision.uid) != line:
                told[decision.uid] = line
                yield f"{at_seconds:4} {line}"
        life.happen(rng, number)
        if kind in ARRIVING and rng.random() < 0.4:
            life.arrive(ARRIVING[kind](rng, f"b{number}"))
        if rng.random() < (0.7 if kind == "disturbed" else 0.2):
            life.disturb(rng)
        if kind in ("rich", "disturbed") and rng.random() < 0.1:
            life.refurnish(rng)
    yield from _expected(life)
    yield from (
        f"     at the end, {uid}: {_places(one.placement)}" for uid, one in sorted(life.running.items())
    )


def _expected(life: Life) -> Iterator[str]:
    """When those that wait are expected to start, where every other run time is a guess."""
    uids = [*life.pending, *life.running]
    predicted_seconds = {uid: PREDICTED_SECONDS + 60 * number for number, uid in enumerate(uids)}
    found = forecast(life.snapshot(), life.world.policy, life.now_ms, 100, 4000, predicted_seconds)
    for uid, start_ms in sorted(found.starts.items()):
        guess = ", a guess" if uid in found.guessed else ""
        yield f"     expects {uid} at {(start_ms - life.now_ms) / 1000:g} s{guess}"


def line_of(decision: Decision) -> str:
    """All that a decision says, but the place in the order of those that wait."""
    uid = decision.uid
    if isinstance(decision, Admit):
        return f"starts {uid}: {_places(decision.placement)}"
    if isinstance(decision, Preempt):
        return f"stops {uid} for {decision.beneficiary}: {decision.message}"
    if isinstance(decision, Defer):
        return f"defers {uid}: {_answer(decision)}"
    kind = type(decision).__name__.lower()
    beneficiary = f" for {decision.beneficiary}" if decision.beneficiary else ""
    return f"{kind}s {uid}{beneficiary}: {decision.message}: {_places(decision.placement)}"


def _answer(answer: Defer) -> str:
    reasons = "; ".join(
        f"{reason.code}{f' ({reason.nodes})' if reason.nodes else ''}: {reason.message}"
        for reason in answer.reasons
    )
    parts = [reasons, answer.remedy]
    parts += ["never"] if answer.never else []
    parts += [f"held from {(answer.reserved_ms - NOW_MS) / 1000:g} s"] if answer.reserved_ms else []
    parts += [f"nominated {_places(answer.nominated)}"] if answer.nominated else []
    parts += [f"outbid by {answer.outbid_by}"] if answer.outbid_by else []
    return " | ".join(parts)


def _places(placement: Placement) -> str:
    return " ".join(map(_place, placement))


def _place(rank: Assignment) -> str:
    host = f"+{rank.cpu_millis}m" if rank.cpu_millis else ""
    host += f"+{rank.host_memory_bytes // GIB}G" if rank.host_memory_bytes else ""
    return f"{rank.role}.{rank.replica}={rank.node}[{_shares(rank.shares)}]{host}"


def _shares(shares: Sequence[Share]) -> str:
    return ",".join(
        f"{share.index}" + (f"*{share.millis}/{share.memory_bytes / GIB:.3g}G" if _is_part(share) else "")
        for share in shares
    )


def _is_part(share: Share) -> bool:
    return share.millis != WHOLE_MILLIS or share.vendor == "cpu"


if __name__ == "__main__":  # KIND SEED CYCLES
    print(*story(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])), sep="\n")
