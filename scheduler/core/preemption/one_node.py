"""The cheapest way to make one rank fit on one node: which of what runs there has to go.

Worked out on what is free and held per device, so that nothing is tried on the pool. Devices (or islands,
where the vendor's rule wants whole ones) are cleared cheapest first; what is on several of them is paid once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from scheduler.core.pool.layout import MEMORY_BITS, MEMORY_MASK, Group, pack
from scheduler.core.pool.options import choose_islands
from scheduler.core.pool.states import Demand, Shape, grants_in
from scheduler.core.pool.usage import NodeUsage

Chosen = frozenset[int]
"""Numbers of items that go."""

K = TypeVar("K")


@dataclass(slots=True, eq=False)
class Item(Generic[K]):
    """Something that can be taken away as a whole. ``key`` tells the caller what it is; ``on``: packed, what
    it holds of each device (by position) of this node."""

    key: K
    price: int
    on: dict[int, int] = field(default_factory=dict)
    cpu_millis: int = 0
    host_mebibytes: int = 0


class OneNode(Generic[K]):
    """One node with what could be taken away from it."""

    def __init__(self, usage: NodeUsage, items: Sequence[Item[K]]) -> None:
        self._usage = usage
        self._items = items
        self._on: dict[int, list[int]] = {}
        for number, item in enumerate(items):
            for position in item.on:
                self._on.setdefault(position, []).append(number)

    def cheapest(self, shape: Shape) -> tuple[int, list[Item[K]]] | None:
        """Price and items after whose removal a rank fits; None where nothing helps. Free where it fits
        already."""
        layout = self._usage.layout
        demands = shape.demands(layout)
        best: tuple[int, Chosen] | None = None
        if not shape.takes_devices:
            best = self._with_host(frozenset(), shape) if shape.is_let_in(layout) else None
        for demand in demands:
            chosen = self._devices(layout.groups[demand.group], demand)
            found = None if chosen is None else self._with_host(chosen, shape)
            if found is not None and (best is None or found[0] < best[0]):
                best = found
        return None if best is None else (best[0], [self._items[number] for number in sorted(best[1])])

    # -- devices

    def _devices(self, group: Group, demand: Demand) -> Chosen | None:
        islands = self._usage.positions[demand.group]
        if demand.whole:
            return self._whole(group, islands, demand.grants)
        positions = [position for island in islands for position in island]
        fits = lambda entries: sum(grants_in(e, demand.packed) for e in entries) >= demand.grants  # noqa: E731
        if demand.grants == 1:
            each = [self._until((position,), fits) for position in positions]
            return self._cheaper(chosen for chosen in each if chosen is not None)
        return self._until(positions, fits)

    def _whole(self, group: Group, islands: list[list[int]], count: int) -> Chosen | None:
        """Whole devices as the vendor's rule wants them."""
        able = [[p for p in island if self._clearable(p)] for island in islands]
        rule = group.spec.rule
        if rule.pair_size > 1 and count % rule.pair_size == 0:
            modules = zip(able, islands, strict=True)
            whole = [island for island, there in modules if len(island) == len(there) >= rule.pair_size]
            needed = min(count // rule.pair_size, -(-count // max(group.islands)))
            pairs = self._cheapest_of(whole, needed)
            return pairs if self._suits(pairs, group, islands, count) else None
        if rule.island_rule not in ("inside", "even"):
            return self._cheapest_of([[p] for island in able for p in island], count)
        inside = [self._cheapest_of([[p] for p in island], count) for island in able]
        found = self._cheaper(chosen for chosen in inside if chosen is not None)
        if found is not None:
            return found
        rings = -(-count // group.ring)
        parts = [self._cheapest_of([[p] for p in island], count // rings) for island in able]
        together = sorted((self._price(part), n) for n, part in enumerate(parts) if part is not None)[:rings]
        chosen = frozenset[int]().union(*(parts[n] or () for _, n in together))
        return chosen if self._suits(chosen, group, islands, count) else None

    def _suits(self, chosen: Chosen | None, group: Group, islands: list[list[int]], count: int) -> bool:
        """Whether the vendor's rule finds its devices once these items are gone."""
        if chosen is None:
            return False
        free = [sum(self._entry(p, chosen) == group.capacity for p in island) for island in islands]
        return bool(choose_islands(free, group, count))

    def _clearable(self, position: int) -> bool:
        """Whether all that is on the device can be taken away."""
        return self._entry(position, self._on.get(position, ())) == self._usage.capacity[position]

    def _entry(self, position: int, chosen: Iterable[int]) -> int:
        """Packed free capacity of a device without these items."""
        capacity, used = self._usage.capacity[position], self._usage.used[position]
        for number in chosen:
            used -= self._items[number].on.get(position, 0)
        millis = (capacity >> MEMORY_BITS) - (used >> MEMORY_BITS)
        return pack(max(0, millis), max(0, (capacity & MEMORY_MASK) - (used & MEMORY_MASK)))

    def _cheapest_of(self, sets: list[list[int]], count: int) -> Chosen | None:
        """Clear so many of these sets of devices."""
        if len(sets) < count:
            return None
        if len(sets) == count:
            return frozenset(n for each in sets for p in each for n in self._on.get(p, ()))
        chosen: set[int] = set()
        left = list(sets)
        for _ in range(count):
            best = min(left, key=lambda each: self._clear_price(each, chosen))
            left.remove(best)
            chosen.update(n for position in best for n in self._on.get(position, ()))
        return frozenset(chosen)

    def _clear_price(self, positions: Iterable[int], chosen: set[int]) -> int:
        numbers = {n for position in positions for n in self._on.get(position, ())}
        return sum(self._items[n].price for n in numbers - chosen)

    def _until(self, positions: Sequence[int], fits: Callable[[list[int]], bool]) -> Chosen | None:
        """Take away from these devices, cheapest first, until it fits; then put back what is not needed."""
        numbers = sorted(
            {n for p in positions for n in self._on.get(p, ())}, key=lambda n: (self._items[n].price, n)
        )
        chosen: list[int] = []
        while not fits([self._entry(p, chosen) for p in positions]):
            if len(chosen) == len(numbers):
                return None
            chosen.append(numbers[len(chosen)])
        for number in reversed(chosen[:-1]):
            fewer = [n for n in chosen if n != number]
            if fits([self._entry(p, fewer) for p in positions]):
                chosen = fewer
        return frozenset(chosen)

    # -- host and price

    def _with_host(self, chosen: Chosen, shape: Shape) -> tuple[int, Chosen] | None:
        """The same, with what else must go for CPU and memory of the host."""
        usage, layout = self._usage, self._usage.layout
        cpu = shape.cpu_millis - (layout.cpu_millis - usage.cpu_used_millis) if layout.cpu_millis else 0
        host = (
            shape.host_mebibytes - (layout.host_mebibytes - usage.host_used_mebibytes)
            if layout.host_mebibytes
            else 0
        )
        cpu -= sum(self._items[n].cpu_millis for n in chosen)
        host -= sum(self._items[n].host_mebibytes for n in chosen)
        more: list[int] = []
        others = (n for n in range(len(self._items)) if n not in chosen)
        for number in sorted(others, key=lambda n: (self._items[n].price, n)):
            if cpu <= 0 and host <= 0:
                break
            item = self._items[number]
            if (cpu > 0 and item.cpu_millis) or (host > 0 and item.host_mebibytes):
                more.append(number)
                cpu, host = cpu - item.cpu_millis, host - item.host_mebibytes
        if cpu > 0 or host > 0:
            return None
        for number in reversed(more[:-1]):
            item = self._items[number]
            if cpu + item.cpu_millis <= 0 and host + item.host_mebibytes <= 0:
                more.remove(number)
                cpu, host = cpu + item.cpu_millis, host + item.host_mebibytes
        every = chosen.union(more)
        return self._price(every), every

    def _price(self, chosen: Iterable[int]) -> int:
        return sum(self._items[number].price for number in chosen)

    def _cheaper(self, several: Iterable[Chosen]) -> Chosen | None:
        return min(several, key=lambda chosen: (self._price(chosen), sorted(chosen)), default=None)
