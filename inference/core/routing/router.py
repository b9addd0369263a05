"""The choice: filter, score, pick.

The cost of a replica is in bytes of prompt: as if it had to read so much before it begins to answer.

| part | bytes |
| --- | --- |
| prefix | of this prompt, less what is in its cache; and ``HOME``-fold, less that times its share |
| queue | of the prompts that the replica has still to read |
| load | ``LOAD_BYTES`` for each request in flight, other gateways' too |
| cache | up to ``FULL_BYTES`` where running requests hold more than ``BUSY_CACHE`` of the cache |
| adapter | none where the adapter is at work, ``SWAP_BYTES`` where a slot is free, else ``WAIT_BYTES`` |
| session | ``SESSION_BYTES`` where the client's session was on another replica |

Each part counts times its weight; the least sum wins, then the replica that has read the least, then the
name. Of many replicas only some are looked at: those that have the most of the prompt, and in turn a few of
all others, since the least busy of a few is nearly as good as that of all and does not draw every gateway to
the same one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain, islice

from common.records import record
from inference.core.routing.blocks import ENDS, KIB
from inference.core.routing.index import ENTRIES, PrefixIndex
from inference.core.routing.report import EngineReport
from inference.core.routing.views import EVEN, Ask, Group, ReplicaView, Weights

HOME = 31
"""What is read again delays the prompts behind it, too, and takes room from what will be asked next: a prompt
that is nearly all there belongs there. One that has only a system's instructions in common belongs nowhere;
it would crowd the few replicas that were first to have them."""
LOAD_BYTES = 2 * KIB
FULL_BYTES = 128 * KIB
BUSY_CACHE = 0.9
SWAP_BYTES = 4 * KIB
WAIT_BYTES = 64 * KIB
SESSION_BYTES = 16 * KIB
ALL_UP_TO = 24
"""So many replicas are all looked at."""
NEAREST, IN_TURN = 12, 12
"""Of more replicas: those that have most of the prompt, and others."""
TOKEN_BYTES = 4
"""Of a prompt, roughly: so much of prompts an engine's cache is taken to hold for each token of its room."""
PARTS = ("prefix", "queue", "load", "cache", "adapter", "session")
ONLY, TIE = "only", "tie"
REASONS = (*PARTS, ONLY, TIE)


@record(frozen=True)
class Row:
    """What one replica would cost, by part as in ``PARTS``. ``cached_bytes``: likely, of this prompt."""

    view: ReplicaView
    cached_bytes: int
    parts: tuple[float, ...]
    total: float


@record(frozen=True)
class Decision:
    """The chosen replica and why: the part of the cost in which it is furthest below the mean of all."""

    row: Row
    reason: str
    rows: Sequence[Row]

    @property
    def view(self) -> ReplicaView:
        return self.row.view


class Sent:
    """A request that a replica has, for a reason, ``beside`` so many others. ``answering`` and ``end`` may be
    called more than once."""

    __slots__ = ("_adapter", "_open", "_unread", "beside", "reason", "view")

    def __init__(self, view: ReplicaView, unread_bytes: int, adapter: str, reason: str = ONLY) -> None:
        self.view = view
        self.reason = reason
        self.beside = view.in_flight + view.others
        self._unread = unread_bytes
        self._adapter = adapter
        self._open = True
        view.in_flight += 1
        view.unread_bytes += unread_bytes
        if adapter:
            view.adapters[adapter] = view.adapters.get(adapter, 0) + 1

    def answering(self) -> None:
        """The prompt has been read: the first byte is there."""
        self.view.unread_bytes -= self._unread
        self._unread = 0

    def end(self) -> None:
        if not self._open:
            return
        self._open = False
        self.answering()
        self.view.in_flight -= 1
        if self._adapter:
            left = self.view.adapters[self._adapter] - 1
            if left:
                self.view.adapters[self._adapter] = left
            else:
                del self.view.adapters[self._adapter]


