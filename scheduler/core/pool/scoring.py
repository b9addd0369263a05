"""How good a place is: small functions in [0, 1], higher is better, weighed by the policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from scheduler.core.fragmentation.fragmentation import Fragmentation
from scheduler.core.model.types import WHOLE_MILLIS, Policy, Request
from scheduler.core.pool.layout import MIB, Group
from scheduler.core.pool.options import Judge, Pick, islands_used
from scheduler.core.pool.scarcity import Scarcity
from scheduler.core.pool.states import Demand, NodeState, Shape

SCALE = 1000
"""Scores are cut into that many steps; among places of one step the first in the order of nodes is taken,
which keeps untouched nodes untouched (see docs/design/fragmentation.md)."""


@dataclass(frozen=True)
class Scale:
    """The largest values in the pool, to put a device into proportion."""

    tflops: float = 0.0
    memory_mebibytes: int = 0
    watts: int = 0
    price_micros: int = 0

    @staticmethod
    def of(groups: Iterable[Group]) -> Scale:
        """Over all groups of a pool."""
        everything = [group for group in groups if group.vendor != "cpu"]
        return Scale(
            max((_bf16(group) for group in everything), default=0.0),
            max((group.memory_mebibytes for group in everything), default=0),
            max((group.spec.watts for group in everything), default=0),
            max((group.spec.price_micros_per_hour for group in everything), default=0),
        )


class Offer(NamedTuple):
    """A kind of devices for a request: what does not depend on what is free. ``cost``: to those who have to
    be there; ``devices``: what it takes of these, of what it takes where it takes the most."""

    group: Group
    request: Request
    scale: Scale
    cost: float = 0.0
    devices: float = 1.0


class Choice(NamedTuple):
    """A rank in a place: the node's state before and after, what it takes of which group."""

    before: NodeState
    after: NodeState
    demand: Demand
    group: Group
    picks: tuple[Pick, ...]
    fragmentation: Fragmentation


def _bf16(group: Group) -> float:
    rates = dict(group.spec.tflops)
    return rates.get("bf16") or rates.get("fp16") or 0.0


def accelerator(offer: Offer) -> float:
    """An accelerator rather than a CPU standing for one."""
    return 0.0 if offer.group.vendor == "cpu" else 1.0


def heterogeneity(offer: Offer) -> float:
    """Little beyond what was asked for: a small request leaves the large devices alone."""
    group, request, scale = offer.group, offer.request, offer.scale
    if request.by_equivalence or group.vendor == "cpu":
        return 1.0
    values, needs = [], []
    if scale.memory_mebibytes:
        values.append(group.memory_mebibytes / scale.memory_mebibytes)
        needs.append(request.memory_bytes / MIB / scale.memory_mebibytes)
    if scale.tflops:
        values.append(_bf16(group) / scale.tflops)
        needs.append(request.tflops / scale.tflops)
    spare = [max(0.0, value - need) for value, need in zip(values, needs, strict=True)]
    return 1.0 - sum(spare) / len(spare) if spare else 1.0


def scarcity(offer: Offer) -> float:
    """Devices that nobody has to have: work that can go elsewhere leaves alone what others need."""
    return (1.0 - offer.cost) / 2


def fragmentation(choice: Choice) -> float:
    """Little stranded for the workloads that usually come."""
    number, layout = choice.demand.group, choice.before.layout
    return choice.fragmentation.score(
        choice.group.model,
        (choice.before.cpu_free_millis, choice.before.free_millis(number)),
        (choice.after.cpu_free_millis, choice.after.free_millis(number)),
        (layout.cpu_millis, choice.group.devices),
    )


def packing(choice: Choice) -> float:
    """Best fit: the less stays free on the node, the better, so that large gaps stay whole."""
    total = choice.group.devices * choice.group.slots * WHOLE_MILLIS
    return 1.0 - sum(choice.after.free_millis(choice.demand.group)) / total


def topology(choice: Choice) -> float:
    """Devices in one island (NVLink, ring) talk faster than over the host."""
    if not choice.group.linked:
        return 1.0 / max(1, len(choice.picks))
    return 1.0 / max(1, islands_used(choice.picks))


def energy(offer: Offer) -> float:
    """Few watts, of all the devices that it takes."""
    return _little(offer.devices * offer.group.spec.watts, offer.scale.watts)


def price(offer: Offer) -> float:
    """Little money, for all the devices that it takes."""
    return _little(offer.devices * offer.group.spec.price_micros_per_hour, offer.scale.price_micros)


def _little(amount: float, most: int) -> float:
    return 1.0 - amount / most if most else 1.0


OFFER_SCORERS: dict[str, Callable[[Offer], float]] = {
    "accelerator": accelerator,
    "heterogeneity": heterogeneity,
    "scarcity": scarcity,
    "energy": energy,
    "price": price,
}
PLACE_SCORERS: dict[str, Callable[[Choice], float]] = {
    "fragmentation": fragmentation,
    "packing": packing,
    "topology": topology,
}
SCORERS: tuple[str, ...] = (*OFFER_SCORERS, *PLACE_SCORERS)
"""All names that ``Policy.weights`` may hold."""


def judge_for(policy: Policy, scale: Scale, workload_mix: Fragmentation, scarce: Scarcity) -> Judge:
    """The weighted mean over the policy's scorers, in steps of 1 / ``SCALE``."""
    total = sum(weight for _, weight in policy.weights) or 1.0
    factors = [(name, SCALE * weight / total) for name, weight in policy.weights if weight]
    of_offers = [(OFFER_SCORERS[name], factor) for name, factor in factors if name in OFFER_SCORERS]
    of_places = [(PLACE_SCORERS[name], factor) for name, factor in factors if name in PLACE_SCORERS]
    offers: dict[tuple[int, int, int], float] = {}

    def judge(
        before: NodeState, after: NodeState, demand: Demand | None, picks: tuple[Pick, ...], shape: Shape
    ) -> int:
        if demand is None:
            return _host_only(before, after, workload_mix)
        layout = before.layout
        group = layout.groups[demand.group]
        key = (shape.number, demand.group, id(layout))
        score = offers.get(key)
        if score is None:
            request = shape.request
            cost, devices = scarce.cost(group, layout, request), scarce.devices(group, layout, request)
            offer = Offer(group, request, scale, cost, devices)
            score = offers[key] = sum(factor * scorer(offer) for scorer, factor in of_offers)
        choice = Choice(before, after, demand, group, picks, workload_mix)
        for scorer, factor in of_places:
            score += factor * scorer(choice)
        return round(score)

    return judge


def _host_only(before: NodeState, after: NodeState, workload_mix: Fragmentation) -> int:
    """For ranks without devices: the fullest of the nodes without accelerators, before those where the least
    of the accelerators runs short of CPU."""
    layout = before.layout
    strands = [
        workload_mix.score(
            group.model,
            (before.cpu_free_millis, before.free_millis(number)),
            (after.cpu_free_millis, after.free_millis(number)),
            (layout.cpu_millis, group.devices),
        )
        for number, group in enumerate(layout.groups)
        if group.vendor != "cpu"
    ]
    if strands:
        return round(SCALE * min(strands) / 2)
    fullness = 1.0 - after.cpu_free_millis / layout.cpu_millis if layout.cpu_millis else 0.0
    return round(SCALE * (1.0 + fullness) / 2)
