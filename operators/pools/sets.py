"""StatefulSets as pools.

A StatefulSet is a pool where it has the label ``computility.io/pool``, with the name that its nodes tell
control in their label of that name. Annotations say its limits, and what a node of it has until one has
joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from operators.control.link import Document
from operators.core.pools import Pool, Resize
from operators.documents import Body
from operators.kube.client import Kube
from operators.pools.nodes import (
    POD,
    POOL,
    by_place,
    pool_nodes,
    shape_in,
    told_json,
    told_number,
    told_shape,
)

LEAST, MOST = "computility.io/min-replicas", "computility.io/max-replicas"
SHAPE = "computility.io/node-shape"


@dataclass(frozen=True)
class NodeSet:
    """A StatefulSet of Ray nodes, as the API server has it at ``path``."""

    path: str
    body: Body

    @property
    def name(self) -> str:
        """The pool's."""
        return str(self.body["metadata"]["labels"][POOL])

    def pool(self, nodes: Mapping[str, Document], idle_since: Mapping[str, float]) -> Pool:
        """The pool that it stands for. ``idle_since`` by the names of nodes."""
        metadata, replicas = self.body["metadata"], int(self.body["spec"].get("replicas", 1))
        notes = metadata.get("annotations") or {}
        mine = by_place(self._ordinal, nodes)
        return Pool(
            self.name,
            replicas,
            told_number(notes.get(LEAST), replicas),
            told_number(notes.get(MOST), replicas),
            shape_in(mine, told_shape(told_json(notes.get(SHAPE)))),
            pool_nodes(mine, idle_since),
        )

    async def resize(self, kube: Kube, wanted: Resize) -> None:
        """Have so many. Raises errors of ``common.errors``."""
        await kube.merge(f"{self.path}/scale", {"spec": {"replicas": wanted.replicas}})

    def _ordinal(self, labels: Mapping[str, str]) -> int | None:
        ordinal = labels.get(POD, "").removeprefix(f"{self.body['metadata']['name']}-")
        return int(ordinal) if labels.get(POOL) == self.name and ordinal.isdecimal() else None


async def node_sets(kube: Kube, namespace: str) -> list[NodeSet]:
    """All in the namespace. Raises errors of ``common.errors``."""
    path = f"/apis/apps/v1/namespaces/{quote(namespace)}/statefulsets"
    return [
        NodeSet(f"{path}/{quote(body['metadata']['name'])}", body)
        async for body in kube.each(path, labelSelector=POOL)
    ]
