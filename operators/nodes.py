"""Nodes: they join by themselves, and are shown. What somebody writes into a spec goes to control."""

from __future__ import annotations

from common.errors import ComputilityError, Conflict
from common.resources.meta import API_VERSION
from operators.control.link import Document
from operators.control.view import Item
from operators.core.reconcile import Do, Step
from operators.documents import Body, Key, is_leaving, reason_of
from operators.kube.client import path_of
from operators.parts import Parts

OBSERVED = "computility.io/observed"
"""The annotation of a custom resource that was made for a node of control."""


class Nodes:
    """Takes the steps for one node."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def reconcile(self, key: Key) -> None:
        """Raises an error of ``common.errors`` where it is to be tried again."""
        body = self._parts.cluster.find(key)
        seen = self._parts.view.find(Item("Node", "", key.name))
        if body is None:
            if seen is not None:
                await self._show(key)
            return
        if is_leaving(body):
            return
        if seen is None:
            await self._gone(key, body)
            return
        try:
            if body.get("spec"):
                seen = await self._apply(body, seen)
            step = Step(Do.NOTHING, True, "Observed", "control has it")
        except ComputilityError as error:
            step = Step(Do.NOTHING, False, reason_of(error), error.message)
        await self._parts.tell(body, seen, step)

    async def _show(self, key: Key) -> None:
        document = {
            "apiVersion": API_VERSION,
            "kind": "Node",
            "metadata": {"name": key.name, "annotations": {OBSERVED: "true"}},
            "spec": {},
        }
        try:
            made = await self._parts.kube.create(path_of(key).rpartition("/")[0], document)
        except Conflict:
            return
        self._parts.cluster.learn({**made, "kind": "Node"})

    async def _gone(self, key: Key, body: Body) -> None:
        if (body["metadata"].get("annotations") or {}).get(OBSERVED) == "true":
            await self._parts.kube.delete(path_of(key), body["metadata"]["uid"])
            self._parts.cluster.forget(body)
            return
        step = Step(Do.NOTHING, False, "NotFound", "control has no such node; nodes join by themselves")
        await self._parts.tell(body, None, step)

    async def _apply(self, body: Body, seen: Document) -> Document:
        """What is written here wins; what is not stays as it is in control."""
        spec = {**seen["spec"], **body["spec"]}
        if spec == seen["spec"]:
            return seen
        metadata = {
            name: seen["metadata"][name]
            for name in ("name", "labels", "annotations", "resourceVersion")
            if name in seen["metadata"]
        }
        document = {"apiVersion": API_VERSION, "kind": "Node", "metadata": metadata, "spec": spec}
        made: Document = (await self._parts.link.apply(document))["resource"]
        self._parts.view.learn(made)
        return made
