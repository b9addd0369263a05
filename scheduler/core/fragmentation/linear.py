"""Linear programs whose limits change: the prices of what is limited, for many limits at once.

A small dense simplex method. The program is solved once for the usual limits; for any others the same basis
is still the best by price and only has to be made feasible again (the dual simplex method: C. E. Lemke,
1954). That takes a few dozen steps, which are taken for all limits together, each with its own basis: a step
is a handful of operations on whole arrays (the revised method, with the inverses of the bases)."""

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
Indices = npt.NDArray[np.intp]


def shadow_prices(matrix: Floats, values: Floats, limits: Floats) -> Floats:
    """What one more of each limited thing would add, for each column of ``limits`` (all 0 or more): the dual
    prices of ``max values · x`` with ``matrix @ x <= limit`` and ``x >= 0``, one row per column of limits.

    ``matrix`` has no negative entries, and a positive one in every column.
    """
    inverse, costs = _best_basis(matrix, values * _nearly_one(len(values)), limits.mean(axis=1))
    bases = _Bases(matrix, inverse, costs, limits)
    for _ in range(MAX_STEPS):
        if not bases.step():
            break
    return bases.prices()


def _nearly_one(number: int) -> Floats:
    """Factors that differ from each other a little: of equal things one comes first, and the steps end."""
    return np.asarray(1 + TINY * np.modf(np.arange(1, number + 1) * GOLDEN)[0])


def _least_ratio(amounts: Floats, rates: Floats) -> Indices:
    """Per row, which of the amounts is used up first at these rates; of those nearly equal the one with the
    highest rate, so that errors do not grow."""
    able = rates > PIVOT
    ratios = np.where(able, amounts / np.where(able, rates, 1.0), np.inf)
    first = ratios <= ratios.min(axis=1, keepdims=True) + TOLERANCE
    return np.asarray(np.where(first, rates, 0.0).argmax(axis=1))


def _best_basis(matrix: Floats, values: Floats, limits: Floats) -> tuple[Floats, Floats]:
    """The inverse of the best basis for these limits and the costs of all variables in its terms, slack
    variables last (the primal method from no variable used, by the steepest column)."""
    rows = len(matrix)
    body: Floats = np.hstack([matrix, np.eye(rows)])
    costs: Floats = np.concatenate([values, np.zeros(rows)])
    right: Floats = limits * _nearly_one(rows) + TINY * _nearly_one(rows)
    for _ in range(MAX_STEPS):
        entering = int(costs.argmax())
        column = body[:, entering].copy()
        if costs[entering] <= TOLERANCE or column.max() <= PIVOT:
            break
        leaving = int(_least_ratio(right[None], column[None])[0])
        row = body[leaving] / column[leaving]
        amount = right[leaving] / column[leaving]
        column[leaving] -= 1.0
        others = np.flatnonzero(column)
        body[others] -= column[others, None] * row
        right -= column * amount
        costs -= costs[entering] * row
    return body[:, len(values) :], costs


class _Bases:
    """A basis for each column of limits, all the same at first. Those that are feasible are set aside."""

    def __init__(self, matrix: Floats, inverse: Floats, costs: Floats, limits: Floats) -> None:
        self._matrix = matrix
        self._open: Indices = np.arange(limits.shape[1])
        self._costs: Floats = np.tile(costs, (len(self._open), 1))
        self._inverses: Floats = np.tile(inverse, (len(self._open), 1, 1))
        self._rights: Floats = (inverse @ limits).T
        self._margins: Floats = TOLERANCE * np.maximum(1.0, limits.max(axis=0))
        self._prices: Floats = np.zeros(limits.T.shape)

    def step(self) -> bool:
        """Exchange one variable of each basis that is not feasible yet; False where there is none."""
        leaving = self._rights.argmin(axis=1)
        self._close(self._rights[np.arange(len(self._open)), leaving] < -self._margins)
        if not len(self._open):
            return False
        leaving = self._rights.argmin(axis=1)
        worlds = np.arange(len(self._open))
        of_slack = self._inverses[worlds, leaving]
        rows: Floats = np.hstack([of_slack @ self._matrix, of_slack])
        able = rows.min(axis=1) < -PIVOT
        if not able.all():
            self._close(able)
            return bool(len(self._open))
        self._exchange(worlds, leaving, rows, _least_ratio(-self._costs, -rows))
        return True

    def _exchange(self, worlds: Indices, leaving: Indices, rows: Floats, entering: Indices) -> None:
        columns = self._columns(entering)
        rows /= rows[worlds, entering][:, None]
        amounts = self._rights[worlds, leaving] / columns[worlds, leaving]
        columns[worlds, leaving] -= 1.0
        self._rights -= columns * amounts[:, None]
        self._costs -= self._costs[worlds, entering][:, None] * rows
        self._inverses -= columns[:, :, None] * rows[:, None, self._matrix.shape[1] :]

    def _columns(self, entering: Indices) -> Floats:
        """The variables that come in, in the terms of each basis."""
        first_slack = self._matrix.shape[1]
        wanted = np.zeros((len(entering), len(self._matrix)))
        slack = entering >= first_slack
        wanted[~slack] = self._matrix.T[entering[~slack]]
        wanted[slack, entering[slack] - first_slack] = 1.0
        return np.asarray((self._inverses @ wanted[:, :, None])[:, :, 0])

    def _close(self, still: npt.NDArray[np.bool_]) -> None:
        """Keep on with these; of the others the prices are known."""
        if still.all():
            return
        self._note(~still)
        self._open, self._margins = self._open[still], self._margins[still]
        self._costs, self._rights = self._costs[still], self._rights[still]
        self._inverses = self._inverses[still]

    def _note(self, known: npt.NDArray[np.bool_]) -> None:
        prices = -self._costs[known, self._matrix.shape[1] :]
        self._prices[self._open[known]] = np.maximum(prices, 0.0)

    def prices(self) -> Floats:
        """As they are now."""
        self._note(np.ones(len(self._open), dtype=bool))
        return self._prices
