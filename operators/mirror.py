"""Kinds that are the same in control: spec goes there, status comes back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from common.errors import ComputilityError, Conflict, NotFound
from operators.control.link import Document
from operators.control.view import Item
from operators.core.reconcile import Custom, Do, Step, next_step, released, with_notes_of
from operators.documents import Body, Key, custom_of, mark_for, reason_of
from operators.parts import Parts

MAX_STEPS = 8
_LATER = ("stale_resource_version",)


class Mirror:
    """Takes steps for one custom resource until there is nothing to do."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._settled: dict[Key, str] = {}

    async def reconcile(self, key: Key) -> None:
        """Raises an error of ``common.errors`` where it is to be tried again."""
        for _ in range(MAX_STEPS):
            body = self._parts.cluster.find(key)
            if body is None:
                self._settled.pop(key, None)
                return
            if await self._step(key, body):
                return
        raise Conflict(f"{key}: it changes faster than it is mirrored")

    async def _step(self, key: Key, body: Body) -> bool:
        """Take one step; whether it was the last one."""
        cluster, view = self._parts.cluster, self._parts.view
        item, place = cluster.item_for(key), cluster.place(key.namespace)
        custom = custom_of(body, place, mark_for(cluster.identity, key))
        seen = view.find(item)
        step = next_step(custom, seen, self._settled.get(key) == _traces(custom, seen))
        try:
            match step.do:
                case Do.ADD_FINALIZER:
                    await self._parts.hold(body)
                case Do.REMOVE_FINALIZER:
                    await self._let_go(key, body, item, seen)
                case Do.APPLY if seen is None and not await self._parts.is_there(body):
                    return False
                case Do.APPLY:
                    await self._apply(key, custom, seen, place.acts_as)
                case Do.RELEASE if seen is not None:
                    view.learn((await self._parts.link.apply(released(seen), place.acts_as))["resource"])
                case Do.DELETE if seen is not None:
                    await self._delete(key, item, seen, place.acts_as)
                case _:
                    await self._parts.tell(body, seen, step)
                    return True
        except ComputilityError as error:
            if error.code in _LATER:
                view.learn(await self._parts.link.get(key.plural, key.name, item.project))
                return False
            await self._refused(key, body, step, seen, error)
            raise
        return False

    async def _let_go(self, key: Key, body: Body, item: Item, seen: Mapping[str, Any] | None) -> None:
        """Take the finalizer off, when control itself says that there is nothing to wait for."""
        if seen is None:
            try:
                self._parts.view.learn(await self._parts.link.get(key.plural, key.name, item.project))
                return
            except NotFound:
                pass
        await self._parts.let_go(body)

    async def _apply(
        self, key: Key, custom: Custom, seen: Mapping[str, Any] | None, acts_as: str | None
    ) -> None:
        assert custom.document is not None
        answer = await self._parts.link.apply(with_notes_of(custom.document, seen), acts_as)
        made: Document = answer["resource"]
        self._parts.view.learn(made)
        self._settled[key] = _traces(custom, made)

    async def _delete(self, key: Key, item: Item, seen: Mapping[str, Any], acts_as: str | None) -> None:
        version = seen["metadata"].get("resourceVersion", 0)
        with suppress(NotFound):
            await self._parts.link.delete(
                key.plural, key.name, item.project, acts_as, resource_version=version
            )
        self._parts.view.forget(item)

    async def _refused(
        self, key: Key, body: Body, step: Step, seen: Mapping[str, Any] | None, error: ComputilityError
    ) -> None:
        """What went wrong stands in the status, unless it is Kubernetes that does not answer."""
        if error.message.startswith("Kubernetes: ") or step.do in (Do.ADD_FINALIZER, Do.REMOVE_FINALIZER):
            return
        await self._parts.tell(body, seen, Step(Do.NOTHING, False, reason_of(error), error.message))


def _traces(custom: Custom, seen: Mapping[str, Any] | None) -> str:
    """What tells this document, and what control made of it, from others."""
    made = {} if seen is None else {"spec": seen["spec"], "labels": seen["metadata"].get("labels")}
    notes = {} if seen is None else seen["metadata"].get("annotations", {})
    text = json.dumps([custom.document, made, notes, seen is None], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
