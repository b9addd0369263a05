"""Worker groups of KubeRay's RayClusters as pools.

A RayCluster has pools where it has the label ``computility.io/pools``: the annotation of that name says which
of its groups follow what waits, by their names, with their limits and what a node has until one has joined.
A group's name is the pool's; its nodes are those of its pods, whose names they tell control.

KubeRay deletes the pods that ``scaleStrategy.workersToDelete`` names, whatever the number says, and then,
where more are left than ``replicas``, any of them. So no number falls here without the names of those that
go, in one write, and a name stays there while its pod does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from operators.control.link import Document
from operators.core.pools import Pool, Resize
from operators.documents import Body
from operators.guard import guarded
from operators.kube.client import MANAGER, Kube, core_path
from operators.pools.nodes import POD, by_place, pool_nodes, shape_in, told_json, told_number, told_shape

POOLS = "computility.io/pools"
CLUSTER, GROUP = "ray.io/cluster", "ray.io/group"
MOST_PODS = 999_999


@dataclass(frozen=True)
class WorkerGroup:
    """A group as the RayCluster at ``path`` has it at ``index``. ``told`` is what the annotation says of it;
    ``pods`` are those that there are, and whether each is leaving."""

    path: str
    index: int
    body: Body
    told: Mapping[str, Any]
    pods: Mapping[str, bool]

    @property
    def name(self) -> str:
        """The pool's, which is the group's."""
        return str(self.body["groupName"])

    @property
    def named(self) -> list[str]:
        """The pods that KubeRay was told to delete; it leaves their names there."""
        return [str(pod) for pod in (self.body.get("scaleStrategy") or {}).get("workersToDelete") or ()]

    def pool(self, nodes: Mapping[str, Document], idle_since: Mapping[str, float]) -> Pool:
        """The pool that it stands for. ``idle_since`` by the names of nodes. Within the group's own limits,
        which KubeRay keeps to whatever the number says."""
        floor = told_number(self.body.get("minReplicas"), 0)
        ceiling = told_number(self.body.get("maxReplicas"), MOST_PODS)
        replicas = min(max(told_number(self.body.get("replicas"), 0), floor), ceiling)
        staying = frozenset(pod for pod, leaves in self.pods.items() if not leaves) - set(self.named)
        mine = by_place(lambda labels: pod if (pod := labels.get(POD, "")) in staying else None, nodes)
        return Pool(
            self.name,
            replicas,
            max(told_number(self.told.get("minReplicas"), replicas), floor),
            min(told_number(self.told.get("maxReplicas"), replicas), ceiling),
            shape_in(mine, told_shape(self.told.get("shape", {}))),
            pool_nodes(mine, idle_since),
            pods=staying,
        )

    async def resize(self, kube: Kube, wanted: Resize) -> None:
        """Have so many, without those that are to go. Raises errors of ``common.errors``: ``InvalidInput``
        where the group is not what it was."""
        await kube.patch(self.path, self.changes(wanted))

    def changes(self, wanted: Resize) -> list[Body]:
        """The steps of a JSON patch, which is done whole or not at all. When more are wanted, names of pods
        that are gone go too; else they stay, as KubeRay may not know yet that those are gone."""
        at = f"/spec/workerGroupSpecs/{self.index}"
        named = self.named if wanted.take else [pod for pod in self.named if pod in self.pods]
        strategy = {
            **(self.body.get("scaleStrategy") or {}),
            "workersToDelete": list(dict.fromkeys((*named, *wanted.take))),
        }
        unchanged = [
            {"op": "test", "path": f"{at}/{field}", "value": self.body[field]}
            for field in ("groupName", "replicas", "scaleStrategy")
            if field in self.body
        ]
        return [
            *unchanged,
            {"op": "add", "path": f"{at}/replicas", "value": wanted.replicas},
            {"op": "add", "path": f"{at}/scaleStrategy", "value": strategy},
        ]


async def worker_groups(kube: Kube, namespace: str) -> list[WorkerGroup]:
    """All in the namespace that follow what waits. Raises errors of ``common.errors``."""
    path = f"/apis/ray.io/v1/namespaces/{quote(namespace)}/rayclusters"
    found: list[WorkerGroup] = []
    async for cluster in kube.each(path, labelSelector=POOLS):
        name = cluster["metadata"]["name"]
        with guarded("pools", name):
            await _disown(kube, f"{path}/{quote(name)}", cluster)
        told = told_json((cluster["metadata"].get("annotations") or {}).get(POOLS))
        pods: dict[str, dict[str, bool]] = {}
        async for pod in kube.each(core_path(namespace, "pods"), labelSelector=f"{CLUSTER}={name},{GROUP}"):
            metadata = pod["metadata"]
            leaves = "deletionTimestamp" in metadata
            pods.setdefault(metadata["labels"][GROUP], {})[metadata["name"]] = leaves
        found += groups_of(f"{path}/{quote(name)}", cluster, told, pods)
    return found


async def _disown(kube: Kube, path: str, cluster: Body) -> None:
    """Have the list of groups be its author's again: it is one field, and Helm 4 refuses to upgrade what has
    become somebody else's. What was just written is ours for one look, so that an upgrade which has read the
    number before is refused."""
    known = list(enumerate(cluster["metadata"].get("managedFields") or ()))
    for index, entry in reversed(known):
        if entry.get("manager") == MANAGER and entry.get("operation") == "Update":
            at = f"/metadata/managedFields/{index}"
            await kube.patch(path, [{"op": "test", "path": at, "value": entry}, {"op": "remove", "path": at}])


def groups_of(
    path: str, cluster: Body, told: Any, pods: Mapping[str, Mapping[str, bool]]
) -> list[WorkerGroup]:
    """The cluster's groups of which ``told`` says that they follow, with their ``pods`` by groups; none of a
    cluster that is suspended, or that another autoscaler sizes."""
    spec = cluster["spec"]
    if not isinstance(told, dict) or spec.get("suspend") or spec.get("enableInTreeAutoscaling"):
        return []
    return [
        WorkerGroup(path, index, body, told[name], pods.get(name, {}))
        for index, body in enumerate(spec.get("workerGroupSpecs") or ())
        if isinstance(told.get(name := body["groupName"]), dict) and not _is_other(body)
    ]


def _is_other(group: Body) -> bool:
    """Whether the group's number is not that of its pods: it is suspended, or a replica is several pods."""
    return bool(group.get("suspend")) or int(group.get("numOfHosts") or 1) > 1
