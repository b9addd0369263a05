"""When what runs gives its places back, as arrays: what is asked about tens of thousands of ranks is answered
without looking at each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt

from scheduler.core.model.runtimes import end_ms
from scheduler.core.model.types import WHOLE_MILLIS, Assignment, RunningView
from scheduler.core.placement.trial import Trial
from scheduler.core.pool.layout import MEMORY_BITS, ModelKey
from scheduler.core.pool.pool import Pool
from scheduler.core.pool.states import Demand, NodeState, Shape

Ints = npt.NDArray[np.int64]
NEVER_MS = 1 << 62


class Releases:
    """Of all that has a foreseeable end, one entry per rank in each column: whose it is (``holders``), its
    place, when it is given back (``ends_ms``), on which node (its number), of which model, how many millis,
    and how many if each share counts as a whole device."""

    def __init__(self, running: Iterable[RunningView], pool: Pool, now_ms: int) -> None:
        self.holders: list[RunningView] = []
        self.places: list[Assignment] = []
        self.known: dict[ModelKey, int] = {}
        self._rows: dict[str, int] = {}
        columns: tuple[list[int], ...] = ([], [], [], [], [])
        for one in running:
            at_ms = end_ms(one, now_ms)
            if at_ms is not None:
                self._add(one, at_ms, pool, columns)
        self.ends_ms, self.nodes, self.models, self.millis, self.devices_millis = (
            np.array(column, dtype=np.int64) for column in columns
        )

    def _add(self, one: RunningView, at_ms: int, pool: Pool, columns: tuple[list[int], ...]) -> None:
        ends_ms, nodes, models, millis, devices_millis = columns
        for place in one.placement:
            node, shares = pool.number(place.node), place.shares
            if node is not None:
                self._rows.setdefault(one.workload.uid, len(self.holders))
                self.holders.append(one)
                self.places.append(place)
                key = (shares[0].vendor, shares[0].model) if shares else ("", "")
                ends_ms.append(at_ms)
                nodes.append(node)
                models.append(self.known.setdefault(key, len(self.known)))
                millis.append(sum([share.millis for share in shares]))
                devices_millis.append(len(shares) * WHOLE_MILLIS)

    @classmethod
    def of(cls, trial: Trial) -> Releases:
        """Of what runs in the trial as it is now; most of it is looked at once per trial."""
        return trial.once(Releases, _known)._since(trial)

    def follow(self, gone: Iterable[str], came: Iterable[RunningView], pool: Pool, now_ms: int) -> Releases:
        """The same when some have gone (by uid) and others have come since; nothing of it ends before
        ``now_ms``."""
        kept = np.ones(len(self.holders), dtype=np.bool_)
        for uid in gone:
            self._drop(uid, kept)
        both = self._with(kept, Releases(came, pool, now_ms))
        rows = range(len(both.holders) - 1, -1, -1)
        both._rows = {both.holders[row].workload.uid: row for row in rows}
        return both

    def _drop(self, uid: str, kept: npt.NDArray[np.bool_]) -> None:
        """Its ranks, which stand one after the other, are not kept."""
        row = self._rows.get(uid, len(kept))
        while row < len(kept) and self.holders[row].workload.uid == uid:
            kept[row] = False
            row += 1

    def _since(self, trial: Trial) -> Releases:
        """The same without what has gone and with what has come."""
        kept = np.ones(len(self.holders), dtype=np.bool_)
        came: list[RunningView] = []
        for uid, view in trial.changed.items():
            row = self._rows.get(uid, len(kept))
            if row < len(kept) and self.holders[row] is view:
                continue
            self._drop(uid, kept)
            if view is not None:
                came.append(view)
        more = Releases(came, trial.pool, trial.now_ms)
        return self if kept.all() and not more.holders else self._with(kept, more)

    def _with(self, kept: npt.NDArray[np.bool_], more: Releases) -> Releases:
        both = copy(self)
        both.holders = [*compress(self.holders, kept), *more.holders]
        both.places = [*compress(self.places, kept), *more.places]
        both.known = {**self.known}
        models = [both.known.setdefault(key, len(both.known)) for key in more.known]
        both.models = np.concatenate((self.models[kept], np.array(models, dtype=np.int64)[more.models]))
        for name in ("ends_ms", "nodes", "millis", "devices_millis"):
            setattr(both, name, np.concatenate((getattr(self, name)[kept], getattr(more, name))))
        return both


class Followed(tuple[RunningView, ...]):
    """What runs, from who keeps its ``releases`` from cycle to cycle; asked for when they are needed."""

    releases: Callable[[], Releases]

    @classmethod
    def by(cls, releases: Callable[[], Releases], running: Iterable[RunningView]) -> Followed:
        followed = cls(running)
        followed.releases = releases
        return followed


def _known(trial: Trial) -> Releases:
    """Of what ran when the trial began: from who keeps it, where it is kept."""
    kept = trial.at_start.releases() if isinstance(trial.at_start, Followed) else None
    return kept or Releases(trial.running.values(), trial.pool, trial.now_ms)


@dataclass(frozen=True)
class EarliestRoom:
    """From when each node may take a rank at the earliest (by number; ``NEVER_MS`` = not foreseeable), and
    from when all nodes together may take ``ranks``."""

    first_ms: Ints
    all_ms: int


def earliest_room(releases: Releases, pool: Pool, shape: Shape, ranks: int) -> EarliestRoom:
    """Lower bounds for ``ranks`` ranks of a shape, by the millis that each node has free and gets back; how
    these are spread over its devices is not looked at."""
    free, least, whole, keys = _free(pool, shape)
    now = np.where(free >= least, -NEVER_MS, NEVER_MS)
    if not least:
        return EarliestRoom(now, -NEVER_MS)
    models = np.array([number for key, number in releases.known.items() if key in keys], dtype=np.int64)
    chosen = np.flatnonzero(np.isin(releases.models, models) & (free[releases.nodes] >= 0))
    order = chosen[np.lexsort((releases.ends_ms[chosen], releases.nodes[chosen]))]
    nodes, ends = releases.nodes[order], releases.ends_ms[order]
    millis = (releases.devices_millis if whole else releases.millis)[order]
    total = np.cumsum(millis)
    _, starts, counts = np.unique(nodes, return_index=True, return_counts=True)
    before = np.repeat(total[starts] - millis[starts], counts)
    after = free[nodes] + total - before
    gained = after // least - (after - millis) // least
    gains = np.flatnonzero(gained)
    first = now.copy()
    np.minimum.at(first, nodes[gains], ends[gains])
    return EarliestRoom(
        first, _when(ends[gains], gained[gains], ranks - int((free[free >= 0] // least).sum()))
    )


def _when(ends_ms: Ints, gained: Ints, missing: int) -> int:
    """When so many have been gained."""
    if missing <= 0:
        return -NEVER_MS
    order = np.argsort(ends_ms, kind="stable")
    total = np.cumsum(gained[order])
    position = int(np.searchsorted(total, missing))
    return int(ends_ms[order[position]]) if position < len(total) else NEVER_MS


def _free(pool: Pool, shape: Shape) -> tuple[Ints, int, bool, set[ModelKey]]:
    """Per node what is free for the shape (-1: it never takes any), the least that a rank takes, whether that
    is whole devices, and the models that serve it."""
    state_of = np.frombuffer(pool.state_of, dtype=np.int32)
    listed = np.frombuffer(pool.listed, dtype=np.uint8) > 0
    states = [pool.states.all[number] for number in np.unique(state_of[listed]).tolist()]
    table = np.full(len(pool.states.all), -1, dtype=np.int64)
    if not shape.takes_devices:
        table[[state.number for state in states]] = 0
        return np.where(listed, table[state_of], -1), 0, False, set()
    served = [(state, demand) for state in states for demand in shape.demands(state.layout)]
    whole = all(demand.whole for _, demand in served)
    for state, demand in served:
        table[state.number] = max(0, table[state.number]) + _free_in(state, demand, whole)
    least = min((demand.grants * (demand.packed >> MEMORY_BITS) for _, demand in served), default=1)
    keys = {state.layout.groups[demand.group].key for state, demand in served}
    return np.where(listed, table[state_of], -1), least, whole, keys


def _free_in(state: NodeState, demand: Demand, whole: bool) -> int:
    if not whole:
        return sum(state.free_millis(demand.group))
    return (
        sum(entry == demand.packed for island in state.free[demand.group] for entry in island) * WHOLE_MILLIS
    )
