"""States of nodes. Nodes of one layout with the same capacity free are interchangeable: they share one
state, and what a request would do to it is worked out once for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.core.model.types import WHOLE_MILLIS, Labels, Request
from scheduler.core.pool.filters import accepts, count_for, refusal, untolerated
from scheduler.core.pool.layout import MEMORY_BITS, MEMORY_MASK, MIB, Group, Layout, ModelKey, pack

Free = tuple[tuple[tuple[int, ...], ...], ...]
"""Packed free capacity per group, island and device; devices of an island in ascending order."""


MANY = 1 << 20
"""So many ranks or grants stand for any number."""
LOG_LIMIT = 20_000
"""Entries of a kind's log, after which it is written anew at the earliest."""


class NodeKind:
    """Nodes with devices of the same models and the same taints. ``log``: states that got their first node,
    one after the other (its ``edition`` is new whenever it is written anew, which is due from ``log_limit``
    entries on); ``changes``: how often a node came to or left one of its states, or was listed or not."""

    __slots__ = ("changes", "edition", "log", "log_limit", "models", "number", "states", "taints")

    def __init__(self, number: int, models: tuple[ModelKey, ...], taints: Labels) -> None:
        self.number = number
        self.models = models
        self.taints = taints
        self.states: list[NodeState] = []
        self.log: list[int] = []
        self.log_limit = LOG_LIMIT
        self.edition = 0
        self.changes = 0

    def shorten_log(self) -> None:
        """Leave only the states that have nodes now."""
        self.log = [state.number for state in self.states if state.count]
        self.log_limit = max(LOG_LIMIT, 2 * len(self.log))
        self.edition += 1


class NodeState:
    """One state and the nodes that are in it. ``count`` of them may be given out."""

    __slots__ = (
        "_millis",
        "count",
        "cpu_free_millis",
        "free",
        "heap",
        "host_free_mebibytes",
        "kind",
        "layout",
        "number",
    )

    def __init__(self, number: int, layout: Layout, kind: NodeKind, free: Free, cpu: int, host: int) -> None:
        self.number = number
        self.layout = layout
        self.kind = kind
        self.free = free
        self.cpu_free_millis = cpu
        self.host_free_mebibytes = host
        self.count = 0
        self.heap: list[int] = []
        self._millis: tuple[tuple[int, ...], ...] = ()

    def free_millis(self, group: int) -> tuple[int, ...]:
        """Per device of the group."""
        if not self._millis:
            self._millis = tuple(
                tuple([entry >> MEMORY_BITS for island in islands for entry in island])
                for islands in self.free
            )
        return self._millis[group]


class States:
    """All states met so far, each once."""

    def __init__(self) -> None:
        self.all: list[NodeState] = []
        self.kinds: list[NodeKind] = []
        self._known: dict[tuple[int, Free, int, int], NodeState] = {}
        self._layouts: dict[Layout, Layout] = {}
        self._kinds: dict[tuple[tuple[ModelKey, ...], Labels], NodeKind] = {}
        self._mended: dict[int, Layout] = {}

    def layout(self, layout: Layout) -> Layout:
        """The one layout that equals this one."""
        return self._layouts.setdefault(layout, layout)

    def mended(self, layout: Layout) -> Layout:
        """The layout as if every device were healthy."""
        if not layout.broken:
            return layout
        if id(layout) not in self._mended:
            self._mended[id(layout)] = self.layout(layout.mended)
        return self._mended[id(layout)]

    def intern(self, layout: Layout, free: Free, cpu: int, host: int) -> NodeState:
        """The one state like this; ``layout`` must be one that ``layout`` returned."""
        key = (id(layout), free, cpu, host)
        state = self._known.get(key)
        if state is None:
            kind = self._kind(tuple(group.key for group in layout.groups), layout.taints)
            state = self._known[key] = NodeState(len(self.all), layout, kind, free, cpu, host)
            self.all.append(state)
            kind.states.append(state)
        return state

    def _kind(self, models: tuple[ModelKey, ...], taints: Labels) -> NodeKind:
        kind = self._kinds.get((models, taints))
        if kind is None:
            kind = self._kinds[models, taints] = NodeKind(len(self.kinds), models, taints)
            self.kinds.append(kind)
        return kind

    def idle(self, layout: Layout) -> NodeState:
        """Of a node of this layout with nothing on it."""
        free = tuple(tuple((g.capacity,) * n for n in g.islands) for g in layout.groups)
        return self.intern(layout, free, layout.cpu_millis, layout.host_mebibytes)


