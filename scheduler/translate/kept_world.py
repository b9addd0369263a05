"""The world as it is kept from pass to pass: read once, then brought up to date by the store's changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from common.errors import Conflict
from common.loop import in_turns
from common.resources import Node, Project, Queue, Resource, Workload
from common.store.port import Change, Store
from common.telemetry import get_logger
from scheduler.translate.standing import Standings
from scheduler.translate.views import World

PAGE = 1000
"""So many changes are read at a time."""
_KINDS = (Node, Project, Queue, Workload)
KINDS = tuple(kind.__name__ for kind in _KINDS)
"""What a world is made of."""
R = TypeVar("R", bound=Resource)
_log = get_logger(__name__)


class Tracked(dict[str, R], Generic[R]):
    """A dictionary that tells of each change: of its key, what stood there and what stands there now (None =
    nothing)."""

    def __init__(self, tell: Callable[[str, R | None, R | None], None]) -> None:
        super().__init__()
        self._tell = tell

    def __setitem__(self, key: str, resource: R) -> None:
        before = self.get(key)
        super().__setitem__(key, resource)
        self._tell(key, before, resource)

    def __delitem__(self, key: str) -> None:
        before = self[key]
        super().__delitem__(key)
        self._tell(key, before, None)

    def pop(self, key: str, default: Any = None) -> Any:
        """What stood there, or ``default``."""
        if key not in self:
            return default
        found = self[key]
        del self[key]
        return found


@dataclass
class Changed:
    """Keys of what has changed since its reader emptied it; a queue changes with the workloads in it."""

    workloads: set[str] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    queues: set[str] = field(default_factory=set)
    projects: set[str] = field(default_factory=set)

    def take_workloads(self) -> set[str]:
        taken, self.workloads = self.workloads, set()
        return taken

    def take_queues(self) -> set[str]:
        taken, self.queues = self.queues, set()
        return taken

    def take_nodes(self) -> set[str]:
        taken, self.nodes = self.nodes, set()
        return taken


class KeptWorld(World):
    """A world that knows what changes in it, and keeps its ``standings``. With a replica its group counts as
    changed, with the spec of a queue or project all workloads in it. ``versions``: of all that was put here
    since somebody emptied it."""

    def __init__(self) -> None:
        self.standings = Standings()
        self._readers: list[Changed] = []
        self.versions: set[int] = set()
        super().__init__(
            nodes=Tracked(self._on_node),
            queues=Tracked(self._on_queue),
            projects=Tracked(self._on_project),
            workloads=Tracked(self._on_workload),
        )
        self._rules: dict[tuple[str, str], tuple[str, int]] = {}

    def reader(self) -> Changed:
        """What changes from now on, for one who reads and empties it."""
        changed = Changed()
        self._readers.append(changed)
        return changed

    def _on_workload(self, uid: str, old: Workload | None, workload: Workload | None) -> None:
        self._note(workload)
        before = self.standings.of(uid)
        if workload is None:
            self.standings.drop(uid)
        elif before is not None and old is not None and _counts_the_same(old, workload):
            self.standings.renew(uid, workload)
        else:
            self.standings.put(uid, workload)
        now = self.standings.of(uid)
        both = [one for one in (before, now) if one is not None]
        self._touch((uid, *{one.family for one in both if one.family}))
        for reader in self._readers:
            reader.queues.update(one.queue for one in both)

    def _on_node(self, name: str, _: Node | None, node: Node | None) -> None:
        self._note(node)
        for reader in self._readers:
            reader.nodes.add(name)

    def _on_queue(self, name: str, _: Queue | None, queue: Queue | None) -> None:
        self._note(queue)
        if self._is_other("Queue", name, queue):
            self._touch(self.standings.in_queue.get(name, ()))
        for reader in self._readers:
            reader.queues.add(name)

    def _on_project(self, name: str, _: Project | None, project: Project | None) -> None:
        self._note(project)
        if self._is_other("Project", name, project):
            self._touch(self.standings.in_project.get(name, ()))
        for reader in self._readers:
            reader.projects.add(name)

    def _touch(self, uids: Iterable[str]) -> None:
        for reader in self._readers:
            reader.workloads.update(uids)

    def _is_other(self, kind: str, name: str, resource: Resource | None) -> bool:
        """Whether its spec may be another one than it was."""
        rule = ("", -1) if resource is None else (resource.metadata.uid, resource.metadata.generation)
        known, self._rules[kind, name] = self._rules.get((kind, name)), rule
        return known != rule

    def _note(self, resource: Resource | None) -> None:
        if resource is not None:
            self.versions.add(resource.metadata.resource_version)


def _counts_the_same(old: Workload, new: Workload) -> bool:
    """Whether it is the same workload written down anew."""
    same = old.status is new.status and old.spec is new.spec
    return same and old.metadata.owner == new.metadata.owner and old.name == new.name


class WorldKeeper:
    """Keeps a ``KeptWorld`` equal to what a list of the store would say."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._revision: int | None = None
        self.world = KeptWorld()
        self.is_new = False
        """Whether all of it was read in the last ``follow``."""

    def forget(self) -> None:
        """Read everything anew: what is kept may not be what is stored."""
        self._revision = None

    async def follow(self) -> None:
        """Bring the world up to date. Reads everything where that is not known any more."""
        self.is_new = False
        if self._revision is not None:
            try:
                await self._catch_up(self._revision)
                return
            except Conflict as error:
                if error.code != "gone":
                    raise
                _log.info("changes are not kept any more: the store is read anew")
        await self._read_all()

    async def _catch_up(self, since: int) -> None:
        revision = await self._store.wait(since, 0, KINDS)
        while since < revision:
            changes = await self._store.changes(since, kinds=KINDS, limit=PAGE, known=self.world.versions)
            for change in changes:
                self._apply(change)
            since = changes[-1].revision if len(changes) == PAGE else max(revision, since)
        self.world.versions.clear()
        self._revision = since

    def _apply(self, change: Change) -> None:
        """Unless something newer is known: an own write, or a thing made anew under the name."""
        resource = change.resource
        place, key = self._place(resource)
        known = place.get(key)
        if known is not None and known.metadata.resource_version >= change.revision:
            return
        if change.type == "put":
            place[key] = resource
        elif known is not None and known.metadata.uid == resource.metadata.uid:
            del place[key]

    def _place(self, resource: Resource) -> tuple[dict[str, Any], str]:
        world = self.world
        if isinstance(resource, Workload):
            return world.workloads, resource.metadata.uid
        if isinstance(resource, Node):
            return world.nodes, resource.name
        return (world.queues if isinstance(resource, Queue) else world.projects), resource.name

    async def _read_all(self) -> None:
        revision = await self._store.revision()
        self._revision = None
        for kind in _KINDS:
            found: list[Resource] = [*await self._store.list(kind)]
            keys = set()
            async for resource in in_turns(found):
                place, key = self._place(resource)
                place[key] = resource
                keys.add(key)
            place = self._all_of(kind)
            for key in [key for key in place if key not in keys]:
                del place[key]
        self.world.versions.clear()
        self._revision, self.is_new = revision, True

    def _all_of(self, kind: type[Resource]) -> dict[str, Any]:
        world = self.world
        places: dict[type[Resource], dict[str, Any]] = {
            Node: world.nodes,
            Project: world.projects,
            Queue: world.queues,
            Workload: world.workloads,
        }
        return places[kind]