class Router:
    """All replicas, as one gateway sees them."""

    def __init__(self, entries: int = ENTRIES) -> None:
        self.views: dict[str, ReplicaView] = {}
        self._index = PrefixIndex(entries)
        self._troubled = 0
        self._by_slot: list[ReplicaView] = []
        self._free: list[int] = []

    def view(self, name: str) -> ReplicaView:
        """The replica of this name; one that is not known yet has nothing in flight and in its cache."""
        view = self.views.get(name)
        if view is None:
            if not self._free:
                self._free.append(len(self._by_slot))
                self._by_slot.append(ReplicaView("", 0))
            slot = self._free.pop()
            view = self.views[name] = self._by_slot[slot] = ReplicaView(name, slot)
        return view

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget the others, as soon as they have nothing in flight. Groups of before are of no use then."""
        kept = set(names)
        for view in [v for name, v in self.views.items() if name not in kept and not v.in_flight]:
            del self.views[view.name]
            self._index.forget(view.slot)
            self._index.limit(view.slot, None)
            self._troubled &= ~(1 << view.slot)
            self._free.append(view.slot)

    def group(self, names: Iterable[str]) -> Group:
        """Replicas to choose from."""
        return Group([self.view(name) for name in dict.fromkeys(names)])

    def choose(
        self,
        group: Group,
        ask: Ask,
        now_seconds: float,
        weights: Weights = EVEN,
        tried: Collection[str] = (),
    ) -> Decision | None:
        """The replica that is likely to begin to answer first; None where none may be asked."""
        usable = self._usable(group, now_seconds, tried)
        if not usable:
            return None
        if usable & (usable - 1) == 0:
            if len(group.members) == 1:
                row = _row(group.members[0], ask, 0, usable, weights)
                return Decision(row, ONLY, (row,))
            view = next(view for view in group.members if usable >> view.slot & 1)
            cached = self._levels(ask, usable)
            row = _row(view, ask, ENDS[cached[0][0] - 1] if cached else 0, usable, weights)
            return Decision(row, ONLY, (row,))
        levels = self._levels(ask, usable)
        session = 0 if ask.session is None else self._index.holders(ask.session) & usable
        known = session or usable
        rows = [
            _row(view, ask, _cached_bytes(levels, view.slot), known, weights)
            for view in self._looked_at(group, usable, levels, session)
        ]
        best = min(rows, key=lambda row: (row.total, self._index.read_bytes(row.view.slot), row.view.name))
        return Decision(best, _reason(best, rows), rows)

    def send(self, group: Group, ask: Ask, decision: Decision) -> Sent:
        """The decision is followed."""
        view = decision.view
        if len(group.members) > 1:
            self._index.note(view.slot, ask.keys, ask.session)
        return Sent(view, len(ask.prompt) - decision.row.cached_bytes, ask.adapter, decision.reason)

    def succeeded(self, view: ReplicaView) -> None:
        if view.breaker.failures:
            view.breaker.succeeded()
            self._troubled &= ~(1 << view.slot)

    def failed(self, view: ReplicaView, now_seconds: float) -> None:
        view.breaker.failed(now_seconds)
        self._troubled |= 1 << view.slot

    def rest(self, view: ReplicaView, now_seconds: float) -> None:
        """Leave it alone for the longest time."""
        view.breaker.rest(now_seconds)
        self._troubled |= 1 << view.slot

    def lost(self, view: ReplicaView) -> None:
        """Its process is gone, and its cache with it."""
        self._index.forget(view.slot)

    def told(self, view: ReplicaView, report: EngineReport | None) -> None:
        """What the engine tells of itself; None where it does not, or no more."""
        if report is None:
            view.others, view.cache_use = 0, 0.0
            return
        if report.started != view.started:
            if view.started is not None:
                self.lost(view)
            view.started = report.started
        view.others, view.cache_use = max(0, report.requests - view.in_flight), report.cache_use
        tokens = report.cache_tokens
        self._index.limit(view.slot, None if tokens is None else TOKEN_BYTES * tokens)

    def _looked_at(
        self, group: Group, usable: int, levels: Sequence[tuple[int, int]], session: int
    ) -> list[ReplicaView]:
        """All usable ones where they are few; else those of the session or with most of the prompt, and the
        next few in turn."""
        members = group.members
        if len(members) <= ALL_UP_TO:
            return [view for view in members if usable >> view.slot & 1]
        group.turn = turn = (group.turn + IN_TURN) % len(members)
        near = 0
        for mask in (session, *(mask for _, mask in levels)):
            near |= _some(mask & ~near, NEAREST - near.bit_count(), turn)
        found = []
        while near:
            low = near & -near
            found.append(self._by_slot[low.bit_length() - 1])
            near, usable = near ^ low, usable ^ low
        left = IN_TURN
        for view in chain(islice(members, turn, None), islice(members, turn)):
            if usable >> view.slot & 1:
                found.append(view)
                left -= 1
                if not left:
                    break
        return found

    def _levels(self, ask: Ask, usable: int) -> list[tuple[int, int]]:
        return self._index.levels(ask.keys, usable)

    def _usable(self, group: Group, now_seconds: float, tried: Collection[str]) -> int:
        usable = group.mask
        troubled = usable & self._troubled
        while troubled:
            low = troubled & -troubled
            if not self._by_slot[low.bit_length() - 1].breaker.allows(now_seconds):
                usable ^= low
            troubled ^= low
        for name in tried:
            if (tried_view := self.views.get(name)) is not None:
                usable &= ~(1 << tried_view.slot)
        return usable


def _some(mask: int, count: int, first: int) -> int:
    """At most ``count`` of the set, from the bit ``first`` on and around."""
    if mask.bit_count() <= count:
        return mask
    found, rest = 0, (mask >> first << first, mask & ((1 << first) - 1))
    for part in rest:
        while part and count:
            low = part & -part
            found, part, count = found | low, part ^ low, count - 1
    return found


def _cached_bytes(levels: Sequence[tuple[int, int]], slot: int) -> int:
    for depth, mask in levels:
        if mask >> slot & 1:
            return ENDS[depth - 1]
    return 0


def _row(view: ReplicaView, ask: Ask, cached_bytes: int, session: int, weights: Weights) -> Row:
    adapter = 0
    if ask.adapter and ask.adapter not in view.adapters:
        adapter = SWAP_BYTES if len(view.adapters) < view.adapter_slots else WAIT_BYTES
    parts = (
        weights.prefix * _unread(len(ask.prompt), cached_bytes),
        weights.queue * view.unread_bytes,
        weights.load * LOAD_BYTES * (view.in_flight + view.others),
        weights.cache * FULL_BYTES * max(0.0, view.cache_use - BUSY_CACHE) / (1 - BUSY_CACHE),
        weights.adapter * adapter,
        0.0 if session >> view.slot & 1 else weights.session * SESSION_BYTES,
    )
    return Row(view, cached_bytes, parts, sum(parts))


def _unread(size: int, cached: int) -> float:
    return size - cached + HOME * (size - cached * cached / size) if size else 0.0


def _reason(best: Row, rows: Sequence[Row]) -> str:
    gain, reason = 0.0, TIE
    for number, part in enumerate(PARTS):
        here = sum(row.parts[number] for row in rows) / len(rows) - best.parts[number]
        if here > gain + 1e-9:
            gain, reason = here, part
    return reason
