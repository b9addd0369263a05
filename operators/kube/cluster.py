"""What Kubernetes has: custom resources and namespaces, as kopf tells of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from common.resources import KINDS
from common.resources.meta import API_VERSION
from operators.control.view import Item
from operators.crds.table import CRDS
from operators.documents import NOWHERE, Key, Place, key_of, place_of
from operators.kube.client import Kube

Body = Mapping[str, Any]


class Cluster:
    """All that is known. ``identity`` tells this cluster from others."""

    def __init__(self, identity: str = "") -> None:
        self.identity = identity
        self._bodies: dict[Key, Body] = {}
        self._places: dict[str, Place] = {}
        self._by_item: dict[Item, set[Key]] = {}
        self._items: dict[Key, set[Item]] = {}

    def find(self, key: Key) -> Body | None:
        return self._bodies.get(key)

    def all_keys(self) -> list[Key]:
        return list(self._bodies)

    def place(self, namespace: str) -> Place:
        """What the namespace stands for; unknown ones for the project of their name."""
        return self._places.get(namespace, Place(namespace)) if namespace else NOWHERE

    def keys_of(self, item: Item) -> Iterator[Key]:
        """The custom resources that a resource of control may be about."""
        yield from self._by_item.get(item, ())

    def learn(self, body: Body) -> Key:
        """A custom resource, unless a later state of it is known."""
        key = key_of(body)
        old = self._bodies.get(key)
        if old is None or _version(old) <= _version(body) or _uid(old) != _uid(body):
            self._bodies[key] = body
        self.link(self.item_for(key), key)
        return key

    def forget(self, key: Key) -> None:
        """It is gone."""
        self._bodies.pop(key, None)
        self._unlink(key)

    def learn_namespace(self, body: Body) -> list[Key]:
        """A namespace. Returns the custom resources that belong to another project now."""
        name = body["metadata"]["name"]
        place = place_of(body)
        if self._places.get(name) == place:
            return []
        self._places[name] = place
        moved = [key for key in self._bodies if key.namespace == name]
        for key in moved:
            self._unlink(key)
            self.link(self.item_for(key), key)
        return moved

    def forget_namespace(self, name: str) -> None:
        self._places.pop(name, None)

    def item_for(self, key: Key) -> Item:
        """What control calls it, for kinds that are the same there."""
        project = self.place(key.namespace).project if KINDS[key.kind].SCOPE == "project" else ""
        return Item(key.kind, project, key.name)

    def link(self, item: Item, key: Key) -> None:
        """The custom resource is about this resource of control."""
        self._by_item.setdefault(item, set()).add(key)
        self._items.setdefault(key, set()).add(item)

    def _unlink(self, key: Key) -> None:
        for item in self._items.pop(key, ()):
            self._by_item[item].discard(key)
            if not self._by_item[item]:
                del self._by_item[item]

    async def read_all(self, kube: Kube, namespaces: list[str]) -> list[Key]:
        """Everything anew from the server. Returns what has changed, and what is gone."""
        for body in await kube.list_all("/api/v1/namespaces"):
            self.learn_namespace(body)
        found: dict[Key, Body] = {}
        for crd in CRDS:
            spaces = [f"/namespaces/{name}" for name in namespaces] if crd.namespaced and namespaces else [""]
            for space in spaces:
                for read in await kube.list_all(f"/apis/{API_VERSION}{space}/{crd.plural}"):
                    whole: Body = {**read, "kind": crd.kind}
                    found[key_of(whole)] = whole
        changed = [key for key, body in found.items() if _differs(self._bodies.get(key), body)]
        gone = [key for key in self._bodies if key not in found]
        for known in found.values():
            self.learn(known)
        for key in gone:
            self.forget(key)
        return changed + gone


def _version(body: Body) -> int:
    text = str(body["metadata"].get("resourceVersion", "0"))
    return int(text) if text.isdecimal() else 0


def _uid(body: Body) -> str:
    return str(body["metadata"].get("uid", ""))


def _differs(old: Body | None, new: Body) -> bool:
    return old is None or _version(old) < _version(new) or _uid(old) != _uid(new)
