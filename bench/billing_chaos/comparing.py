"""Each request of each client against the events of the ledger. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.billing_chaos.records import Billed, Received, Trained


@dataclass
class Verdict:
    """``events_lost``: something was received and no event says so. ``events_doubled``: a further event of
    the same request or job, or one of a request that nobody sent. ``token_drift``: the sum of all differences
    between what was received and what is billed. ``unanswered``: events of requests of which the client
    received nothing, by how they ended; they are no faults, as the answer was made. ``faults`` say each
    fault."""

    events_lost: int = 0
    events_doubled: int = 0
    token_drift: int = 0
    unanswered: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def drifts(self, tokens: int, fault: str) -> None:
        self.token_drift += tokens
        self.faults.append(fault)


def compare(received: Sequence[Received], billed: Iterable[Billed]) -> Verdict:
    """Requests of clients against events of inference."""
    verdict, by_request = Verdict(), defaultdict[str, list[Billed]](list)
    for event in billed:
        by_request[event.request_id].append(event)
    for one in received:
        events = by_request.pop(one.request_id, [])
        if len(events) > 1:
            verdict.events_doubled += len(events) - 1
            verdict.faults.append(f"{_named(one)}: billed {len(events)} times: {events}")
        _judge(one, events[0] if events else None, verdict)
    for request_id, events in by_request.items():
        verdict.events_doubled += len(events)
        verdict.faults.append(f"{request_id}: billed, and nobody asked: {events}")
    return verdict


def _judge(one: Received, event: Billed | None, verdict: Verdict) -> None:
    if event is None:
        if one.state == "answered" or one.completion:
            verdict.events_lost += 1
            verdict.drifts((one.prompt or 0) + one.completion, f"{_named(one)}: not billed")
        return
    if one.state == "answered":
        differs = abs(event.prompt - (one.prompt or 0)) + abs(event.completion - one.completion)
        differs += abs(event.cached - one.cached)
        if differs:
            verdict.drifts(differs, f"{_named(one)}: billed as {event}")
        return
    if not one.completion and one.prompt is None:
        verdict.unanswered[event.outcome] = verdict.unanswered.get(event.outcome, 0) + 1
    missing = max(0, one.completion - event.completion)
    if one.prompt is not None:
        missing += abs(event.prompt - one.prompt)
    beyond = max(0, event.completion - one.most)
    if missing or beyond:
        verdict.drifts(missing + beyond, f"{_named(one)}: billed as {event}")


def compare_training(jobs: Iterable[Trained], billed: Mapping[str, Sequence[int]], verdict: Verdict) -> None:
    """Jobs against the trained tokens of the events of each job, into ``verdict``."""
    known = {job.job: job for job in jobs}
    for name, job in known.items():
        events = billed.get(name, [])
        if job.tokens and not events:
            verdict.events_lost += 1
            verdict.drifts(job.tokens, f"{name} ({job.status}): {job.tokens} trained tokens are not billed")
        elif events and sum(events) != (job.tokens or 0):
            verdict.drifts(
                abs(sum(events) - (job.tokens or 0)), f"{name}: trained {job.tokens}, billed {events}"
            )
        verdict.events_doubled += max(0, len(events) - 1)
    for name in billed.keys() - known.keys():
        verdict.events_doubled += len(billed[name])
        verdict.faults.append(f"{name}: trained tokens are billed, and there is no such job")


def _named(one: Received) -> str:
    return f"{one.request_id} ({one.kind}, {one.state}, {one.what or 'no word'}) {one}"
