"""Linear programs whose limits change: the prices of what is limited, for many limits at once.

A small dense simplex method. The program is solved once for the usual limits; for any others the same basis
is still the best by price and only has to be made feasible again (the dual simplex method: C. E. Lemke,
1954), which takes a few steps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TOLERANCE = 1e-9
PIVOT = 1e-7
"""Smaller coefficients are taken for rounding errors."""
TINY = 1e-6
GOLDEN = 0.6180339887498949
MAX_STEPS = 2000
"""Of one program. Should they run out, the prices reached are nearly the best ones."""

Floats = npt.NDArray[np.float64]


def shadow_prices(matrix: Floats, values: Floats, limits: Floats) -> Floats:
    """What one more of each limited thing would add, for each column of ``limits`` (all 0 or more): the dual
    prices of ``max values · x`` with ``matrix @ x <= limit`` and ``x >= 0``, one row per column of limits.

    ``matrix`` has no negative entries, and a positive one in every column.
    """
    program = _Tableau(matrix, values)
    program.raise_value(limits.mean(axis=1))
    return np.array([program.prices_for(limit) for limit in limits.T])


def _nearly_one(number: int) -> Floats:
    """Factors that differ from each other a little: of equal things one comes first, and the steps end."""
    return np.asarray(1 + TINY * np.modf(np.arange(1, number + 1) * GOLDEN)[0])


def _least_ratio(amounts: Floats, rates: Floats) -> int:
    """Which of the amounts is used up first at these rates; of those nearly equal the one with the highest
    rate, so that errors do not grow."""
    able = rates > PIVOT
    ratios = np.where(able, amounts / np.where(able, rates, 1.0), np.inf)
    return int(np.where(ratios <= ratios.min() + TOLERANCE, rates, 0.0).argmax())


class _Tableau:
    """The program in the terms of its basis. Slack variables come last, and their columns are the inverse of
    the basis: with them any limits can be looked at."""

    def __init__(self, matrix: Floats, values: Floats) -> None:
        rows = len(matrix)
        self._first_slack = len(values)
        self._body: Floats = np.hstack([matrix, np.eye(rows)])
        self._costs: Floats = np.concatenate([values * _nearly_one(len(values)), np.zeros(rows)])

    def raise_value(self, limits: Floats) -> None:
        """The best basis for these limits, from none used (the primal method, by the steepest column)."""
        right = limits * _nearly_one(len(limits)) + TINY * _nearly_one(len(limits))
        for _ in range(MAX_STEPS):
            entering = int(self._costs.argmax())
            if self._costs[entering] <= TOLERANCE:
                return
            leaving = _least_ratio(right, self._body[:, entering])
            right = self._pivot(self._body, self._costs, right, leaving, entering)

    def prices_for(self, limits: Floats) -> Floats:
        """The prices with these limits; the basis stays as it was."""
        body, costs = self._body.copy(), self._costs.copy()
        right: Floats = body[:, self._first_slack :] @ limits
        margin = TOLERANCE * max(1.0, float(limits.max()))
        for _ in range(MAX_STEPS):
            leaving = int(right.argmin())
            if right[leaving] >= -margin:
                break
            row = -body[leaving]
            if row.max() <= PIVOT:
                break
            right = self._pivot(body, costs, right, leaving, _least_ratio(-costs, row))
        return np.maximum(-costs[self._first_slack :], 0.0)

    @staticmethod
    def _pivot(body: Floats, costs: Floats, right: Floats, leaving: int, entering: int) -> Floats:
        """Exchange one variable of the basis for another; what is right of it afterwards."""
        scale = body[leaving, entering]
        body[leaving] /= scale
        amount = right[leaving] / scale
        others = np.flatnonzero(np.abs(body[:, entering]) > TOLERANCE)
        others = others[others != leaving]
        factors = body[others, entering]
        body[others] -= np.outer(factors, body[leaving])
        after = right.copy()
        after[others] -= factors * amount
        after[leaving] = amount
        costs -= costs[entering] * body[leaving]
        return after
