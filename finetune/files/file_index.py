"""What Files there are, kept in memory: read once from the store, then followed by what has changed there."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from common.errors import Conflict
from common.resources import File
from common.store.port import Change, Store

_PAGE = 500


@dataclass(frozen=True)
class FileKey:
    """Project and name of a File."""

    project: str
    name: str


@dataclass(frozen=True)
class Held:
    """What the files of one project are together."""

    count: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class _Known:
    sha256: str
    size_bytes: int
    expires_ms: int | None


class FileIndex:
    """Answers what would take a look at all Files of all projects, by looking at what is new only.

    Each question is answered as of the store's newest revision.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = asyncio.Lock()
        self._revision: int | None = None
        self._unread = False
        self._clear()

    async def held(self, project: str) -> Held:
        """What the project has."""
        await self._refresh()
        return self._held.get(project, Held())

    async def is_used(self, sha256: str) -> bool:
        """Whether the bytes are those of any File, as far as that is known: one of an older version that is
        set aside may have any.
        """
        await self._refresh()
        if self._unread and not self._uses[sha256]:
            self._unread = bool(await self._store.set_aside(File))
        return self._unread or self._uses[sha256] > 0

    async def expired(self, now_ms: int) -> list[FileKey]:
        """The files whose time is over."""
        await self._refresh()
        return [key for key, end_ms in self._ends_ms.items() if end_ms <= now_ms]

    def _clear(self) -> None:
        self._known: dict[FileKey, _Known] = {}
        self._held: dict[str, Held] = {}
        self._uses: Counter[str] = Counter()
        self._ends_ms: dict[FileKey, int] = {}

    async def _refresh(self) -> None:
        async with self._lock:
            if self._revision is not None:
                try:
                    await self._follow(self._revision)
                    return
                except Conflict:  # away for longer than changes are kept
                    self._revision = None
            await self._read_all()

    async def _read_all(self) -> None:
        revision = await self._store.revision()  # before the list: what comes meanwhile is seen again
        files = await self._store.list(File)
        self._clear()
        for file in files:
            self._put(file)
        self._unread = bool(await self._store.set_aside(File))
        self._revision = revision

    async def _follow(self, since: int) -> None:
        newest = await self._store.revision()
        while since < newest:
            changes = await self._store.changes(since, kinds=("File",), limit=_PAGE)
            for change in changes:
                self._take(change)
            since = changes[-1].revision if len(changes) == _PAGE else max(since, newest)
            self._revision = since

    def _take(self, change: Change) -> None:
        if isinstance(change.resource, File):
            self._drop(_key(change.resource))
            if change.type == "put":
                self._put(change.resource)

    def _put(self, file: File) -> None:
        key, spec = _key(file), file.spec
        self._known[key] = _Known(spec.sha256, spec.size_bytes, spec.expires_ms)
        self._uses[spec.sha256] += 1
        held = self._held.get(key.project, Held())
        self._held[key.project] = Held(held.count + 1, held.bytes + spec.size_bytes)
        if spec.expires_ms is not None:
            self._ends_ms[key] = spec.expires_ms

    def _drop(self, key: FileKey) -> None:
        gone = self._known.pop(key, None)
        if gone is None:
            return
        self._ends_ms.pop(key, None)
        self._uses[gone.sha256] -= 1
        if not self._uses[gone.sha256]:
            del self._uses[gone.sha256]
        held = self._held[key.project]
        left = Held(held.count - 1, held.bytes - gone.size_bytes)
        if left.count:
            self._held[key.project] = left
        else:
            del self._held[key.project]


def _key(file: File) -> FileKey:
    return FileKey(file.project or "", file.name)