@dataclass(frozen=True)
class Demand:
    """What a rank takes of one group: ``grants`` times ``packed``, each of one device."""

    group: int
    grants: int
    packed: int
    whole: bool


class Shape:
    """A request as it is asked again and again; ``models`` narrows it to those (a queue's quota leaves only
    them). ``amount``: the same amounts of anything; what they do to a state is worked out once for all
    shapes that only differ in what they accept. Remembers what it found out about layouts."""

    __slots__ = ("amount", "cpu_millis", "fits", "host_mebibytes", "models", "number", "request")

    def __init__(self, number: int, request: Request, models: frozenset[ModelKey] | None) -> None:
        self.number = number
        self.amount = self
        self.request = request
        self.models = models
        self.cpu_millis = request.cpu_millis
        self.host_mebibytes = -(-request.host_memory_bytes // MIB)
        self.fits: dict[int, tuple[Demand, ...]] = {}

    @property
    def takes_devices(self) -> bool:
        return self.request.count > 0 or self.request.by_equivalence

    def may_serve(self, kind: NodeKind) -> bool:
        """Whether nodes of this kind may serve it at all, by taints, vendor and model."""
        if untolerated(kind.taints, self.request):
            return False
        if not self.takes_devices:
            return True
        return any(
            (self.models is None or model in self.models) and accepts(model, self.request)
            for model in kind.models
        )

    def is_let_in(self, layout: Layout) -> bool:
        """Whether labels and taints of such nodes let it in."""
        labelled = set(self.request.node_labels) <= set(layout.labels)
        return labelled and not untolerated(layout.taints, self.request)

    def demands(self, layout: Layout) -> tuple[Demand, ...]:
        """One for each group that may serve it; nothing where labels, taints or filters say no."""
        known = self.fits.get(id(layout))
        if known is None:
            known = self.fits[id(layout)] = self._demands(layout)
        return known

    def _demands(self, layout: Layout) -> tuple[Demand, ...]:
        if not self.is_let_in(layout):
            return ()
        indexes, _ = refusal(layout.groups, self.request)
        return tuple(
            self._demand(i, layout.groups[i])
            for i in indexes
            if self.models is None or layout.groups[i].key in self.models
        )

    def _demand(self, index: int, group: Group) -> Demand:
        request, count = self.request, count_for(group, self.request) or 0
        mebibytes = -(-request.memory_bytes // MIB)
        if group.shared:
            return Demand(index, count, pack(request.share_millis, mebibytes), whole=False)
        if request.share_millis >= WHOLE_MILLIS:
            return Demand(index, count, group.capacity, whole=True)
        least = group.memory_mebibytes * request.share_millis // WHOLE_MILLIS
        return Demand(index, count, pack(request.share_millis, mebibytes or least), whole=False)


def grants_in(entry: int, packed: int) -> int:
    """How many such grants a device with this much free can give."""
    millis, mebibytes = packed >> MEMORY_BITS, packed & MEMORY_MASK
    by_millis = (entry >> MEMORY_BITS) // millis if millis else MANY
    return min(by_millis, (entry & MEMORY_MASK) // mebibytes) if mebibytes else by_millis


def ranks_in(state: NodeState, shape: Shape) -> int:
    """How many ranks of the shape the state takes at least, one group after the other (an upper bound where
    its devices lie in several islands)."""
    demands = shape.demands(state.layout)
    if not demands and (shape.request.count or not shape.is_let_in(state.layout)):
        return 0
    most = MANY
    if shape.cpu_millis and state.layout.cpu_millis:
        most = state.cpu_free_millis // shape.cpu_millis
    if shape.host_mebibytes and state.layout.host_mebibytes:
        most = min(most, state.host_free_mebibytes // shape.host_mebibytes)
    if not shape.takes_devices:
        return most
    total = 0
    for demand in demands:
        islands = state.free[demand.group]
        if demand.whole:
            free = sum([island.count(demand.packed) for island in islands])
        else:
            free = sum(grants_in(entry, demand.packed) for island in islands for entry in island)
        total += free // demand.grants
    return min(most, total)
