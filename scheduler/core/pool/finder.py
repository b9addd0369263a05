"""The states that serve one shape of request, by score."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

from scheduler.core.pool.options import Option
from scheduler.core.pool.states import NodeKind, Shape

Top = tuple[int, int, Option]
"""Negated score, node and option: the least is the best."""


class Ranking:
    """States of one kind by their scores for one shape. ``options``: what is known of states; ``buckets``:
    score -> states in it, ``chosen``: their options; ``scores``: a heap of the negated scores; ``inside``:
    states in any bucket and those that do not serve; ``cursor``: up to where the kind's log has been read, of
    the log's ``edition``; ``top``: the best node when the kind's ``changes`` were ``seen``."""

    __slots__ = (
        "buckets",
        "chosen",
        "cursor",
        "edition",
        "inside",
        "kind",
        "options",
        "scores",
        "seen",
        "shape",
        "top",
    )

    def __init__(self, kind: NodeKind, shape: Shape, options: dict[int, Option | None]) -> None:
        self.kind = kind
        self.shape = shape
        self.options = options
        self.chosen: dict[int, Option] = {}
        self.buckets: dict[int, list[int]] = {}
        self.scores: list[int] = []
        self.inside: set[int] = set()
        self.cursor, self.edition, self.seen = 0, 0, -1
        self.top: Top | None = None

    def unread(self) -> list[int]:
        """States that got their first node since this was last asked."""
        log = self.kind.log
        if self.edition != self.kind.edition:
            self.edition, self.cursor = self.kind.edition, 0
        new = log[self.cursor :]
        self.cursor = len(log)
        return new

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


class Finder:
    """What is known for one shape. ``options``: of states; ``rankings``: of the kinds that may serve it among
    the first ``kinds``; ``ranks``: per state, see ``room``."""

    __slots__ = ("kinds", "options", "rankings", "ranks")

    def __init__(self) -> None:
        self.options: dict[int, Option | None] = {}
        self.rankings: list[Ranking] = []
        self.kinds = 0
        self.ranks: npt.NDArray[np.int64] = np.full(64, -1, dtype=np.int64)

    def room(self, states: int) -> npt.NDArray[np.int64]:
        """Ranks per state, -1 where not yet known; grown to hold that many states."""
        if len(self.ranks) < states:
            grown = np.full(2 * states, -1, dtype=np.int64)
            grown[: len(self.ranks)] = self.ranks
            self.ranks = grown
        return self.ranks
