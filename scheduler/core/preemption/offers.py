"""What may be taken from a node now, at which price, and taking it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from scheduler.core.model.types import Assignment, WorkloadView
from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.trial import Trial
from scheduler.core.pool.layout import MEMORY_MASK, MIB, pack
from scheduler.core.pool.usage import NodeUsage
from scheduler.core.preemption.beside import keep_apart
from scheduler.core.preemption.candidates import Candidate, CandidatesByNode, price_of_rank
from scheduler.core.preemption.one_node import Item
from scheduler.core.preemption.scopes import Scope
from scheduler.core.preemption.tentative import Key, TentativeEvictions

Offer = Item[Key]


class Offers:
    """For one attempt. What is taken is taken on trial (``evictions``)."""

    def __init__(
        self,
        trial: Trial,
        workload: WorkloadView,
        scope: Scope,
        by_node: CandidatesByNode,
        evictions: TentativeEvictions,
    ) -> None:
        self.reach, self.bounds = scope.reach, scope.bounds
        self._trial = trial
        self._workload = workload
        self._by_node = by_node
        self._evictions = evictions
        self._refused: set[tuple[int, str]] = set()

    def on(self, node: int, wanted: int = 1) -> list[Offer]:
        """All that may be taken from a node now. ``wanted``: so many nodes are."""
        usage, running = self._trial.pool.usage[node], self._trial.running
        found: list[Offer] = []
        for candidate, ranks in sorted(self._by_node.at.get(node, ()), key=_by_uid):
            uid = candidate.workload.uid
            if candidate.kind not in self.reach.classes or (node, uid) in self._refused:
                continue
            current = None if uid in self._evictions.evicted else running.get(uid)
            if current is None:
                continue
            if candidate.rank_price and not keep_apart(self._workload, candidate.workload):
                found += self._of_elastic(usage, candidate, ranks, wanted)
            elif current is candidate.running and self.reach.claim.may_take(
                candidate.kind, candidate.by_model
            ):
                found.append(_offer((candidate, None), _price(candidate, wanted), usage, ranks))
        return found

    def _of_elastic(
        self, usage: NodeUsage, candidate: Candidate, ranks: list[Assignment], wanted: int
    ) -> list[Offer]:
        """Ranks that it can spare, the highest replica numbers first; the others only with all of it."""
        names = {(one.role, one.replica): one for one in self._evictions.placement(candidate)}
        spare = self._evictions.spare(candidate)
        offers, rest = [], []
        for rank in sorted(ranks, key=lambda one: (one.role, -one.replica)):
            known = names.get((rank.role, rank.replica))
            if known is None or known.node != rank.node:
                continue
            if spare.get(rank.role, 0) > 0:
                spare[rank.role] -= 1
                offers.append(_offer((candidate, known), price_of_rank(candidate, known), usage, [known]))
            else:
                rest.append(known)
        if rest:
            offers.append(_offer((candidate, None), _price(candidate, wanted), usage, rest))
        return offers

    def cheapest(self) -> list[tuple[int, Offer]]:
        """All that may be taken now, by node, in the order of price."""
        priced = [
            (offer.price, node, number, offer)
            for node in sorted(self._by_node.at)
            for number, offer in enumerate(self.on(node))
        ]
        return [(node, offer) for _, node, _, offer in sorted(priced, key=lambda each: each[:3])]

    def take(self, node: int, offers: Sequence[Offer]) -> set[str] | None:
        """Take these for a node, the cheapest first; the names of the nodes that get emptier. None, with
        nothing taken, where the claim does not reach all of them, or where a workload has given up all that
        it could spare meanwhile."""
        keys = [offer.key for offer in sorted(offers, key=lambda offer: offer.price)]
        whole = {candidate.number for candidate, rank in keys if rank is None}
        touched: set[str] = set()
        taken: list[Key] = []
        for candidate, rank in keys:
            if rank is not None and candidate.number in whole:
                continue
            placement = self._evictions.placement(candidate) if rank is None else (rank,)
            if rank is not None and not self._evictions.spare(candidate).get(rank.role):
                self._give_back(taken)
                return None
            millis = {model: n for model, n in millis_by_model(placement).items() if n}
            if not self.reach.claim.may_take(candidate.kind, millis):
                self._refuse(node, candidate.workload.uid)
                self._give_back(taken)
                return None
            self._evictions.take(candidate, rank)
            taken.append((candidate, rank))
            touched.update(one.node for one in placement)
        return touched

    def _give_back(self, taken: Sequence[Key]) -> None:
        for candidate, rank in taken:
            self._evictions.give_back(candidate, rank)

    def _refuse(self, node: int, uid: str) -> None:
        """The claim does not reach it together with others on this node."""
        if (node, uid) not in self._refused:
            self._refused.add((node, uid))
            self._trial.remember(partial(self._refused.discard, (node, uid)))


def _by_uid(there: tuple[Candidate, list[Assignment]]) -> str:
    return there[0].workload.uid


def _price(candidate: Candidate, wanted: int) -> int:
    """On one node: what frees several nodes that are wanted is paid for on each in part."""
    return candidate.price // min(candidate.nodes, wanted) if candidate.nodes > 1 else candidate.price


def _offer(key: Key, price: int, usage: NodeUsage, ranks: Sequence[Assignment]) -> Offer:
    offer = Item(key, price)
    for rank in ranks:
        for share in rank.shares:
            position = usage.position_of.get(share.device)
            if position is not None:
                room = usage.capacity[position] & MEMORY_MASK
                packed = pack(share.millis, min(room, -(-share.memory_bytes // MIB)))
                offer.on[position] = offer.on.get(position, 0) + packed
        offer.cpu_millis += rank.cpu_millis
        offer.host_mebibytes -= -rank.host_memory_bytes // MIB
    return offer
