"""What a device of each class is worth to those who ask for it.

A device that much of the work may use only there (it names the model, needs the memory, the vendor, a host
label) should be left alone by work that can go elsewhere. Its price is what one more of it would serve, by
the usual requests (``worlds``). Parts of devices count by the prices of the cutting-stock problem
(``cutting``), requests by equivalence by the number of devices that they take of each class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from math import log2

from scheduler.core.fragmentation.fragmentation import Asked, Fragmentation
from scheduler.core.fragmentation.worlds import Options, Price, RequestKind, dearer_by_naming
from scheduler.core.model.types import Request
from scheduler.core.pool.layout import Group, Layout
from scheduler.core.pool.stock import Classes, Stock
from scheduler.core.pool.wants import Wanted, Wants

MAX_KINDS = 64
"""So many kinds of requests, those that ask for most of what may serve them, are told apart."""
FEW, MARGIN = 0.01, 0.15
"""Of devices that are so few of all, or fewer, costs count from so much on: they hang on single requests."""
ROUNDING = 16
"""Amounts are told apart by so many steps per doubling: prices stay when one node in a hundred comes or
goes."""


class Scarcity:
    """Prices of what a pool has, by what is usually asked for. Worked out when first asked for. ``before``:
    of the pool or the mix as it was; what holds of it is kept."""

    def __init__(
        self,
        stock: Callable[[], Sequence[Stock]],
        workload_mix: Fragmentation,
        before: Scarcity | None = None,
    ) -> None:
        self._stock = stock
        self._workload_mix = workload_mix
        self._before: Scarcity | None = before
        if before is not None and "_wants" not in before.__dict__:
            self._before = before._before
        self._known: dict[Request, Mapping[int, float]] = {}

    @cached_property
    def classes(self) -> Classes:
        return Classes(self._stock())

    @cached_property
    def _wants(self) -> Wants:
        before, self._before = self._before, None
        if (
            before is None
            or before._workload_mix is not self._workload_mix
            or before.classes.layouts != self.classes.layouts
        ):
            return Wants(self.classes.all, self._workload_mix)
        return before._wants

    @cached_property
    def _cpu_per_device(self) -> float:
        devices = sum(one.devices for one in self.classes.all)
        return sum(one.cpu_millis for one in self.classes.all) / (devices or 1) or 1.0

    def cost(self, group: Group, layout: Layout, request: Request) -> float:
        """What a request costs those who have to be there, for each device's worth of it, in [-1, 1], beyond
        what it usually costs."""
        if not self._workload_mix.asked:
            return 0.0
        one = self.classes.of(group, layout)
        return 0.0 if one is None else self._costs(request).get(one.number, 0.0)

    def _costs(self, request: Request) -> Mapping[int, float]:
        """By classes that may serve it."""
        known = self._known.get(request)
        if known is None:
            known = self._known[request] = self._beyond_usual(self._raw_costs(request))
        return known

    def _raw_costs(self, request: Request) -> dict[int, float]:
        counts, part = self.counts(request), self._wants.part(request)
        least = min(self._wants.counts_anywhere(request).values(), default=0) * part
        needed = request.cpu_millis / self._cpu_per_device
        prices = {number: self.prices[number] for number, count in counts.items() if count}
        return {
            number: (counts[number] * part * device + needed * cpu) / least
            for number, (device, cpu) in prices.items()
        }

    def _beyond_usual(self, costs: Mapping[int, float]) -> dict[int, float]:
        """Without what its devices usually cost it, which says nothing."""
        usual, devices = 0.0, sum(self.classes.all[number].devices for number in costs) / 2
        for number in sorted(costs, key=lambda number: (costs[number], number)):
            usual = costs[number]
            devices -= self.classes.all[number].devices
            if devices <= 0:
                break
        sure = {number: max(-1.0, min(1.0, cost - usual)) for number, cost in costs.items()}
        few = FEW * sum(one.devices for one in self.classes.all)
        return {
            n: c if abs(c) >= MARGIN or self.classes.all[n].devices > few else 0.0 for n, c in sure.items()
        }

    def devices(self, group: Group, layout: Layout, request: Request) -> float:
        """What it takes there of the devices that it takes where it takes the most; 1 where they cannot serve
        it."""
        if not request.by_equivalence:
            return 1.0
        one, counts = self.classes.of(group, layout), self.counts(request)
        return counts[one.number] / max(counts.values()) if one and one.number in counts else 1.0

    def counts(self, request: Request) -> dict[int, int]:
        """The devices that a request takes of each class that may serve it."""
        return self._wants.counts(request)

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
            if self._costs(request).get(number, 0.0) >= here + margin:
                wanted = self._wants.only(number, own.number)
                if wanted:
                    found[one.model] = max(wanted, key=lambda a: (a.ranks * max(1, a.request.count), a.queue))
        return list(found.items())

    @cached_property
    def prices(self) -> tuple[Price, ...]:
        """One for each class: how much dearer it is than if requests could be served wherever they fit."""
        classes, wanted = self.classes.all, self._told_apart()
        devices = sum(amount for (options, _), (amount, _) in wanted.items() if _takes_devices(options))
        if len(classes) < 2 or not devices or all(options == anywhere for options, anywhere in wanted):
            return ((0.0, 0.0),) * len(classes)
        scale = sum(one.devices for one in classes) / devices
        named, anywhere = self._kinds(wanted, 0), self._kinds(wanted, 1)
        numbers = [{kind.options: number for number, kind in enumerate(kinds)} for kinds in (named, anywhere)]
        return dearer_by_naming(
            tuple(_rounded(one.devices) for one in classes),
            tuple(_rounded(one.cpu_millis / self._cpu_per_device) for one in classes),
            named,
            anywhere,
            tuple(
                (numbers[0][options], numbers[1][where], _rounded(scale * self._amount(options, amount)))
                for (options, where), (amount, _) in wanted.items()
            ),
        )

    def _told_apart(self) -> Wanted:
        wanted = self._wants.wanted
        amounts: dict[Options, float] = defaultdict(float)
        for (options, _), (amount, _) in wanted.items():
            room = sum(self.classes.all[number].devices for number, _ in options)
            amounts[options] += self._amount(options, amount) / (room or 1)
        told = sorted(amounts, key=lambda options: (-amounts[options], options))[:MAX_KINDS]
        return {key: found for key, found in wanted.items() if key[0] in told}

    def _amount(self, options: Options, amount: float) -> float:
        """In devices, or in the CPU that there is for one."""
        return amount if _takes_devices(options) else amount / self._cpu_per_device

    def _kinds(self, wanted: Wanted, side: int) -> tuple[RequestKind, ...]:
        """Of what is wanted, by its options (``side`` 0) or those if it named nothing (1)."""
        amounts: dict[Options, float] = defaultdict(float)
        cpus: dict[Options, float] = defaultdict(float)
        for key, (amount, cpu_millis) in wanted.items():
            amounts[key[side]] += self._amount(key[0], amount)
            cpus[key[side]] += cpu_millis / self._cpu_per_device
        return tuple(
            RequestKind(options, round(cpus[options] / amounts[options], 2)) for options in sorted(amounts)
        )


def _takes_devices(options: Options) -> bool:
    return any(devices for _, devices in options)


def _rounded(amount: float) -> float:
    return 2 ** (round(ROUNDING * log2(amount)) / ROUNDING) if amount > 0 else 0.0
