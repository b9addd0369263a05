"""The store in memory: for unit tests and simulation."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal, cast

from common.clock import SYSTEM_CLOCK, Clock
from common.errors import ComputilityError, Conflict, NotFound
from common.resources import Resource
from common.store.answers import Answer, Claim, Replay, current_claim
from common.store.authorship import Author, current_author, events_of
from common.store.fairness import Group, allowances
from common.store.ownership import NOBODY_ELSE, Ownership, Viewer, owner_below, parent_of
from common.store.port import (
    Applied,
    AuditEntry,
    Change,
    Delete,
    Event,
    KindSize,
    Limits,
    Put,
    R,
    SpecRevision,
    StatusWrite,
    Write,
)
from common.store.revisions import KEPT_REVISIONS, ended_by, revised_by
from common.store.rules import (
    Stored,
    check_claim,
    check_horizon,
    in_order,
    key_of,
    not_found,
    plan,
    plan_status,
)
from common.store.set_aside import SetAside

PRUNE_EVERY = 64


class MemoryStore:
    """Implements ``common.store.port.Store``. Of the limits only ``history`` is kept to."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK, limits: Limits | None = None) -> None:
        self._clock = clock
        self._limits = limits or Limits()
        self._resources: dict[tuple[str, str, str], Stored] = {}
        self._revision = 0
        self._history: list[Change] = []
        self._horizons: dict[Group, int] = {}
        self._events: dict[str, Event] = {}
        self._audit: list[AuditEntry] = []
        self._answers: dict[tuple[str, str], tuple[str, Replay]] = {}
        self._revisions: dict[str, dict[int, SpecRevision]] = {}
        self._changed = asyncio.Condition()

    async def get(self, kind: type[R], name: str, project: str | None = None) -> R:
        found = await self.find(kind, name, project)
        if found is None:
            raise not_found(kind.__name__, name, project)
        return found

    async def find(self, kind: type[R], name: str, project: str | None = None) -> R | None:
        found = self._resources.get((kind.__name__, project or "", name))
        return cast(R, found.resource).copy_deep() if found else None

    async def list(
        self, kind: type[R], *, project: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[R]:
        wanted = (labels or {}).items()
        return [
            cast(R, stored.resource).copy_deep()
            for key, stored in sorted(self._resources.items(), key=lambda item: item[0])
            if key[0] == kind.__name__
            and (project is None or key[1] == project)
            and wanted <= stored.resource.metadata.labels.items()
        ]

    async def sizes(self, project: str) -> Mapping[str, KindSize]:
        found: dict[str, KindSize] = {}
        for key, stored in self._resources.items():
            if key[1] == project:
                known = found.get(key[0], KindSize(0, 0))
                size = len(stored.resource.model_dump_json(by_alias=True, exclude_none=True).encode())
                found[key[0]] = KindSize(known.count + 1, known.document_bytes + size)
        return found

    async def write_all(
        self, writes: Sequence[Write], *, dry_run: bool = False, answer: Answer | None = None
    ) -> Sequence[Applied[Resource]]:
        claim = current_claim() if answer else None
        before = dict(self._resources), self._revision, list(self._history), dict(self._horizons)
        try:
            done = {position: self._do(writes[position]) for position in in_order(writes)}
            results = [done[position] for position in range(len(writes))]
            replay = answer(results) if claim and answer else None
        except BaseException:
            self._resources, self._revision, self._history, self._horizons = before
            raise
        if dry_run:
            self._resources, self._revision, self._history, self._horizons = before
            return results
        if claim and replay:
            await self.keep_answer(claim, replay)
            claim.kept = True
        author = current_author()
        for event in events_of(author, results, self._clock.now_ms()):
            self._events.setdefault(event.id, event)
        self._revise(author, results)
        if author is not None:
            author.note(results)
        if self._revision > before[1]:
            await self._tell()
        return results

    def _do(self, wanted: Write) -> Applied[Resource]:
        applied, owner = plan(self._stored(wanted), wanted, self._revision + 1, self._clock)
        resource = applied.resource
        whose = owner or NOBODY_ELSE
        if applied.outcome == "deleted":
            del self._resources[_place(*key_of(wanted))]
            self._note("delete", resource.copy_deep(), whose)
        elif applied.outcome != "unchanged":
            whose = self._owner_of(resource) if owner is None else owner
            self._put(resource, whose)
        return replace(applied, resource=resource.copy_deep(), owner=whose)

    def _revise(self, author: Author | None, results: Sequence[Applied[Resource]]) -> None:
        for applied in results:
            revised = revised_by(author, applied, self._clock.now_ms())
            if revised is not None:
                added = {one.generation: one for one in revised.revisions}
                known = added | self._revisions.get(revised.uid, {})
                newest = sorted(known, reverse=True)[:KEPT_REVISIONS]
                self._revisions[revised.uid] = {generation: known[generation] for generation in newest}
        for uid in ended_by(results):
            self._revisions.pop(uid, None)

    async def revisions(self, uid: str) -> Sequence[SpecRevision]:
        return list(self._revisions.get(uid, {}).values())

    def _stored(self, write: Write) -> Stored | None:
        return self._resources.get(_place(*key_of(write)))

    def _owner_of(self, resource: Resource) -> Ownership:
        parent = parent_of(resource)
        found = self._resources.get(_place(parent.kind, parent.name, None)) if parent else None
        return owner_below(resource, found.owner if found else NOBODY_ELSE)

    async def apply(self, resource: R, *, dry_run: bool = False, answer: Answer | None = None) -> Applied[R]:
        [applied] = await self.write_all([Put(resource)], dry_run=dry_run, answer=answer)
        return cast(Applied[R], applied)

    async def set_aside(self, kind: type[Resource] | None = None) -> Sequence[SetAside]:
        return []

    async def remove_set_aside(self, kind: str, name: str, project: str | None = None) -> SetAside:
        raise not_found(kind, name, project)

    async def set_status(self, resource: R) -> R:
        stored = self._stored(Put(resource))
        old = cast(R, stored.resource) if stored else None
        merged = plan_status(old, resource, self._revision + 1)
        if merged is None or stored is None:
            return cast(R, old).copy_deep()
        self._put(merged, stored.owner)
        await self._tell()
        return merged.copy_deep()

    async def set_statuses(
        self, writes: Sequence[StatusWrite]
    ) -> Sequence[Resource | ComputilityError | None]:
        results: list[Resource | ComputilityError | None] = []
        for write in writes:
            try:
                results.append(await self.set_status(write.resource) if write.resource else None)
            except (Conflict, NotFound) as error:
                results.append(error)
                continue
            for event in write.events:
                await self.record(event)
        return results

    async def delete(
        self,
        kind: type[R],
        name: str,
        project: str | None = None,
        *,
        resource_version: int = 0,
        dry_run: bool = False,
        answer: Answer | None = None,
    ) -> R:
        wanted = Delete(kind, name, project, resource_version)
        [deleted] = await self.write_all([wanted], dry_run=dry_run, answer=answer)
        return cast(R, deleted.resource)

    def _put(self, resource: Resource, owner: Ownership) -> None:
        kept = resource.copy_deep()
        self._resources[_place(kept.kind, kept.name, kept.project)] = Stored(kept, owner)
        self._note("put", kept, owner)

    def _note(self, type_: Literal["put", "delete"], resource: Resource, owner: Ownership) -> None:
        self._revision += 1
        self._history.append(Change(self._revision, type_, resource, owner))
        if len(self._history) >= self._limits.history + PRUNE_EVERY:
            self._prune()

    def _prune(self) -> None:
        """Drop the oldest changes of those owners who have most."""
        groups = [(change.owner.tenant, change.owner.project) for change in self._history]
        counts = Counter(groups)
        excess = {g: counts[g] - kept for g, kept in allowances(counts, self._limits.history).items()}
        history = []
        for group, change in zip(groups, self._history, strict=True):
            if excess.get(group, 0) > 0:
                excess[group] -= 1
                self._horizons[group] = change.revision
            else:
                history.append(change)
        self._history = history

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def revision(self) -> int:
        return self._revision

    async def changes(
        self,
        since: int,
        *,
        kinds: Sequence[str] = (),
        limit: int = 500,
        viewer: Viewer | None = None,
        known: Collection[int] = (),
    ) -> Sequence[Change]:
        cut = [at for group, at in self._horizons.items() if viewer is None or viewer.sees(Ownership(*group))]
        check_horizon(since, max(cut, default=0))
        start = bisect_right(self._history, since, key=lambda change: change.revision)
        found = [
            change
            for change in self._history[start:]
            if (not kinds or change.resource.kind in kinds)
            and (viewer is None or viewer.sees(change.owner))
            and change.revision not in known
        ]
        return [replace(change, resource=change.resource.copy_deep()) for change in found[:limit]]

    async def wait(self, since: int, timeout_seconds: float, kinds: Sequence[str] = ()) -> int:
        async with self._changed:
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._changed.wait_for(lambda: self._has_news(since, kinds))
            except TimeoutError:
                pass
        return self._revision

    def _has_news(self, since: int, kinds: Sequence[str]) -> bool:
        if not kinds or since < max(self._horizons.values(), default=0):
            return self._revision > since
        start = bisect_right(self._history, since, key=lambda change: change.revision)
        return any(change.resource.kind in kinds for change in self._history[start:])

    async def record(self, *events: Event) -> None:
        for event in events:
            kind, name = ("Project", event.project) if event.project else (event.kind, event.name)
            stored = self._resources.get(_place(kind, name, None))
            self._events.setdefault(event.id, replace(event, owner=stored.owner if stored else NOBODY_ELSE))

    async def events(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        project: str | None = None,
        reason: str | None = None,
        after: str | None = None,
        limit: int = 100,
        kinds: Sequence[str] = (),
        viewer: Viewer | None = None,
        newest: bool = False,
    ) -> Sequence[Event]:
        start = self._events.get(after) if after else None
        found = [
            e
            for e in sorted(self._events.values(), key=lambda e: (e.time_ms, e.id))
            if (kind is None or e.kind == kind)
            and (name is None or e.name == name)
            and (project is None or e.project == project)
            and (reason is None or e.reason == reason)
            and (not kinds or e.kind in kinds)
            and (viewer is None or viewer.sees(e.owner))
            and (start is None or (e.time_ms, e.id) > (start.time_ms, start.id))
        ]
        return found[-limit:] if newest else found[:limit]

    async def find_answer(self, claim: Claim) -> Replay | None:
        known = self._answers.get((claim.scope, claim.key))
        if known is None:
            return None
        check_claim(claim, known[0])
        return known[1]

    async def keep_answer(self, claim: Claim, replay: Replay) -> None:
        self._answers.setdefault((claim.scope, claim.key), (claim.digest, replay))

    async def audit(self, entry: AuditEntry) -> None:
        self._audit.append(entry)

    async def audit_log(self, *, limit: int = 100) -> Sequence[AuditEntry]:
        return list(reversed(self._audit))[:limit]

    async def close(self) -> None:
        return None


def _place(kind: str, name: str, project: str | None) -> tuple[str, str, str]:
    return kind, project or "", name
