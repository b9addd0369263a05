"""What all that mirrors works with, and what it does to a custom resource itself."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from common.clock import Clock
from common.errors import NotFound
from operators.control.link import ControlLink
from operators.control.lists import Lists
from operators.control.view import ControlView
from operators.core.reconcile import FINALIZER, Step
from operators.core.status import Synced, status_of
from operators.documents import Body, is_leaving, key_of
from operators.kube.client import Kube, path_of
from operators.kube.cluster import Cluster


@dataclass
class Parts:
    """The two sides, and what is known of each."""

    cluster: Cluster
    kube: Kube
    link: ControlLink
    view: ControlView
    clock: Clock

    def __post_init__(self) -> None:
        self.lists = Lists(self.link)

    async def hold(self, body: Body) -> None:
        """Have the custom resource wait for us when it is deleted."""
        others = [name for name in body["metadata"].get("finalizers") or () if name != FINALIZER]
        await self._finalizers(body, [*others, FINALIZER])

    async def let_go(self, body: Body) -> None:
        """Have it wait for us no longer."""
        others = [name for name in body["metadata"].get("finalizers") or () if name != FINALIZER]
        with suppress(NotFound):
            await self._finalizers(body, others)
        if not others:
            self.cluster.forget(body)

    async def is_there(self, body: Body) -> bool:
        """Whether Kubernetes itself has it now, and is not deleting it: asked before anything is made."""
        try:
            now = await self.kube.get(path_of(key_of(body)))
        except NotFound:
            self.cluster.forget(body)
            return False
        self.cluster.learn({**now, "kind": body["kind"]})
        return bool(now["metadata"]["uid"] == body["metadata"]["uid"]) and not is_leaving(now)

    async def _finalizers(self, body: Body, wanted: list[str]) -> None:
        try:
            made = await self.kube.set_finalizers(body, wanted)
        except NotFound:
            self.cluster.forget(body)
            raise
        self.cluster.learn({**made, "kind": body["kind"]})

    async def tell(
        self,
        body: Body,
        seen: Mapping[str, Any] | None,
        step: Step,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the status, where it is another one by now."""
        if step.synced is None:
            return
        old = body.get("status") or {}
        synced = Synced(step.synced, step.reason, step.message, body["metadata"].get("generation", 0))
        wanted = status_of(seen, old, synced, self.clock.now_ms(), extra)
        if wanted == old:
            return
        with suppress(NotFound):
            made = await self.kube.apply_status(body, wanted)
            self.cluster.learn({**made, "kind": body["kind"]})
