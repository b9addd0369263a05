"""Where nodes are and what is cached on them: what does not change when something is placed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scheduler.core.model.types import NodeView


class Topology:
    """Built for one set of nodes, numbered as the pool numbers them."""

    def __init__(self, nodes: Sequence[NodeView]) -> None:
        self._nodes = nodes
        self._domains: dict[str, tuple[npt.NDArray[np.int32], list[list[int]]]] = {}
        self._slots: dict[str, npt.NDArray[np.intp]] = {}
        self._cached: dict[str, list[int]] | None = None

    def domains(self, key: str) -> tuple[npt.NDArray[np.int32], list[list[int]]]:
        """Per node the number of its domain by this label (-1 = it has none), and per domain its nodes."""
        known = self._domains.get(key)
        if known is None:
            values = [node.label(key) for node in self._nodes]
            numbers = {name: i for i, name in enumerate(sorted({value for value in values if value}))}
            members: list[list[int]] = [[] for _ in numbers]
            for number, value in enumerate(values):
                if value:
                    members[numbers[value]].append(number)
            of_node = np.array([numbers.get(value, -1) for value in values], dtype=np.int32)
            known = self._domains[key] = of_node, members
        return known

    def sums(self, key: str, per_node: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Per domain what its nodes have together."""
        slots = self._slots.get(key)
        of_node, members = self.domains(key)
        if slots is None:
            slots = self._slots[key] = of_node.astype(np.intp) + 1
        return np.bincount(slots, per_node, len(members) + 1)[1:].astype(np.int64)

    def holders(self, data: str) -> list[int]:
        """Nodes that have a model or dataset cached."""
        if self._cached is None:
            self._cached = {}
            for number, node in enumerate(self._nodes):
                for name in sorted(node.cached):
                    self._cached.setdefault(name, []).append(number)
        return self._cached.get(data, [])
