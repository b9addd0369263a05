"""All nodes with what is on them, indexed by state, and every change can be undone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from scheduler.core.fragmentation.fragmentation import Fragmentation
from scheduler.core.model.catalogue import Catalogue
from scheduler.core.model.types import Assignment, NodeView, Policy, Request, Share
from scheduler.core.pool.filters import ANY_TAINT
from scheduler.core.pool.index import Index
from scheduler.core.pool.layout import MIB, Group, ModelKey, layout_of
from scheduler.core.pool.options import Option
from scheduler.core.pool.scarcity import Scarcity
from scheduler.core.pool.scoring import Scale, judge_for
from scheduler.core.pool.states import NodeState, Shape, ranks_in
from scheduler.core.pool.stock import Stock
from scheduler.core.pool.topology import Topology
from scheduler.core.pool.usage import NodeUsage, Saved

T = TypeVar("T")


class Pool:
    """Mutable. ``mark`` and ``rollback`` bracket a trial; ``set_node`` is for outside of trials."""

    def __init__(self, nodes: Iterable[NodeView], catalogue: Catalogue | None = None) -> None:
        self.catalogue = catalogue or Catalogue(())
        self.usage: list[NodeUsage] = []
        self._by_name: dict[str, int] = {}
        self._hidden = bytearray()
        self._journal: list[tuple[int, Saved | bool]] = []
        self._shapes: dict[tuple[Request, frozenset[ModelKey] | None], Shape] = {}
        self._label_keys: set[str] = set()
        self._topology: Topology | None = None
        self._groups: list[Group] | None = None
        self._capacity: dict[ModelKey, int] | None = None
        self._once: dict[object, object] = {}
        self._policy, self._workload_mix = Policy(), Fragmentation(())
        self.scarcity = Scarcity(self._stock, self._workload_mix)
        self._index = Index(judge_for(self._policy, Scale(), self._workload_mix, self.scarcity))
        self.states, self.state_of, self.listed = self._index.states, self._index.state_of, self._index.listed
        for node in sorted(nodes, key=lambda node: node.name):
            self._add(node)
        self._judge_anew()

    # -- nodes

    @property
    def nodes(self) -> tuple[NodeView, ...]:
        """By the order of placement: names as first given, later ones at the end."""
        return tuple(usage.view for usage in self.usage)

    @property
    def topology(self) -> Topology:
        """Domains and cached data of the nodes as they are."""
        if self._topology is None:
            self._topology = Topology(self.nodes)
        return self._topology

    def number(self, name: str) -> int | None:
        """The node's place in the order; None = there is no such node."""
        return self._by_name.get(name)

    def view(self, number: int) -> NodeView:
        return self.usage[number].view

    def set_node(self, node: NodeView) -> None:
        """Add a node, or say that one is now like this (cordoned, lost, back, a device broken). What is on it
        stays."""
        number = self._by_name.get(node.name)
        self._topology = self._groups = self._capacity = None
        if number is None:
            self._add(node)
        else:
            old = self.usage[number]
            self._index.conceal(number)
            self.usage[number] = NodeUsage(node, *layout_of(node, self.catalogue, self._label_keys))
            self.usage[number].inherit(old)
            self._settle(number)
        self._judge_anew()

    def once(self, kind: Callable[[Pool], T]) -> T:
        """What those who ask have worked out about nodes and requests, one of a kind: made with the pool when
        first asked for, and made anew after a node has changed or places are judged otherwise."""
        found = self._once.get(kind)
        if found is None:
            found = self._once[kind] = kind(self)
        return cast("T", found)

    def _judge_anew(self) -> None:
        self._once.clear()
        self.scarcity = Scarcity(self._stock, self._workload_mix, self.scarcity)
        self._index.judge_by(
            judge_for(self._policy, Scale.of(self.groups()), self._workload_mix, self.scarcity)
        )

    def _stock(self) -> list[Stock]:
        """Nodes that may be used, hidden ones too."""
        nodes = Counter(id(usage.layout) for usage in self.usage if usage.usable)
        layouts = {id(usage.layout): usage.layout for usage in self.usage}
        return [Stock(layouts[key], number) for key, number in nodes.items()]

    def _add(self, node: NodeView) -> None:
        number = len(self.usage)
        self._by_name[node.name] = number
        self.usage.append(NodeUsage(node, *layout_of(node, self.catalogue, self._label_keys)))
        self._index.add()
        self._hidden.append(0)
        self._settle(number)

    def _settle(self, number: int) -> None:
        """Put a node into the state that it is in, and list it where it may be used."""
        usage = self.usage[number]
        usage.layout = self.states.layout(usage.layout)
        self.state_of[number] = usage.state(self.states).number
        if usage.usable and not self._hidden[number]:
            self._index.show(number)

    def groups(self) -> list[Group]:
        """All kinds of healthy devices on nodes, whether these may be used now or not."""
        if self._groups is None:
            layouts = {id(usage.layout): usage.layout for usage in self.usage}
            self._groups = list(dict.fromkeys(g for layout in layouts.values() for g in layout.groups))
        return self._groups

    # -- how places are judged

    def use(self, policy: Policy, workload_mix: Fragmentation) -> None:
        """Judge by this policy and this mix of usual requests from now on."""
        if policy.weights == self._policy.weights and workload_mix is self._workload_mix:
            self._policy = policy
            return
        self._policy, self._workload_mix = policy, workload_mix
        if not self._tell_apart(one.request for one in workload_mix.asked):
            self._judge_anew()

    def shape(self, request: Request, models: Sequence[ModelKey] | None = None) -> Shape:
        """The compiled request; ``models`` narrows it."""
        key = (request, None if models is None else frozenset(models))
        shape = self._shapes.get(key)
        if shape is None:
            self._tell_apart((request,))
            shape = self._shapes[key] = Shape(len(self._shapes), *key)
            anything = replace(
                request,
                vendors=(),
                not_vendors=(),
                models=(),
                not_models=(),
                node_labels=(),
                tolerates=(ANY_TAINT,),
            )
            if shape.takes_devices and (anything != request or models is not None):
                shape.amount = self.shape(anything)
        return shape

    def _tell_apart(self, requests: Iterable[Request]) -> bool:
        """Tell nodes apart by the labels that these ask about; whether they were not so far."""
        keys = {key for request in requests for key, _ in request.node_labels}
        if keys <= self._label_keys:
            return False
        self._label_keys |= keys
        self._lay_out_anew()
        return True

    def _lay_out_anew(self) -> None:
        for number, usage in enumerate(self.usage):
            listed = self.listed[number]
            self._index.conceal(number)
            usage.layout = layout_of(usage.view, self.catalogue, self._label_keys)[0]
            usage.layout = self.states.layout(usage.layout)
            self.state_of[number] = usage.state(self.states).number
            if listed:
                self._index.show(number)
        self._judge_anew()

    # -- finding

    def option(self, shape: Shape, state: NodeState) -> Option | None:
        """What a rank of this shape would take in this state."""
        return self._index.option(shape, state)

    def find(self, shape: Shape) -> tuple[int, Option] | None:
        """The best node, or None. Among nodes of equal score the first."""
        return self._index.find(shape)

    def find_among(
        self,
        shape: Shape,
        numbers: Iterable[int],
        *,
        hidden: bool = False,
        bonus: Mapping[int, int] | None = None,
    ) -> tuple[int, Option, int] | None:
        """The best of these nodes, its option, and its score with the node's ``bonus``."""
        best: tuple[int, Option, int] | None = None
        states = self.states.all
        for number in numbers:
            if not (self.listed[number] or (hidden and self._hidden[number] and self.usage[number].usable)):
                continue
            option = self._index.option(shape, states[self.state_of[number]])
            if option is None:
                continue
            score = option.score + (bonus.get(number, 0) if bonus else 0)
            if best is None or score > best[2] or (score == best[2] and number < best[0]):
                best = number, option, score
        return best

    # -- taking and giving back

    def mark(self) -> int:
        """A point to which ``rollback`` returns."""
        return len(self._journal)

    def rollback(self, mark: int) -> None:
        """Undo everything since ``mark``."""
        first: dict[int, Saved] = {}
        hidden: dict[int, bool] = {}
        for number, undo in self._journal[mark:]:
            if isinstance(undo, bool):
                hidden.setdefault(number, undo)
            else:
                first.setdefault(number, undo)
        del self._journal[mark:]
        for number, saved in first.items():
            self.usage[number].restore(saved)
            self._index.move(number, self.usage[number].state(self.states))
        self._cover(hidden)

    def settle(self, mark: int, changes: int) -> bool:
        """Where nodes have been changed just so often since ``mark``: keep that, forget how to undo it, and
        say yes. Nodes that have been hidden or shown since are as they were."""
        hidden = [(number, was) for number, was in self._journal[mark:] if isinstance(was, bool)]
        if len(self._journal) - mark - len(hidden) != changes:
            return False
        del self._journal[mark:]
        self._cover(dict(reversed(hidden)))
        return True

    def take(self, shape: Shape, number: int, option: Option) -> tuple[Share, ...]:
        """Give a rank what the option says on that node."""
        usage = self.usage[number]
        self._journal.append((number, usage.saved()))
        shares = usage.take(shape, option)
        self._index.move(number, option.after)
        return shares

    def occupy(self, placement: Iterable[Assignment]) -> None:
        """Put ranks where they are. Ranks on unknown nodes are passed over."""
        self._book(placement, 1)

    def vacate(self, placement: Iterable[Assignment]) -> None:
        """Take ranks away."""
        self._book(placement, -1)

    def _book(self, placement: Iterable[Assignment], sign: int) -> None:
        for assignment in placement:
            number = self._by_name.get(assignment.node)
            if number is None:
                continue
            usage = self.usage[number]
            self._journal.append((number, usage.saved()))
            for share in assignment.shares:
                usage.book(share, sign)
            usage.cpu_used_millis += sign * assignment.cpu_millis
            usage.host_used_mebibytes += sign * -(-assignment.host_memory_bytes // MIB)
            self._index.move(number, usage.state(self.states))

    def commit(self) -> None:
        """Forget how to undo."""
        self._journal.clear()

    # -- nodes kept out of ordinary placement

    def hide(self, numbers: Iterable[int]) -> None:
        """Keep nodes (reserved, to be drained) from ``find``; ``find_among`` sees them when told."""
        for number in numbers:
            if not self._hidden[number]:
                self._journal.append((number, False))
                self._conceal(number)

    def unhide(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if self._hidden[number]:
                self._journal.append((number, True))
                self._show(number)

    def _cover(self, hidden: Mapping[int, bool]) -> None:
        """Hide or show each of these nodes."""
        for number, wanted in hidden.items():
            if wanted != self.is_hidden(number):
                change = self._conceal if wanted else self._show
                change(number)

    def _conceal(self, number: int) -> None:
        self._hidden[number] = 1
        self._index.conceal(number)

    def _show(self, number: int) -> None:
        self._hidden[number] = 0
        if self.usage[number].usable:
            self._index.show(number)

    def is_hidden(self, number: int) -> bool:
        return bool(self._hidden[number])

    # -- counts

    def capacity_millis(self) -> dict[ModelKey, int]:
        """Of the healthy devices of usable nodes, per vendor and model."""
        if self._capacity is None:
            self._capacity = {}
            for usage in self.usage:
                for group in usage.layout.groups if usage.usable else ():
                    millis = group.devices * group.slots * 1000
                    self._capacity[group.key] = self._capacity.get(group.key, 0) + millis
        return self._capacity

    def free_millis(self) -> dict[ModelKey, int]:
        """Of the same devices, what nothing is on."""
        total: dict[ModelKey, int] = {}
        for number, usage in enumerate(self.usage):
            if usage.usable:
                state = self.states.all[self.state_of[number]]
                for index, group in enumerate(state.layout.groups):
                    total[group.key] = total.get(group.key, 0) + sum(state.free_millis(index))
        return total

    def ranks_per_node(self, shape: Shape, *, hidden: bool = False) -> npt.NDArray[np.int64]:
        """How many ranks of the shape each node would take; 0 for nodes that are not to be used, nor those
        kept out of ordinary placement unless ``hidden`` ones count, too."""
        room = self._index.ranks_per_node(shape)
        for number in np.flatnonzero(np.frombuffer(self._hidden, dtype=np.uint8)).tolist() if hidden else ():
            if self.usage[number].usable:
                room[number] = ranks_in(self.states.all[self.state_of[number]], shape)
        return room
