"""What the stages of preemption answer in small crowded worlds: whom one may take from, at which price, on
which nodes, what each node would have to give, who is waited for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from scheduler.core.model.types import Assignment, RunningView, WorkloadView
from scheduler.core.placement.trial import Trial
from scheduler.core.pool.layout import ModelKey, pack
from scheduler.core.preemption.beside import displaced, fits_beside, keep_apart, look_past
from scheduler.core.preemption.candidates import Candidate, Candidates, price_of_rank
from scheduler.core.preemption.claims import Claim, Claimant, Reach, bounds_now
from scheduler.core.preemption.clear import clear
from scheduler.core.preemption.nominations import Seating, stretch
from scheduler.core.preemption.offers import Offer, Offers
from scheduler.core.preemption.one_node import Item, OneNode
from scheduler.core.preemption.preemption import PreemptionPlan, find_leftover, find_room
from scheduler.core.preemption.scopes import Scope, scopes
from scheduler.core.preemption.tentative import TentativeEvictions
from tests.fixtures.approving import told
from tests.unit.scheduler.approved.story import line_of
from tests.unit.scheduler.asked.small import crowded_world, small_request, small_world


def claim_answers(seed: int) -> Iterator[str]:
    """Of one world, for all that waits there and may claim anything."""
    rng = random.Random(seed)
    world = crowded_world(rng) if seed % 3 else small_world(rng, nodes=3)
    trial = world.trial()
    candidates = Candidates.of(trial)
    yield from _of_candidates(trial, candidates)
    for workload in [*trial_pending(rng, trial)]:
        mark = trial.mark()
        yield from _of_claim(rng, trial, candidates, workload)
        trial.rollback(mark)


def trial_pending(rng: random.Random, trial: Trial) -> list[WorkloadView]:
    """What runs there, as if it waited, with other priorities and ages."""
    alike = [replace(one.workload, uid=f"w-{one.workload.uid}") for one in trial.running.values()]
    some = rng.sample(alike, min(4, len(alike)))
    queues = sorted({one.queue for one in alike})
    return [
        replace(one, priority=rng.choice((0, 0, 1, 3)), queue=rng.choice(queues), preemptible=True)
        for one in some
    ]


def _of_candidates(trial: Trial, candidates: Candidates) -> Iterator[str]:
    soon = [one.workload.uid for one in candidates.soon_gone]
    yield f"gone soon {soon} {sorted(candidates.free_millis.items())}"
    by_node = candidates.by_node
    for kind in by_node.classes:
        held = sorted(by_node.millis[kind].items())
        yield f"{told(kind)}: {[one.workload.uid for one in candidates.classes[kind]]} {held}"
    for one in by_node.all:
        ranks = [price_of_rank(one, rank) for rank in one.running.placement] if one.rank_price else ()
        price = one.price, one.millis, one.nodes, one.rank_price, ranks, one.by_model
        yield f" {one.workload.uid} {price}"
    at = {
        node: [(one.workload.uid, len(ranks)) for one, ranks in there] for node, there in by_node.at.items()
    }
    yield f" at {sorted(at.items())} {by_node.millis_of(by_node.classes)}"


def _of_claim(
    rng: random.Random, trial: Trial, candidates: Candidates, workload: WorkloadView
) -> Iterator[str]:
    claimant = Claimant.of(workload, trial.bounds_for(workload))
    least = told((claimant.bounds, claimant.least.roles))
    yield f"{workload.uid} {workload.queue} {workload.priority}: {least}"
    claim = Claim(trial, claimant.least)
    needs = list(trial.needs(workload))
    yield f" within {claim.within_reach(needs)} now {told(bounds_now(trial, claimant))}"
    for kind in candidates.by_node.classes:
        held = candidates.by_node.millis[kind]
        none: dict[ModelKey, int] = {}
        several = (none, dict.fromkeys(held, 1), held, dict.fromkeys(needs, 1000))
        yield f" of {kind}: {[claim.may_take(kind, some) for some in several]}"
    for reach in claim.reaches(candidates.classes, lambda: candidates.by_node.millis):
        yield f" reaches {sorted(reach.classes)} {reach.alone} {told(bounds_now(trial, claimant, reach))}"
        for kind in candidates.by_node.classes:
            held = candidates.by_node.millis[kind]
            may, due = reach.claim.may_take(kind, held), _is_due(trial, reach, kind)
            yield f"  {may} {due} {reach.claim.within_reach(held)}"
        for scope in scopes(trial, claimant, candidates, reach):
            yield from _of_scope(rng, trial, candidates, claimant, scope)


def _is_due(trial: Trial, reach: Reach, kind: object) -> list[bool]:
    places = [one.placement for one in trial.running.values()][:3]
    return [reach.claim.is_due([kind], placement) for placement in places]  # type: ignore[list-item]


def _of_scope(
    rng: random.Random, trial: Trial, candidates: Candidates, claimant: Claimant, scope: Scope
) -> Iterator[str]:
    """What may be taken where, and what clearing takes."""
    yield f"  on {scope.nodes} by {told(scope.bounds)}"
    mark, by_node = trial.mark(), candidates.by_node
    least = claimant.least
    for role in least.roles:
        shape = trial.pool.shape(role.request, scope.bounds.models)
        for ranks in (1, 2):
            prices = by_node.below.prices(shape, scope.reach.classes, ranks).tolist()
            yield f"  {role.name} of {ranks} costs {told(prices)}"
    evictions = TentativeEvictions(trial)
    offers = Offers(trial, least, scope, by_node, evictions)
    for node in sorted(by_node.at):
        found = offers.on(node, rng.choice((1, 2)))
        yield f"   {node}: {[_of_offer(one) for one in found]}"
        for role in least.roles:
            shape = trial.pool.shape(role.request, scope.bounds.models)
            best = OneNode(trial.pool.usage[node], found).cheapest(shape)
            yield f"   for {role.name} {best and (best[0], [_of_offer(one)[:3] for one in best[1]])}"
    cheapest = offers.cheapest()
    yield f"   cheapest {[(node, _of_offer(one)[:3]) for node, one in cheapest]}"
    for node, one in cheapest[:2]:
        if not evictions.is_there(*one.key):
            continue
        touched = offers.take(node, [one])
        yield f"   taken {touched and sorted(touched)} {_gone(evictions)}"
    trial.rollback(mark)
    yield f"   back {_gone(evictions)}"
    evictions = TentativeEvictions(trial)
    offers = Offers(trial, least, scope, by_node, evictions)
    yield f"   cleared {clear(trial, least, scope, by_node.below, offers)} {_gone(evictions)} {_free(trial)}"
    trial.rollback(mark)
    yield f"   {_free(trial)}"


def _free(trial: Trial) -> list[tuple[tuple[str, str], int]]:
    return sorted(trial.pool.free_millis().items())


def _of_offer(offer: Offer) -> tuple[object, ...]:
    candidate, rank = offer.key
    which = None if rank is None else (rank.role, rank.replica)
    return candidate.workload.uid, which, offer.price, offer.on, offer.cpu_millis, offer.host_mebibytes


def _gone(evictions: TentativeEvictions) -> object:
    shrunk = {uid: [(one.role, one.replica) for one in ranks] for uid, (_, ranks) in evictions.shrunk.items()}
    victims: list[Candidate] = [*evictions.victims()]
    spare = [(evictions.spare(one), len(evictions.placement(one))) for one in victims]
    return list(evictions.evicted), shrunk, spare, [one.queue for one in evictions.classes()]


def room_answers(seed: int) -> Iterator[str]:
    """What makes room for whom, and what becomes of who gets the places later."""
    rng = random.Random(seed)
    world = crowded_world(rng) if seed % 3 else small_world(rng, nodes=3)
    trial = world.trial()
    yield from _of_neighbours(rng, trial)
    for workload in [*world.pending, *trial_pending(rng, trial)]:
        mark = trial.mark()
        for important in (workload, replace(workload, priority=3, preemptible=True)):
            plan = find_room(trial, important, trial.bounds_for(important))
            yield f"{workload.uid} {important.priority}: {_plan(plan)} {len(trial.running)} {_free(trial)}"
            trial.rollback(mark)
            if plan is not None:
                yield from _of_nominee(rng, trial, replace(important, nominated=plan.placement))
                trial.rollback(mark)
        yield f" left {_plan(find_leftover(trial, workload))}"
        trial.rollback(mark)


def _plan(plan: PreemptionPlan | None) -> str:
    if plan is None:
        return "nothing"
    changes = [*map(line_of, plan.resizes), *map(line_of, plan.victims)]
    return f"{told(plan.placement)} by {changes} {plan.ready} {plan.unseated} {plan.displaced}"


def _of_nominee(rng: random.Random, trial: Trial, workload: WorkloadView) -> Iterator[str]:
    """Whether it gets its places when some of those on them have left or leave, and where it starts."""
    for uid in [one for one in trial.running if rng.random() < 0.6]:
        trial.evict(uid)
    if rng.random() < 0.3:
        workload = replace(workload, nominated=workload.nominated[1:])
    if rng.random() < 0.3:
        trial.pool.occupy(workload.nominated[:1])  # processes that nobody knows of any more
    waits = Seating(trial).seat(workload)
    yield f"  seated {waits} {workload.uid in trial.seated} {told(trial.residual)} {_free(trial)}"
    if waits is not None:
        yield f"  starts {told(stretch(trial, workload))}"


def _of_neighbours(rng: random.Random, trial: Trial) -> Iterator[str]:
    """Who may stay beside whom, and who is waited for."""
    running = [*trial.running.values()]
    for one in rng.sample(running, min(4, len(running))):
        apart = [keep_apart(one.workload, other.workload) for other in running]
        nodes = {rank.node for rank in one.placement}
        beside = [fits_beside(trial.pool, other.placement, nodes) for other in running]
        halves = tuple(_half(rank) for rank in one.placement)
        mark = trial.mark()
        look_past(trial, [one])
        again = fits_beside(trial.pool, one.placement, nodes)
        yield f"{one.workload.uid} apart {apart} beside {beside} {again}"
        trial.pool.occupy(halves)
        yield f" for halves {displaced(trial.pool, one.workload, halves, _leaving(running, one))}"
        trial.rollback(mark)


def _leaving(running: list[RunningView], one: RunningView) -> list[RunningView]:
    return [one, *(other for other in running if other.leaving and other is not one)]


def _half(rank: Assignment) -> Assignment:
    shares = tuple(share._replace(millis=share.millis // 2) for share in rank.shares[:1])
    return rank._replace(shares=shares, cpu_millis=rank.cpu_millis // 2)


def node_answers(seed: int) -> Iterator[str]:
    """Which of some drawn items on one node would have to go for drawn requests."""
    rng = random.Random(seed)
    pool = small_world(rng, nodes=2).trial().pool
    for usage in pool.usage:
        devices = range(len(usage.view.devices))
        items: list[Item[int]] = [
            Item(
                number,
                rng.choice((0, 1, 2, 2, 5)),
                {
                    at: pack(rng.choice((500, 1000, 1000)), rng.choice((4, 8, 16)))
                    for at in devices
                    if rng.random() < 0.4
                },
                rng.choice((0, 500, 1000)),
                rng.choice((0, 0, 1, 2)),
            )
            for number in range(rng.randrange(1, 7))
        ]
        for at in devices:
            usage.used[at] = sum(item.on.get(at, 0) for item in items)
        usage.cpu_used_millis = sum(item.cpu_millis for item in items)
        usage.host_used_mebibytes = sum(item.host_mebibytes for item in items)
        there = [(item.price, item.on, item.cpu_millis, item.host_mebibytes) for item in items]
        yield f"{usage.view.name}: {there}"
        for _ in range(6):
            shape = pool.shape(small_request(rng))
            found = OneNode(usage, items).cheapest(shape)
            gone: object = found and (found[0], [one.key for one in found[1]])
            yield f" {shape.request.count} of {shape.request.share_millis}: {gone}"
