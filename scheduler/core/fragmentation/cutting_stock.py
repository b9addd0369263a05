"""What a part of a device is worth: the prices of the cutting-stock problem.

Devices are stock of one size, shares are cut from them. The linear program that serves the usual shares
from the fewest devices has a price per size of share, such that no pattern of shares that fits on one
device is worth more than the device, and the patterns in use are worth just as much. So a placement that
keeps to such patterns costs nothing, and any other shows what it wastes: of a mix of 810 and 470
thousandths, the 190 beside an 810 are worth nothing, and 470 is worth half a device.

The program is solved by column generation: P. C. Gilmore and R. E. Gomory, "A Linear Programming Approach
to the Cutting-Stock Problem", Operations Research 9 (1961)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt

GRAIN_MILLIS = 10
"""Shares are rounded up to multiples of this."""
UNITS = 1000 // GRAIN_MILLIS
MAX_ROUNDS = 300
TOLERANCE = 1e-9

Floats = npt.NDArray[np.float64]
Worth = tuple[float, ...]
"""By free units of a device: between 0 (nothing usual fits) and 1 (a whole device)."""


def worth_of_free(demand: Mapping[int, float]) -> Worth:
    """The most that can be cut from so much of a device, for each number of units from 0 to ``UNITS``.

    ``demand``: share in millis (below 1000) → how often it comes.
    """
    units: dict[int, float] = {}
    for share, weight in demand.items():
        size = -(-share // GRAIN_MILLIS)
        if 0 < size < UNITS and weight > 0:
            units[size] = units.get(size, 0.0) + weight
    total = sum(units.values())
    return _worth(tuple((size, round(weight / total, 6)) for size, weight in sorted(units.items())))


@lru_cache(maxsize=256)
def _worth(demand: tuple[tuple[int, float], ...]) -> Worth:
    sizes = tuple(size for size, _ in demand)
    best = _fill(sizes, _prices(demand))[0] if sizes else [0.0] * (UNITS + 1)
    most = max(best[UNITS], TOLERANCE)
    return (*(value / most for value in best[:UNITS]), 1.0)


def _prices(demand: tuple[tuple[int, float], ...]) -> list[float]:
    """Per size, in devices. Should the rounds run out, nearly the best: the caller scales them to be
    valid."""
    sizes = tuple(size for size, _ in demand)
    patterns = np.diag([float(UNITS // size) for size in sizes])
    amounts: Floats = np.array([weight for _, weight in demand]) / patterns.diagonal()
    prices: Floats = 1 / patterns.diagonal()
    for _ in range(MAX_ROUNDS):
        best, last = _fill(sizes, prices.tolist())
        if best[UNITS] <= 1 + TOLERANCE:
            break
        entering = _pattern(sizes, last)
        change: Floats = np.linalg.solve(patterns, entering)
        ratios = np.where(change > TOLERANCE, amounts / np.maximum(change, TOLERANCE), np.inf)
        leaving = int(ratios.argmin())
        amounts = np.maximum(amounts - ratios[leaving] * change, 0.0)
        amounts[leaving] = ratios[leaving]
        patterns[:, leaving] = entering
        prices = np.linalg.solve(patterns.T, np.ones(len(sizes)))
    return [max(0.0, float(price)) for price in prices]


def _fill(sizes: tuple[int, ...], prices: list[float]) -> tuple[list[float], list[int]]:
    """Unbounded knapsack: the best value for each number of units, and the index of the size cut last (-1:
    none)."""
    best, last = [0.0] * (UNITS + 1), [-1] * (UNITS + 1)
    for room in range(1, UNITS + 1):
        best[room], last[room] = best[room - 1], -1
        for index, size in enumerate(sizes):
            if size > room:
                break
            value = best[room - size] + prices[index]
            if value > best[room] + TOLERANCE:
                best[room], last[room] = value, index
    return best, last


def _pattern(sizes: tuple[int, ...], last: list[int]) -> Floats:
    """How often each size is cut from a whole device."""
    times = np.zeros(len(sizes))
    room = UNITS
    while room > 0:
        index = last[room]
        if index < 0:
            room -= 1
        else:
            times[index] += 1
            room -= sizes[index]
    return times
