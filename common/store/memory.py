"""The store in memory: for unit tests and simulation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import cast

from common.clock import SYSTEM_CLOCK, Clock
from common.resources import Resource
from common.store.port import Applied, AuditEntry, Change, Event, Limits, R, Replay
from common.store.rules import (
    check_claim,
    check_horizon,
    check_version,
    not_claimed,
    not_found,
    plan_apply,
    plan_status,
)


class MemoryStore:
    """Implements ``common.store.port.Store``. Only ``limits.history`` is kept to."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK, limits: Limits | None = None) -> None:
        self._clock = clock
        self._limits = limits or Limits()
        self._resources: dict[tuple[str, str, str], Resource] = {}
        self._history: list[Change] = []
        self._events: dict[str, Event] = {}
        self._audit: list[AuditEntry] = []
        self._answers: dict[tuple[str, str], tuple[str, Replay | None]] = {}
        self._changed = asyncio.Condition()

    async def get(self, kind: type[R], name: str, project: str | None = None) -> R:
        found = await self.find(kind, name, project)
        if found is None:
            raise not_found(kind.__name__, name, project)
        return found

    async def find(self, kind: type[R], name: str, project: str | None = None) -> R | None:
        found = self._resources.get((kind.__name__, project or "", name))
        return cast(R, found).copy_deep() if found else None

    async def list(
        self, kind: type[R], *, project: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[R]:
        wanted = (labels or {}).items()
        return [
            cast(R, r).copy_deep()
            for key, r in sorted(self._resources.items(), key=lambda item: item[0])
            if key[0] == kind.__name__
            and (project is None or key[1] == project)
            and wanted <= r.metadata.labels.items()
        ]

    async def apply(self, resource: R, *, dry_run: bool = False) -> Applied[R]:
        old = await self.find(type(resource), resource.name, resource.project)
        applied = plan_apply(old, resource, len(self._history) + 1, self._clock)
        if not dry_run and applied.outcome != "unchanged":
            await self._put(applied.resource)
        return applied

    async def set_status(self, resource: R) -> R:
        old = await self.find(type(resource), resource.name, resource.project)
        merged = plan_status(old, resource, len(self._history) + 1)
        if merged is None:
            return cast(R, old)
        await self._put(merged)
        return merged.copy_deep()

    async def delete(
        self,
        kind: type[R],
        name: str,
        project: str | None = None,
        *,
        resource_version: int = 0,
        dry_run: bool = False,
    ) -> R:
        old = await self.get(kind, name, project)
        wanted = old.copy_deep()
        wanted.metadata.resource_version = resource_version
        check_version(old, wanted)
        if not dry_run:
            del self._resources[(kind.__name__, project or "", name)]
            await self._note(Change(len(self._history) + 1, "delete", old.copy_deep()))
        return old

    async def _put(self, resource: Resource) -> None:
        kept = resource.copy_deep()
        self._resources[(kept.kind, kept.project or "", kept.name)] = kept
        await self._note(Change(kept.metadata.resource_version, "put", kept))

    async def _note(self, change: Change) -> None:
        self._history.append(change)
        async with self._changed:
            self._changed.notify_all()

    async def revision(self) -> int:
        return len(self._history)

    async def changes(self, since: int, *, kinds: Sequence[str] = (), limit: int = 500) -> Sequence[Change]:
        check_horizon(since, len(self._history) - self._limits.history)
        found = [c for c in self._history[since:] if not kinds or c.resource.kind in kinds]
        return [Change(c.revision, c.type, c.resource.copy_deep()) for c in found[:limit]]

    async def wait(self, since: int, timeout_seconds: float) -> int:
        async with self._changed:
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._changed.wait_for(lambda: len(self._history) > since)
            except TimeoutError:
                pass
        return len(self._history)

    async def record(self, event: Event) -> None:
        self._events.setdefault(event.id, event)

    async def events(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        project: str | None = None,
        reason: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Sequence[Event]:
        start = self._events.get(after) if after else None
        found = [
            e
            for e in sorted(self._events.values(), key=lambda e: (e.time_ms, e.id))
            if (kind is None or e.kind == kind)
            and (name is None or e.name == name)
            and (project is None or e.project == project)
            and (reason is None or e.reason == reason)
            and (start is None or (e.time_ms, e.id) > (start.time_ms, start.id))
        ]
        return found[:limit]

    async def begin_idempotent(self, principal: str, key: str, body_digest: str) -> Replay | None:
        known = self._answers.get((principal, key))
        if known is None:
            self._answers[(principal, key)] = (body_digest, None)
            return None
        check_claim(key, known[0], body_digest)
        return known[1]

    async def finish_idempotent(self, principal: str, key: str, replay: Replay) -> None:
        known = self._answers.get((principal, key))
        if known is None:
            raise not_claimed(key)
        self._answers[(principal, key)] = (known[0], replay)

    async def audit(self, entry: AuditEntry) -> None:
        self._audit.append(entry)

    async def audit_log(self, *, limit: int = 100) -> Sequence[AuditEntry]:
        return list(reversed(self._audit))[:limit]

    async def close(self) -> None:
        return None
