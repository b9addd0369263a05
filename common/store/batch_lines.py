"""What came of the lines of batches, each kept once: a port, and where it is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from common.db import Database
from common.store.schema import batch_lines

_READ_AT_ONCE = 200


@dataclass(frozen=True)
class LineOutcome:
    """The end of one line, from 1. ``content`` is the line of JSON for the file of answers or, where it is
    not ``is_good``, of errors. ``event`` has the usage events that it is billed by, a JSON list; empty =
    nothing was used. The tokens are those of the events."""

    line: int
    is_good: bool
    content: str
    event: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Totals:
    """Of all outcomes of a batch."""

    completed: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    @property
    def lines(self) -> int:
        return self.completed + self.failed


class BatchLines(Protocol):
    """Outcomes by batch (its uid) and line. Raises ``Unavailable`` when the database cannot be reached."""

    async def keep(self, batch: str, project: str, outcomes: Collection[LineOutcome]) -> None:
        """All of them are durable when this returns. Of a line that has an outcome the first one stands."""
        ...

    async def done(self, batch: str) -> set[int]:
        """The lines that have an outcome."""
        ...

    async def totals(self, batch: str) -> Totals:
        """What its outcomes come to."""
        ...

    async def unposted(self, batch: str, limit: int) -> Mapping[int, str]:
        """Usage events that are not known to be in the ledger, by line, at most so many."""
        ...

    async def posted(self, batch: str, lines: Collection[int]) -> None:
        """The events of these lines are in the ledger."""
        ...

    def all_of(self, batch: str) -> AsyncIterator[LineOutcome]:
        """All outcomes in the order of the lines."""
        ...

    async def held_bytes(self) -> Mapping[str, int]:
        """Project -> bytes of its outcomes."""
        ...

    async def batches(self) -> Sequence[str]:
        """The uids of batches that have outcomes."""
        ...

    async def forget(self, batch: str) -> None:
        """Remove all of a batch."""
        ...


@dataclass
class _Kept:
    outcome: LineOutcome
    project: str
    is_posted: bool = False


@dataclass
class MemoryBatchLines:
    """Implements ``BatchLines``: for unit tests."""

    kept: dict[str, dict[int, _Kept]] = field(default_factory=dict)

    async def keep(self, batch: str, project: str, outcomes: Collection[LineOutcome]) -> None:
        lines = self.kept.setdefault(batch, {})
        for one in outcomes:
            lines.setdefault(one.line, _Kept(one, project, is_posted=not one.event))

    async def done(self, batch: str) -> set[int]:
        return set(self.kept.get(batch, {}))

    async def totals(self, batch: str) -> Totals:
        outcomes = [one.outcome for one in self.kept.get(batch, {}).values()]
        return Totals(
            completed=sum(one.is_good for one in outcomes),
            failed=sum(not one.is_good for one in outcomes),
            prompt_tokens=sum(one.prompt_tokens for one in outcomes),
            cached_tokens=sum(one.cached_tokens for one in outcomes),
            completion_tokens=sum(one.completion_tokens for one in outcomes),
        )

    async def unposted(self, batch: str, limit: int) -> Mapping[int, str]:
        lines = sorted(self.kept.get(batch, {}).items())
        found = [(line, one.outcome.event) for line, one in lines if not one.is_posted]
        return dict(found[:limit])

    async def posted(self, batch: str, lines: Collection[int]) -> None:
        for line in lines:
            self.kept[batch][line].is_posted = True

    async def all_of(self, batch: str) -> AsyncIterator[LineOutcome]:
        for _, one in sorted(self.kept.get(batch, {}).items()):
            yield one.outcome

    async def held_bytes(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for lines in self.kept.values():
            for one in lines.values():
                found[one.project] = found.get(one.project, 0) + len(one.outcome.content)
        return found

    async def batches(self) -> Sequence[str]:
        return sorted(self.kept)

    async def forget(self, batch: str) -> None:
        self.kept.pop(batch, None)


class SqlBatchLines:
    """Implements ``BatchLines`` in SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, batch: str, project: str, outcomes: Collection[LineOutcome]) -> None:
        if not outcomes:
            return
        rows = [
            {
                "batch": batch,
                "line": one.line,
                "project": project,
                "is_good": one.is_good,
                "content": one.content,
                "size_bytes": len(one.content.encode()),
                "event": one.event,
                "is_posted": not one.event,
                "prompt_tokens": one.prompt_tokens,
                "cached_tokens": one.cached_tokens,
                "completion_tokens": one.completion_tokens,
            }
            for one in outcomes
        ]
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        async with self._database.write() as connection:
            await connection.execute(insert(batch_lines).on_conflict_do_nothing(), rows)

    async def done(self, batch: str) -> set[int]:
        query = sa.select(batch_lines.c.line).where(batch_lines.c.batch == batch)
        async with self._database.read() as connection:
            return set((await connection.execute(query)).scalars())

    async def totals(self, batch: str) -> Totals:
        c = batch_lines.c
        added = (sa.func.sum(column) for column in (c.prompt_tokens, c.cached_tokens, c.completion_tokens))
        good = sa.func.sum(sa.case((c.is_good, 1), else_=0))
        query = sa.select(good, sa.func.count(), *added).where(c.batch == batch)
        async with self._database.read() as connection:
            found = [int(one or 0) for one in (await connection.execute(query)).one()]
        completed, lines, *tokens = found
        return Totals(completed, lines - completed, *tokens)

    async def unposted(self, batch: str, limit: int) -> Mapping[int, str]:
        c = batch_lines.c
        query = sa.select(c.line, c.event).where(c.batch == batch, c.is_posted.is_(False))
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(c.line).limit(limit))
            return {row.line: row.event for row in rows}

    async def posted(self, batch: str, lines: Collection[int]) -> None:
        c = batch_lines.c
        update = sa.update(batch_lines).where(c.batch == batch, c.line.in_(lines))
        async with self._database.write() as connection:
            await connection.execute(update.values(is_posted=True))

    async def all_of(self, batch: str) -> AsyncIterator[LineOutcome]:
        c, after = batch_lines.c, 0
        columns = (c.line, c.is_good, c.content)
        query = sa.select(*columns).where(c.batch == batch).order_by(c.line).limit(_READ_AT_ONCE)
        while True:
            async with self._database.read() as connection:
                rows = list(await connection.execute(query.where(c.line > after)))
            for line, is_good, content in rows:
                yield LineOutcome(line, is_good, content)
                after = line
            if len(rows) < _READ_AT_ONCE:
                return

    async def held_bytes(self) -> Mapping[str, int]:
        c = batch_lines.c
        query = sa.select(c.project, sa.func.sum(c.size_bytes)).group_by(c.project)
        async with self._database.read() as connection:
            return {project: int(size) for project, size in await connection.execute(query)}

    async def batches(self) -> Sequence[str]:
        query = sa.select(batch_lines.c.batch).distinct().order_by(batch_lines.c.batch)
        async with self._database.read() as connection:
            return list((await connection.execute(query)).scalars())

    async def forget(self, batch: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(sa.delete(batch_lines).where(batch_lines.c.batch == batch))
