"""What a device of each class is worth to those who ask for it.

A device that much of the work may use only there (it names the model, needs the memory, the vendor, a host
label) should be left alone by work that can go elsewhere. Its price is the dual of a linear program: the
usual requests are served from the whole pool, whose devices and host CPU are limited, and the price of a
device is the work that one more of it would serve. Parts of devices count by the prices of the cutting-stock
problem (``cutting``), requests by equivalence by the number of devices that they take of each class.

The mix says how often each kind of request comes on average. What comes at a time is more of one and less of
another; by the average alone, a model of which four fifths are asked for by name costs as little as one that
nobody names. So the program is solved for several worlds, in each of which all that accept the same devices
ask for some multiple of their average, and the price is the mean over the worlds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import log2
from typing import Any

import numpy as np
import numpy.typing as npt

from scheduler.core.fragmentation.cutting import GRAIN_MILLIS, Worth, worth_of_free
from scheduler.core.fragmentation.fragmentation import Asked, Fragmentation
from scheduler.core.fragmentation.linear import Floats, shadow_prices
from scheduler.core.model.types import WHOLE_MILLIS, Request
from scheduler.core.pool.filters import ANY_TAINT
from scheduler.core.pool.layout import Group, Layout
from scheduler.core.pool.stock import Classes, Stock, takes_devices

WORLDS = 32
MAX_REQUESTS = 512
"""So many of the most frequent are looked at."""
MAX_KINDS = 64
"""Above that, requests are told apart less finely."""
HOST_WORTH = 1 / 3
"""What all CPU of the pool is worth where all its devices are worth 1."""
ROUNDING = 16
"""Amounts are told apart by so many steps per doubling: prices stay when one node in a hundred comes or
goes."""

_ANYTHING: dict[str, Any] = {
    "vendors": (),
    "not_vendors": (),
    "models": (),
    "not_models": (),
    "memory_bytes": 0,
    "tflops": 0.0,
    "capabilities": (),
    "node_labels": (),
    "tolerates": (ANY_TAINT,),
}
"""A request that names nothing."""

Options = tuple[tuple[int, float], ...]
"""Classes that may serve a request, each with the devices that it takes there for one where it takes the
fewest."""
Price = tuple[float, float]
"""Of a device, and of as much CPU as there is in the pool for a device."""


@dataclass(frozen=True)
class _Kind:
    """Requests that the program does not tell apart. ``anywhere``: their options if they named nothing;
    ``cpu``: for each device, in parts of the pool's CPU per device; of requests without devices 1;
    ``amount``: devices asked for (CPU: likewise)."""

    options: Options
    anywhere: Options
    cpu: float
    amount: float

    @property
    def on_host(self) -> bool:
        return not any(devices for _, devices in self.options)


class Scarcity:
    """Prices of what a pool has, by what is usually asked for. Worked out when first asked for."""

    def __init__(self, stock: Callable[[], Sequence[Stock]], mix: Fragmentation) -> None:
        self._stock = stock
        self._mix = mix
        self._counts: dict[Request, dict[int, int]] = {}

    @cached_property
    def classes(self) -> Classes:
        return Classes(self._stock())

    @cached_property
    def _cpu_per_device(self) -> float:
        devices = sum(one.devices for one in self.classes.all)
        return sum(one.cpu_millis for one in self.classes.all) / (devices or 1)

    def cost(self, group: Group, layout: Layout, request: Request) -> float:
        """What a request costs those who have to be there, for each device's worth of it, in [-1, 1]. Only
        the differences between devices mean something."""
        if not self._mix.asked:
            return 0.0
        one = self.classes.of(group, layout)
        return 0.0 if one is None else self._cost(one.number, request)

    def _cost(self, number: int, request: Request) -> float:
        counts = self.counts(request)
        if number not in counts or not counts[number]:
            return 0.0
        device, cpu = self.prices[number]
        part, least = self._part(request), min(self.counts(replace(request, **_ANYTHING)).values())
        needed = request.cpu_millis / (self._cpu_per_device or 1)
        return max(-1.0, min(1.0, (counts[number] * part * device + needed * cpu) / (least * part)))

    def dearer(
        self, group: Group, layout: Layout, request: Request, margin: float
    ) -> list[tuple[str, Asked]]:
        """Models that could serve a request too at a cost that is higher by ``margin`` or more, each with who
        mostly asks for it that these devices cannot serve."""
        own, here = self.classes.of(group, layout), self.cost(group, layout, request)
        found: dict[str, Asked] = {}
        for number in self.counts(request):
            one = self.classes.all[number]
            if own is None or one.model in ("", own.model) or one.model in found:
                continue
            if self._cost(number, request) >= here + margin:
                wanted = [a for a in self._mix.asked if _only(self.counts(a.request), number, own.number)]
                if wanted:
                    found[one.model] = max(wanted, key=lambda a: (a.ranks * max(1, a.request.count), a.queue))
        return list(found.items())

    def counts(self, request: Request) -> dict[int, int]:
        """The devices that a request takes of each class that may serve it."""
        known = self._counts.get(request)
        if known is None:
            found = ((one.number, one.count(request)) for one in self.classes.all)
            known = self._counts[request] = {number: n for number, n in found if n is not None}
        return known

    @cached_property
    def prices(self) -> tuple[Price, ...]:
        """One for each class: how much dearer it is than if requests could be served wherever they fit."""
        classes, kinds = self.classes.all, self._kinds(by_cpu=True)
        if len(kinds) > MAX_KINDS:
            kinds = self._kinds(by_cpu=False)
        if len(kinds) > MAX_KINDS:
            kinds = sorted(kinds, key=lambda kind: kind.amount / self._room(kind), reverse=True)[:MAX_KINDS]
        devices = sum(kind.amount for kind in kinds if not kind.on_host)
        if len(classes) < 2 or not devices or all(kind.options == kind.anywhere for kind in kinds):
            return ((0.0, 0.0),) * len(classes)
        scale = sum(one.devices for one in classes) / devices
        return _solved(
            tuple(_rounded(one.devices) for one in classes),
            tuple(_rounded(one.cpu_millis / (self._cpu_per_device or 1)) for one in classes),
            tuple(
                replace(kind, cpu=round(kind.cpu, 2), amount=_rounded(scale * kind.amount)) for kind in kinds
            ),
        )

    def _kinds(self, by_cpu: bool) -> list[_Kind]:
        """What is asked for, as the program sees it; ``by_cpu``: by how much CPU goes with a device, too."""
        cpus: dict[tuple[Options, Options, int], float] = defaultdict(float)
        amounts: dict[tuple[Options, Options, int], float] = defaultdict(float)
        for request, ranks in self._asked.items():
            options, size, cpu = self._sized(request)
            if options and size * ranks > 0:
                anywhere = self._sized(replace(request, **_ANYTHING))[0]
                key = options, anywhere, round(log2(cpu)) if by_cpu and cpu > 0 else 0
                amounts[key] += ranks * size
                cpus[key] += ranks * size * cpu
        return [_Kind(*key[:2], cpus[key] / amount, amount) for key, amount in sorted(amounts.items())]

    @cached_property
    def _asked(self) -> Mapping[Request, float]:
        """The most frequent requests, from all queues."""
        ranks: dict[Request, float] = defaultdict(float)
        for asked in self._mix.asked:
            ranks[asked.request] += asked.ranks
        if len(ranks) <= MAX_REQUESTS:
            return ranks
        return dict(sorted(ranks.items(), key=lambda item: (-item[1], repr(item[0])))[:MAX_REQUESTS])

    def _sized(self, request: Request) -> tuple[Options, float, float]:
        """Its options, how many devices it is worth, and its CPU for each of them."""
        counts, cpu = self.counts(request), request.cpu_millis / (self._cpu_per_device or 1)
        if not counts:
            return (), 0.0, 0.0
        if not takes_devices(request):
            return tuple((number, 0.0) for number in counts), cpu, 1.0
        least = min(counts.values())
        size = least * self._part(request)
        return tuple((number, count / least) for number, count in counts.items()), size, cpu / size

    def _part(self, request: Request) -> float:
        """What it takes of each device, as the cutting-stock prices say."""
        millis = min(request.share_millis, WHOLE_MILLIS)
        return self._worth[-(-millis // GRAIN_MILLIS)] or millis / WHOLE_MILLIS

    @cached_property
    def _worth(self) -> Worth:
        shares: dict[int, float] = defaultdict(float)
        for asked in self._mix.asked:
            if takes_devices(asked.request):
                shares[asked.request.share_millis] += asked.ranks
        return worth_of_free(shares)

    def _room(self, kind: _Kind) -> float:
        return sum(self.classes.all[number].devices for number, _ in kind.options) or 1.0


def _only(counts: Mapping[int, int], number: int, other: int) -> bool:
    """Whether what takes these counts can be served there and not by the other class."""
    return bool(counts.get(number)) and not counts.get(other)


def _rounded(amount: float) -> float:
    return 2 ** (round(ROUNDING * log2(amount)) / ROUNDING) if amount > 0 else 0.0


@lru_cache(maxsize=64)
def _solved(
    devices: tuple[float, ...], cpus: tuple[float, ...], kinds: tuple[_Kind, ...]
) -> tuple[Price, ...]:
    """The prices of classes with so many devices and so much CPU, for these kinds."""
    classes, total = len(devices), sum(devices)
    there = np.repeat(np.array([*devices, *cpus])[:, None] / total, WORLDS, axis=1)
    limits = np.vstack([there, _asked_for(kinds) / total])
    named = _program(cpus, kinds, [kind.options for kind in kinds])
    anywhere = _program(cpus, kinds, [kind.anywhere for kind in kinds])
    more = (shadow_prices(*named, limits) - shadow_prices(*anywhere, limits)).mean(axis=0)
    return tuple((round(float(more[i]), 3), round(float(more[classes + i]), 3)) for i in range(classes))


def _program(
    cpus: Sequence[float], kinds: Sequence[_Kind], options: Sequence[Options]
) -> tuple[Floats, Floats]:
    """What a device's worth of each kind takes in each class (devices and CPU, of the kind one), and what it
    is worth."""
    classes, columns, values = len(cpus), [], []
    for index, (kind, able) in enumerate(zip(kinds, options, strict=True)):
        for number, count in able:
            column = np.zeros(2 * classes + len(kinds))
            column[number], column[2 * classes + index] = count, 1.0
            column[classes + number] = kind.cpu if cpus[number] else 0.0
            columns.append(column)
            values.append(HOST_WORTH if kind.on_host else 1 + HOST_WORTH * kind.cpu)
    return np.array(columns).T, np.array(values)


def _asked_for(kinds: Sequence[_Kind]) -> Floats:
    """How much of each kind is asked for in each world."""
    numbers = {options: i for i, options in enumerate(dict.fromkeys(kind.options for kind in kinds))}
    return np.array([kind.amount * _multiples(numbers[kind.options]) for kind in kinds])


def _multiples(number: int) -> Floats:
    """Of its average, what the kind with this number asks for in each world: exponentially distributed, each
    part of the distribution once, in an order of its own (a Latin hypercube; the order is that of hashes)."""
    places = np.argsort(_hashed(np.arange(WORLDS, dtype=np.uint64) + np.uint64(WORLDS * number))).argsort()
    quantiles: Floats = -np.log(1 - (places + 0.5) / WORLDS)
    return np.asarray(quantiles / quantiles.mean())


def _hashed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Numbers that look random and are always the same (the finaliser of SplitMix64)."""
    mixed = (values + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
