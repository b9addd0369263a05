"""The lease by which one operator leads, kept in a Lease of Kubernetes: see ``common.leadership``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from common.clock import Clock
from common.errors import Conflict, NotFound
from common.leadership.rules import Candidate, Lease
from operators.kube.client import Kube

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BEAT = "computility.io/beat"


class KubeLease:
    """``leaseTransitions`` counts takes, an annotation counts renewals. Clocks of others do not matter."""

    def __init__(self, kube: Kube, namespace: str, name: str, seconds: float, clock: Clock) -> None:
        self._kube, self._clock, self._seconds = kube, clock, seconds
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace)}/leases"
        self._path, self._name = f"{self._folder}/{quote(name)}", name
        self._body: dict[str, Any] | None = None

    async def read(self) -> Lease:
        """The lease as it is; a new one where there is none."""
        try:
            self._body = await self._kube.get(self._path)
        except NotFound:
            self._body = None
        return _lease(self._body)

    async def take(self, seen: Lease, me: Candidate, least_epoch: int = 0) -> Lease | None:
        """Take it, unless it is another one by now than was seen."""
        wanted = Lease(seen.epoch + 1, me.holder, me.url, 0)
        return await self._write(wanted)

    async def renew(self, held: Lease) -> Lease | None:
        """Show that its holder lives; None where another has it."""
        now = await self.read()
        if (now.epoch, now.holder) != (held.epoch, held.holder):
            return None
        renewed = await self._write(Lease(held.epoch, held.holder, held.url, held.beat + 1))
        return renewed or held

    async def release(self, held: Lease) -> None:
        """Give it back."""
        now = await self.read()
        if (now.epoch, now.holder) == (held.epoch, held.holder):
            await self._write(Lease(held.epoch, "", "", held.beat))

    async def _write(self, lease: Lease) -> Lease | None:
        """The lease as it was read, with other content; None where it changed meanwhile."""
        moment = (_EPOCH + timedelta(milliseconds=self._clock.now_ms())).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            "holderIdentity": lease.holder,
            "leaseTransitions": lease.epoch,
            "leaseDurationSeconds": max(1, round(self._seconds)),
            "renewTime": moment,
        }
        metadata = dict((self._body or {}).get("metadata", {"name": self._name}))
        metadata["annotations"] = {_BEAT: str(lease.beat)}
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }
        try:
            if self._body is None:
                self._body = await self._kube.create(self._folder, body)
            else:
                self._body = await self._kube.replace(self._path, body)
        except Conflict:
            return None
        return lease


def _lease(body: Mapping[str, Any] | None) -> Lease:
    if body is None:
        return Lease()
    spec = body.get("spec") or {}
    beat = str((body["metadata"].get("annotations") or {}).get(_BEAT, "0"))
    return Lease(
        int(spec.get("leaseTransitions") or 0),
        str(spec.get("holderIdentity") or ""),
        "",
        int(beat) if beat.isdecimal() else 0,
    )
