"""The states that serve one shape of request, by score."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

from scheduler.core.layout import ModelKey
from scheduler.core.options import Option


class Finder:
    """``options``: what is known of states; ``buckets``: score -> states in it, ``chosen``: their options;
    ``scores``: a heap of the negated scores; ``inside``: states in any bucket and those that do not serve;
    ``cursors``: up to where the pool's logs of filled states have been read, -1 = need not be."""

    __slots__ = ("buckets", "chosen", "cursors", "inside", "options", "ranks", "scores")

    def __init__(self) -> None:
        self.options: dict[int, Option | None] = {}
        self.chosen: dict[int, Option] = {}
        self.buckets: dict[int, list[int]] = {}
        self.scores: list[int] = []
        self.inside: set[int] = set()
        self.cursors: dict[tuple[ModelKey, ...], int] = {}
        self.ranks: npt.NDArray[np.int64] = np.full(64, -1, dtype=np.int64)

    def insert(self, state: int, option: Option) -> None:
        """Put a state into the bucket of its option's score."""
        score = option.score
        self.inside.add(state)
        self.chosen[state] = option
        bucket = self.buckets.get(score)
        if bucket is None:
            self.buckets[score] = [state]
            heappush(self.scores, -score)
        else:
            bucket.append(state)

    def prune(self, score: int, filled: list[int]) -> None:
        """Keep only these of a bucket."""
        self.inside.difference_update(self.buckets[score])
        self.inside.update(filled)
        self.buckets[score] = filled

    def drop_best(self) -> None:
        """Forget the best bucket: its states have no nodes now and are told again when they get one."""
        self.inside.difference_update(self.buckets.pop(-heappop(self.scores)))

    def room(self, states: int) -> npt.NDArray[np.int64]:
        """Ranks per state, -1 where not yet known; grown to hold that many states."""
        if len(self.ranks) < states:
            grown = np.full(2 * states, -1, dtype=np.int64)
            grown[: len(self.ranks)] = self.ranks
            self.ranks = grown
        return self.ranks
