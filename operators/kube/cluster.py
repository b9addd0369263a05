"""What Kubernetes has: custom resources and namespaces, as kopf and lists tell of them, in whatever order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from common.errors import Unavailable
from common.resources import KINDS
from common.resources.meta import API_VERSION
from operators.control.view import Item
from operators.crds.table import CRDS
from operators.documents import NOWHERE, Key, Place, key_of, place_of
from operators.kube.client import Kube

Body = Mapping[str, Any]
MOST_GONE = 20_000
OURS = "computility.io/"
_KEPT = (
    *("name", "namespace", "uid", "resourceVersion", "generation"),
    *("deletionTimestamp", "finalizers", "labels"),
)


class Cluster:
    """All that is known. ``identity`` tells this cluster from others. A uid that is gone never comes back,
    and an older state never takes the place of a later one."""

    def __init__(self, identity: str = "") -> None:
        self.identity = identity
        self._bodies: dict[Key, Body] = {}
        self._spaces: dict[str, tuple[Body, Place]] = {}
        self._gone: dict[str, None] = {}
        self._by_item: dict[Item, set[Key]] = {}
        self._items: dict[Key, set[Item]] = {}

    def find(self, key: Key) -> Body | None:
        return self._bodies.get(key)

    def all_keys(self) -> list[Key]:
        return list(self._bodies)

    def place(self, namespace: str) -> Place:
        """What the namespace stands for. Raises ``Unavailable`` while it is not known: its name alone says
        neither project nor rights."""
        if not namespace:
            return NOWHERE
        if namespace not in self._spaces:
            raise Unavailable(f"Kubernetes: the namespace {namespace} is not known yet")
        return self._spaces[namespace][1]

    def keys_of(self, item: Item) -> Iterator[Key]:
        """The custom resources that a resource of control may be about."""
        yield from self._by_item.get(item, ())

    def learn(self, body: Body) -> Key:
        """A custom resource, unless it is gone or a later state of it is known. Only what is used is kept."""
        key = key_of(body)
        if self._is_news(self._bodies.get(key), body):
            self._bodies[key] = _slim(body)
            self._link_own(key)
        return key

    def forget(self, body: Body) -> None:
        """It is gone: the one with this uid."""
        key = key_of(body)
        self._bury(body)
        known = self._bodies.get(key)
        if known is not None and _uid(known) == _uid(body):
            del self._bodies[key]
            self._unlink(key)

    def learn_namespace(self, body: Body) -> list[Key]:
        """A namespace. Returns the custom resources that belong to another project now."""
        name, place = body["metadata"]["name"], place_of(body)
        known = self._spaces.get(name)
        if not self._is_news(known and known[0], body):
            return []
        self._spaces[name] = ({"metadata": _slim_metadata(body)}, place)
        if known is not None and known[1] == place:
            return []
        moved = [key for key in self._bodies if key.namespace == name]
        for key in moved:
            self._unlink(key)
            self._link_own(key)
        return moved

    def forget_namespace(self, body: Body) -> None:
        """It is gone: the one with this uid."""
        self._bury(body)
        known = self._spaces.get(body["metadata"]["name"])
        if known is not None and _uid(known[0]) == _uid(body):
            del self._spaces[body["metadata"]["name"]]

    def item_for(self, key: Key) -> Item:
        """What control calls it, for kinds that are the same there. Raises ``Unavailable``, as ``place``."""
        project = self.place(key.namespace).project if KINDS[key.kind].SCOPE == "project" else ""
        return Item(key.kind, project, key.name)

    def link(self, item: Item, key: Key) -> None:
        """The custom resource is about this resource of control."""
        self._by_item.setdefault(item, set()).add(key)
        self._items.setdefault(key, set()).add(item)

    def _link_own(self, key: Key) -> None:
        if not key.namespace or key.namespace in self._spaces:
            self.link(self.item_for(key), key)

    def _unlink(self, key: Key) -> None:
        for item in self._items.pop(key, ()):
            self._by_item[item].discard(key)
            if not self._by_item[item]:
                del self._by_item[item]

    def _is_news(self, known: Body | None, body: Body) -> bool:
        """Versions are the cluster's: of two that had the same name, the later one has the higher."""
        return _uid(body) not in self._gone and (known is None or _version(known) <= _version(body))

    def _bury(self, body: Body) -> None:
        self._gone[_uid(body)] = None
        if len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]

    async def read_all(self, kube: Kube, namespaces: list[str]) -> list[Key]:
        """Everything anew from the server. Returns what has changed, and what is gone."""
        changed = await self._read_namespaces(kube)
        for crd in CRDS:
            spaces = [f"/namespaces/{name}" for name in namespaces] if crd.namespaced and namespaces else [""]
            before = {key: body for key, body in self._bodies.items() if key.kind == crd.kind}
            found: set[Key] = set()
            for space in spaces:
                async for read in kube.each(f"/apis/{API_VERSION}{space}/{crd.plural}"):
                    whole: Body = {**read, "kind": crd.kind}
                    key, known = key_of(whole), self._bodies.get(key_of(whole))
                    found.add(key)
                    self.learn(whole)
                    if known is None or _version(known) < _version(whole):
                        changed.append(key)
            # What came while it was listed may not be in the list, and is there nevertheless.
            gone = [key for key in before if key not in found]
            for key in gone:
                self.forget(before[key])
            changed += gone
        return changed

    async def _read_namespaces(self, kube: Kube) -> list[Key]:
        before, moved, found = dict(self._spaces), [], set()
        async for body in kube.each("/api/v1/namespaces"):
            found.add(body["metadata"]["name"])
            moved += self.learn_namespace(body)
        for name, (known, _) in before.items():
            if name not in found:
                self.forget_namespace(known)
        return moved


def _slim(body: Body) -> Body:
    """What is used of it: whatever else others write there takes no memory here."""
    kept = {name: body[name] for name in ("apiVersion", "kind", "spec", "status") if name in body}
    return {**kept, "metadata": _slim_metadata(body)}


def _slim_metadata(body: Body) -> dict[str, Any]:
    metadata = body["metadata"]
    notes = metadata.get("annotations") or {}
    kept = {name: metadata[name] for name in _KEPT if name in metadata}
    return {**kept, "annotations": {key: value for key, value in notes.items() if key.startswith(OURS)}}


def _version(body: Body) -> int:
    text = str(body["metadata"].get("resourceVersion", "0"))
    return int(text) if text.isdecimal() else 0


def _uid(body: Body) -> str:
    return str(body["metadata"].get("uid", ""))
