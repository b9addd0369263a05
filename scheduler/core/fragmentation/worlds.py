"""What one more device of each class is worth, by what is asked for on average.

The usual requests are served from the whole pool, whose devices and host CPU are limited: a linear program,
and the price of a device is its dual, the work that one more of it would serve.

What comes at a time is more of one kind and less of another than the average: by the average alone, a model
of which four fifths are asked for by name costs as little as one that nobody names. So the program is solved
for several worlds, in each of which all that accept the same devices ask for some multiple of their average,
and the price is the mean over the worlds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scheduler.core.fragmentation.linear import Floats, shadow_prices

WORLDS = 32
HOST_WORTH = 1 / 3
"""What all CPU of the pool is worth where all its devices are worth 1."""

Options = tuple[tuple[int, float], ...]
"""Classes that may serve a request, each with the devices that it takes there for one where it takes the
fewest."""
Price = tuple[float, float]
"""Of a device, and of as much CPU as there is in the pool for a device."""


class RequestKind(NamedTuple):
    """Requests that the program does not tell apart. ``cpu``: for each device, in parts of the pool's CPU per
    device; of requests without devices 1."""

    options: Options
    cpu: float

    @property
    def on_host(self) -> bool:
        return not any(devices for _, devices in self.options)


Amount = tuple[int, int, float]
"""So many devices asked for (CPU: likewise) are of one kind by what they name, and of another if they named
nothing."""


@lru_cache(maxsize=64)
def dearer_by_naming(
    devices: tuple[float, ...],
    cpus: tuple[float, ...],
    named: tuple[RequestKind, ...],
    anywhere: tuple[RequestKind, ...],
    amounts: tuple[Amount, ...],
) -> tuple[Price, ...]:
    """How much dearer each class is than if requests named nothing, in a pool of so many devices and so much
    CPU of each."""
    classes, total = len(devices), sum(devices)
    there = np.repeat(np.array([*devices, *cpus])[:, None] / total, WORLDS, axis=1)
    multiples = np.array([_multiples(number) for number in range(len(named))])
    asked, asked_anywhere = np.zeros((len(named), WORLDS)), np.zeros((len(anywhere), WORLDS))
    for kind, where, amount in amounts:
        asked[kind] += amount / total * multiples[kind]
        asked_anywhere[where] += amount / total * multiples[kind]
    with_names = shadow_prices(*_program(cpus, named), np.vstack([there, asked]))
    without = shadow_prices(*_program(cpus, anywhere), np.vstack([there, asked_anywhere]))
    more = (with_names[:, : 2 * classes] - without[:, : 2 * classes]).mean(axis=0)
    return tuple((round(float(more[i]), 3), round(float(more[classes + i]), 3)) for i in range(classes))


def _program(cpus: Sequence[float], kinds: Sequence[RequestKind]) -> tuple[Floats, Floats]:
    """What a device's worth of each kind takes in each class (devices and CPU, of the kind one), and what it
    is worth."""
    classes, columns, values = len(cpus), [], []
    for index, kind in enumerate(kinds):
        for number, count in kind.options:
            column = np.zeros(2 * classes + len(kinds))
            column[number], column[2 * classes + index] = count, 1.0
            column[classes + number] = kind.cpu if cpus[number] else 0.0
            columns.append(column)
            values.append(HOST_WORTH if kind.on_host else 1 + HOST_WORTH * kind.cpu)
    return np.array(columns).T, np.array(values)


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
