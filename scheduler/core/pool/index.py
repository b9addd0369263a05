"""Nodes by their states, so that the best one for a request is found without looking at every node.

Nodes in equal states are interchangeable. For each shape of request the states that serve it are ranked by
score, kind of node by kind of node; shapes that only differ in what they accept share a ranking. The best
non-empty state gives its first node (in the fixed order of names). A state is judged once per shape, when it
first has a node.
"""

from __future__ import annotations

from array import array
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

from scheduler.core.pool.finder import Finder, Ranking, Top
from scheduler.core.pool.options import Judge, Option, best_option
from scheduler.core.pool.states import NodeState, Shape, States, ranks_in


class Index:
    """``state_of``: the state of each node, by number; ``listed``: whether it may be given out."""

    def __init__(self, judge: Judge) -> None:
        self.states = States()
        self.state_of = array("i")
        self.listed = bytearray()
        self._judge = judge
        self._finders: dict[int, Finder] = {}
        self._rankings: dict[tuple[int, int], Ranking] = {}

    def judge_by(self, judge: Judge) -> None:
        """Forget all scores: they are by this from now on."""
        self._judge = judge
        self._finders.clear()
        self._rankings.clear()

    # -- lists of nodes per state

    def add(self) -> None:
        """One more node, not listed and in no state yet."""
        self.listed.append(0)
        self.state_of.append(-1)

    def show(self, number: int) -> None:
        """It may be given out from now on."""
        if not self.listed[number]:
            self.listed[number] = 1
            state = self.states.all[self.state_of[number]]
            state.count += 1  # as if it were there: ``move`` counts it out and in
            self.move(number, state)

    def conceal(self, number: int) -> None:
        """It is not to be given out for now."""
        if self.listed[number]:
            self.listed[number] = 0
            state = self.states.all[self.state_of[number]]
            state.count -= 1
            state.kind.changes += 1

    def move(self, number: int, state: NodeState) -> None:
        """It is in this state now."""
        if self.listed[number]:
            before = self.states.all[self.state_of[number]]
            before.count -= 1
            before.kind.changes += 1
            self.state_of[number] = state.number
            state.count += 1
            state.kind.changes += 1
            heappush(state.heap, number)
            if state.count == 1:
                state.kind.log.append(state.number)
        else:
            self.state_of[number] = state.number
            state.kind.changes += 1

    def _first(self, state: NodeState) -> int:
        heap = state.heap
        while self.state_of[heap[0]] != state.number or not self.listed[heap[0]]:
            heappop(heap)
        return heap[0]

    # -- finding

    def option(self, shape: Shape, state: NodeState) -> Option | None:
        """What a rank of this shape would take in this state."""
        if shape.amount is not shape and len(state.layout.groups) == 1:
            return self.option(shape.amount, state) if shape.demands(state.layout) else None
        known = self._finder(shape).options
        if state.number not in known:
            known[state.number] = best_option(self.states, state, shape, self._judge)
        return known[state.number]

    def find(self, shape: Shape) -> tuple[int, Option] | None:
        """The best node, or None. Among nodes of equal score the first."""
        finder = self._finder(shape)
        if finder.kinds < len(self.states.kinds):
            self._extend(finder, shape)
        best: Top | None = None
        for ranking in finder.rankings:
            kind = ranking.kind
            if ranking.seen != kind.changes:
                if ranking.cursor != len(kind.log) or ranking.edition != kind.edition:
                    self._read_on(ranking)
                scores = ranking.scores
                if best is not None and (not scores or scores[0] > best[0]):
                    continue  # whatever its best node is now, it is worse
                ranking.top = self._top(ranking)
                ranking.seen = kind.changes
            top = ranking.top
            if top is not None and (best is None or top < best):
                best = top
        return None if best is None else best[1:]

    def _finder(self, shape: Shape) -> Finder:
        finder = self._finders.get(shape.number)
        if finder is None:
            finder = self._finders[shape.number] = Finder()
        return finder

    def _extend(self, finder: Finder, shape: Shape) -> None:
        """Let the finder look at the kinds of nodes that are new to it."""
        for kind in self.states.kinds[finder.kinds :]:
            if shape.may_serve(kind):
                alike = len(kind.models) == 1 and not shape.request.node_labels
                judged = shape.amount if alike else shape
                key = (judged.number, kind.number)
                ranking = self._rankings.get(key)
                if ranking is None:
                    ranking = self._rankings[key] = Ranking(kind, judged, self._finder(judged).options)
                finder.rankings.append(ranking)
        finder.kinds = len(self.states.kinds)

    def _read_on(self, ranking: Ranking) -> None:
        """Let the ranking know the states that got a node since it was asked last."""
        kind = ranking.kind
        states, options, inside = self.states.all, ranking.options, ranking.inside
        for number in ranking.unread():
            if number not in inside and states[number].count:
                if number not in options:
                    options[number] = best_option(self.states, states[number], ranking.shape, self._judge)
                option = options[number]
                if option is None:
                    inside.add(number)
                else:
                    ranking.insert(number, option)
        if len(kind.log) > kind.log_limit:
            kind.shorten_log()

    def _top(self, ranking: Ranking) -> Top | None:
        states, state_of, listed, scores = self.states.all, self.state_of, self.listed, ranking.scores
        while scores:
            bucket = ranking.buckets[-scores[0]]
            best, best_state, empty = -1, -1, 0
            for number in bucket:
                state = states[number]
                if not state.count:
                    empty += 1
                    continue
                node = state.heap[0]
                if state_of[node] != number or not listed[node]:
                    node = self._first(state)
                if best < 0 or node < best:
                    best, best_state = node, number
            if best >= 0:
                if 2 * empty > len(bucket):
                    ranking.prune(-scores[0], [n for n in bucket if states[n].count])
                return scores[0], best, ranking.chosen[best_state]
            ranking.drop_best()
        return None

    # -- counts

    def ranks_per_node(self, shape: Shape) -> npt.NDArray[np.int64]:
        """How many ranks of the shape each node would take; 0 for nodes that are not to be used."""
        table = self._finder(shape).room(len(self.states.all))
        state_of = np.frombuffer(self.state_of, dtype=np.int32)
        room = table[state_of]
        unknown = state_of[room < 0]
        if len(unknown):
            for number in np.unique(unknown).tolist():
                table[number] = ranks_in(self.states.all[number], shape)
            room = table[state_of]
        return np.where(np.frombuffer(self.listed, dtype=np.uint8) > 0, room, 0)
