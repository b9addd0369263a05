"""What is left of each limit, in memory that all workers of a gateway share.

A row belongs to one key, project, tenant or Endpoint that has limits, for as long as something is used of
them. Where it lies follows from a hash with the installation's secret, so that nobody can choose names that
meet. Only what the routing table knows has rows: keys that strangers make up cost nothing.

One lock holds for all: it is the system's (of POSIX), which gives it back when a worker is killed. A row is
written at once. What a killed worker had open is not counted any more when the next one has its place; what
it had set aside is renewed by time.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

from inference.core.rates import Bucket

ROWS = 16_384
"""Of those that have used something of their limits within the last minute, or have more open."""
NEARBY = 32
"""Rows among which one is looked for."""
ID_BYTES = 16
_NUMBERS = struct.Struct("<16s16sQ16s16sQ")
_ROW_BYTES = ID_BYTES + _NUMBERS.size
_OPEN = struct.Struct("<I")


class NoRow(Exception):
    """So many are busy that there is no place for one more."""


@dataclass(slots=True)
class Row:
    """What one has left. ``at`` is where it lies."""

    at: int
    id: bytes
    requests: Bucket
    tokens: Bucket


def table_bytes(workers: int) -> int:
    """How much memory a table takes, where all of it is used."""
    return ROWS * (_ROW_BYTES + workers * _OPEN.size)


def shared_memory(workers: int) -> int:
    """A file in memory for the tables of so many workers, to be handed to them."""
    file = os.memfd_create("rate-limits")
    os.ftruncate(file, table_bytes(workers))
    os.set_inheritable(file, True)
    return file


class LimitTable:
    """One worker's way to the table. ``file``: that which the workers share; None: there are no others."""

    def __init__(self, secret: str, file: int | None = None, worker: int = 0, workers: int = 1) -> None:
        self._secret = blake2b(secret.encode(), digest_size=32).digest()
        self._file = file
        self._memory = mmap.mmap(-1 if file is None else file, table_bytes(workers))
        self._columns = [ROWS * (_ROW_BYTES + number * _OPEN.size) for number in range(workers)]
        self._own = self._columns[worker]
        self._ids: dict[tuple[str, str], bytes] = {}
        with self.locked():  # what the worker before had open is not
            self._memory[self._own : self._own + ROWS * _OPEN.size] = bytes(ROWS * _OPEN.size)

    def close(self) -> None:
        self._memory.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While nobody else reads or writes."""
        if self._file is None:
            yield
            return
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def rows(self, names: Iterable[tuple[str, str]], now_ns: int) -> list[Row]:
        """The rows of those, each a scope and a name; they may be new. Raises ``NoRow``. While locked."""
        found: list[Row] = []
        for scope, name in names:
            found.append(self._row(self._id(scope, name), {row.at for row in found}, now_ns))
        return found

    def _row(self, id_: bytes, taken: Collection[int], now_ns: int) -> Row:
        first, free = int.from_bytes(id_[:4], "little"), None
        for step in range(NEARBY):
            at = (first + step) % ROWS
            start = at * _ROW_BYTES
            if self._memory[start : start + ID_BYTES] == id_:
                return self.read(at)
            if free is None and at not in taken and self._is_free(at, now_ns):
                free = at
        if free is None:
            raise NoRow
        return Row(free, id_, Bucket(), Bucket())

    def read(self, at: int) -> Row:
        """The row that lies there. Only while locked."""
        start = at * _ROW_BYTES
        one, one_returned, one_limit, two, two_returned, two_limit = _NUMBERS.unpack_from(
            self._memory, start + ID_BYTES
        )
        return Row(
            at,
            self._memory[start : start + ID_BYTES],
            Bucket(one_limit, _number(one), _number(one_returned)),
            Bucket(two_limit, _number(two), _number(two_returned)),
        )

    def write(self, row: Row) -> None:
        """Only while locked."""
        requests, tokens = row.requests, row.tokens
        self._memory[row.at * _ROW_BYTES : (row.at + 1) * _ROW_BYTES] = row.id + _NUMBERS.pack(
            requests.full_at.to_bytes(16, "little"),
            requests.returned.to_bytes(16, "little"),
            requests.per_minute,
            tokens.full_at.to_bytes(16, "little"),
            tokens.returned.to_bytes(16, "little"),
            tokens.per_minute,
        )

    def open_requests(self, at: int) -> int:
        """How many of that row are open at all workers together. Only while locked."""
        offset = at * _OPEN.size
        return sum(_OPEN.unpack_from(self._memory, column + offset)[0] for column in self._columns)

    def count_open(self, at: int, more: int) -> None:
        """So many more are open at this worker: a row with any keeps its place. Only while locked."""
        place = self._own + at * _OPEN.size
        (known,) = _OPEN.unpack_from(self._memory, place)
        _OPEN.pack_into(self._memory, place, known + more)

    def _is_free(self, at: int, now_ns: int) -> bool:
        """Whether nothing of its limits is used, or nobody ever had it."""
        row = self.read(at)
        used = any(bucket.per_minute and bucket.reset_ns(now_ns) for bucket in (row.requests, row.tokens))
        return not used and not self.open_requests(at)

    def _id(self, scope: str, name: str) -> bytes:
        id_ = self._ids.get((scope, name))
        if id_ is None:
            text = f"{scope}\0{name}".encode()
            id_ = blake2b(text, digest_size=ID_BYTES, key=self._secret).digest()
            if len(self._ids) >= ROWS:
                self._ids.clear()
            self._ids[scope, name] = id_
        return id_


def _number(content: bytes) -> int:
    return int.from_bytes(content, "little")
