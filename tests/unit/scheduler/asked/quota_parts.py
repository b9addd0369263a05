"""What a quota tree answers while drawn amounts are charged and refunded: limits, loans, titles, shares, the
order of who waits. A tree that has lived through all of it answers as a new one with the same use does."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace

from common.errors import InvalidInput
from scheduler.core.model.device_classes import ModelKey
from scheduler.core.model.types import Assignment, QueueView, Share, WorkloadView
from scheduler.core.quota.fairness import share_with
from scheduler.core.quota.ordering import Heads
from scheduler.core.quota.pledges import Pledges
from scheduler.core.quota.precedence import Precedence
from scheduler.core.quota.quota import QuotaTree
from scheduler.core.quota.quota_accounts import Account
from scheduler.core.quota.standing import share_after, standing_of
from tests.fixtures.approving import told
from tests.unit.scheduler.asked.small import NOW_MS, QUEUES, small_queues, small_workload

BIG, SMALL, RING, CPU = ("nvidia", "big"), ("nvidia", "small"), ("ascend", "ring"), ("cpu", "cpu")
MODELS: tuple[ModelKey, ...] = (BIG, SMALL, RING, CPU)
NAMES = (*QUEUES, "x", "gone")
AMOUNTS = (0, 1, 500, 1000, 1000, 2000, 3000, 4000)
STEPS = 6
Used = dict[tuple[str, ModelKey], int]


def quota_answers(seed: int) -> Iterator[str]:
    """Of one tree over some charges and refunds."""
    rng = random.Random(seed)
    queues, capacity = small_queues(rng), {model: rng.choice((0, 4000, 8000)) for model in MODELS}
    tree, used = QuotaTree(queues, capacity), Used()
    yield from _of_rules(tree)
    seen = tree.changes
    for _ in range(STEPS):
        asks = [_ask(rng) for _ in range(8)]
        below = {"*": rng.choice((0, 1000)), "nvidia": rng.choice((0, 1000, 2000)), "nvidia/big": 1000}
        lived = [line for ask in asks for line in _of_queues(tree, *ask, below)]
        again = _again(queues, capacity, used)
        assert lived == [line for ask in asks for line in _of_queues(again, *ask, below)], seed
        yield from lived
        yield _moved(rng, tree, used)
        if rng.random() < 0.5:
            yield f"changed {[member.name for member in tree.changed_since(seen)]}"
            seen = tree.changes
    tree.charge("a", BIG, 0)
    yield from _of_members(tree)


def _again(queues: tuple[QueueView, ...], capacity: Mapping[ModelKey, int], used: Used) -> QuotaTree:
    again = QuotaTree(queues, capacity)
    for (name, model), millis in used.items():
        if millis:
            again.charge(name, model, millis)
    return again


def _ask(rng: random.Random) -> tuple[str, str, ModelKey, int, int, dict[ModelKey, int]]:
    need = {rng.choice(MODELS): rng.choice(AMOUNTS) for _ in range(rng.choice((1, 1, 2, 3)))}
    one, other = (rng.choice((*QUEUES, *NAMES)) for _ in range(2))
    return one, other, rng.choice(MODELS), rng.choice(AMOUNTS), rng.choice(AMOUNTS), need


def _moved(rng: random.Random, tree: QuotaTree, used: Used) -> str:
    """Charges and refunds, some of which are refused."""
    done = []
    for _ in range(rng.choice((1, 2, 4))):
        name = rng.choice((*QUEUES, *QUEUES, "gone"))
        model, millis = rng.choice(MODELS), rng.choice((*AMOUNTS[1:], -1000))
        change, sign = (tree.charge, 1) if rng.random() < 0.65 else (tree.refund, -1)
        try:
            change(name, model, millis)
        except InvalidInput as error:
            done.append(f"{error.param}: {error}")
            continue
        if tree.usage(name) or (name, model) in used:
            used[name, model] = used.get((name, model), 0) + sign * millis
        done.append(f"{name} {model[1]} {sign * millis}")
    return f"{done} {tree.changes}"


def _of_queues(
    tree: QuotaTree,
    one: str,
    other: str,
    model: ModelKey,
    millis: int,
    wanted: int,
    need: dict[ModelKey, int],
    below: Mapping[str, int],
) -> Iterator[str]:
    """What one may have, and take from another."""
    levels = tree.levels_below_common(one, other)
    titles = tree.titles(one, levels, model, millis)
    refused = tree.check(one, need, ("a", "b"), "p")
    yield f"{one} of {other}, {model[1]} {millis} {wanted}, {need}: {told(refused)}"
    yield f" {told(tree.check(one, need))} {tree.open_models(one, millis, MODELS)}"
    loans = [
        (
            tree.borrows(other, one, model, titles, least, less),
            tree.is_beyond_nominal(other, one, model, least, less),
            tree.may_even_out(one, other, model, least, wanted, less),
        )
        for less in ({}, below)
        for least in (0, 1, millis)
    ]
    answers = (
        tree.borrowed(one, model),
        tree.is_counted(one, model),
        tree.within_nominal(one, model, millis),
        tree.may_reclaim(one, other, model, millis),
        sorted(tree.use_of_own(one, model).values()),
        tree.share(one),
        sorted(tree.usage(one).items()),
    )
    yield f" {levels} {titles} {loans} {told(answers)}"
    member = tree.member(one)
    if member is not None:
        grant = tree.grant_of(member, model)
        accounts = [_of_account(account, millis) for account in grant.accounts]
        yield f" {grant.is_open(millis)} {grant.borrows(millis)} {len(grant.own)} {accounts}"
        roles = ([(BIG, wanted), (RING, millis)], [(model, millis)] if millis else [])
        standings = [standing_of(tree, member, some) for some in (roles, roles[:1], ())]
        with_it = share_with(member, member.view.weight, model, millis, tree.capacities)
        yield f" {told((standings, share_after(tree, member, need.items()), with_it))}"


def _of_account(account: Account, millis: int) -> object:
    blocker = account.blocker(millis)
    stuck = blocker and (blocker.member.name, blocker.device_class)
    return (
        account.device_class,
        account.most(),
        account.room(),
        account.borrows(millis),
        account.borrowed,
        stuck,
    )


def _of_rules(tree: QuotaTree) -> Iterator[str]:
    for name in NAMES:
        asked = (
            tree.rules(name),
            tree.borrows_by_priority(name),
            tree.displaces_newer(name),
            tree.refusal(name),
            tree.refusal(name, ("a", "b")),
        )
        yield f"{name}: {told(asked)}"
    yield f"safe {[tree.least_reclaim_seconds(least) for least in (0, 300)]}"


def _of_members(tree: QuotaTree) -> Iterator[str]:
    for name in QUEUES:
        member = tree.member(name)
        assert member is not None
        for one in member.chain:
            numbers = (one.total, one.dominant, one.recent, one.share, one.height, one.version, one.charges)
            yield f"{name}: {one.name} {one.is_cohort} {told(numbers)} {sorted(one.used.items())}"


def order_answers(seed: int) -> Iterator[str]:
    """Who is considered next, while those who are get what they want and others lose something. Who is asked
    anew each time gets the same order."""
    rng = random.Random(seed)
    queues, capacity = small_queues(rng), dict.fromkeys(MODELS[:3], 8000)
    queues = tuple(replace(one, budgets=()) for one in queues)
    tree, used = QuotaTree(queues, capacity), Used()
    waiting = [_small(rng, f"w{number}") for number in range(rng.randrange(4, 14))]
    needs = {one.uid: _needs(rng) for one in waiting}
    heads = Heads(waiting, tree, NOW_MS, lambda one: needs[one.uid])
    while (one := heads.pop()) is not None:
        yield f"{one.uid} of {one.queue} {one.priority} {told(tree.share(one.queue))}"
        waiting.remove(one)
        for role in needs[one.uid][: rng.randrange(3)]:
            model, millis = rng.choice(role)
            tree.charge(one.queue, model, millis)
            used[one.queue, model] = used.get((one.queue, model), 0) + millis
        if used and rng.random() < 0.3:
            name, model = rng.choice(sorted(used))
            millis = rng.choice((0, min(1000, tree.usage(name).get(model, 0))))
            tree.refund(name, model, millis)
            heads.refresh()


def _small(rng: random.Random, uid: str) -> WorkloadView:
    return replace(small_workload(rng, uid), queue=rng.choice(NAMES), priority=rng.choice((0, 0, 1)))


NEEDS = tuple(
    tuple(tuple((model, millis) for model in models) for models in several)
    for millis in (1000, 2000, 3000)
    for several in (((BIG,),), ((BIG, RING),), ((SMALL, BIG), (RING,)), ((RING, SMALL, BIG),))
)


def _needs(rng: random.Random) -> tuple[tuple[tuple[ModelKey, int], ...], ...]:
    return rng.choice(NEEDS)


def pledge_answers(seed: int) -> Iterator[str]:
    """What may not be preempted may have, and what less important work uses, while some come and go."""
    rng = random.Random(seed)
    tree = QuotaTree(small_queues(rng), dict.fromkeys(MODELS, 8000))
    pledges, precedence, there = Pledges(tree), Precedence(()), list[tuple[WorkloadView, ModelKey, int]]()
    for _ in range(12):
        if there and rng.random() < 0.4:
            one, model, millis = there.pop(rng.randrange(len(there)))
            sign = -1
        else:
            one, model, millis, sign = _small(rng, "w"), rng.choice(MODELS), rng.choice(AMOUNTS), 1
            there.append((one, model, millis))
        pledges.change(one, {model: millis}, sign)
        precedence.change(one, _held(model, millis), sign)
        name, need = rng.choice(NAMES), {rng.choice(MODELS): rng.choice(AMOUNTS) for _ in range(2)}
        refused = told((pledges.refusal(name, need), pledges.open_models(name, need)))
        yield f"{one.queue} {one.preemptible} {model[1]} {sign * millis}: {refused}"
        below = [sorted(precedence.below(name, priority).items()) for priority in (0, 1, 2, 3)]
        yield f" below {below}"


def _held(model: ModelKey, millis: int) -> tuple[Assignment, ...]:
    return (Assignment("main", 0, 0, "n", (Share("d", 0, *model, 0, millis),)),)
