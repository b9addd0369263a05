"""What was sent where: which replicas are likely to have the beginning of a prompt in their caches.

Each replica's part is a cache as the engine's own is one: what was used least of late goes first, and of a
prompt the end before the beginning. A set of replicas is an int with a bit for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from inference.core.routing.blocks import KIB, SIZES

ENTRIES = 256 * KIB
"""Pairs of a block and a replica, of all replicas together; some 200 bytes each."""
_SWEEP = 32
"""A part of the replica's share that goes at once, so that a sweep costs little for each."""


class PrefixIndex:
    """Of bounded memory: ``entries`` pairs of block and replica, an even share for each replica.

    A set of replicas is as long as the highest bit in it, so neighbours in a prompt, which mostly have the
    same holders, share one int.
    """

    def __init__(self, entries: int = ENTRIES) -> None:
        self._entries = entries
        self._share = entries
        self._holders: dict[int, int] = {}
        self._held: dict[int, dict[int, int]] = {}
        self._bytes: dict[int, int] = {}
        self._read: dict[int, int] = {}
        self._limits: dict[int, int] = {}
        self._bits: dict[int, int] = {}

    def __len__(self) -> int:
        """Pairs of a block and a replica."""
        return sum(len(held) for held in self._held.values())

    def read_bytes(self, replica: int) -> int:
        """Of prompts that were new to the replica, since it was noted first: how its cache turns over."""
        return self._read.get(replica, 0)

    def holders(self, key: int) -> int:
        """The replicas that have one block."""
        return self._holders.get(key, 0)

    def levels(self, keys: Sequence[int], among: int) -> list[tuple[int, int]]:
        """(blocks, replicas that have so many of the first ones), the most blocks first."""
        found: list[tuple[int, int]] = []
        get, left, depth = self._holders.get, among, 0
        for key in keys:
            still = get(key, 0) & left
            if still != left:
                if depth:
                    found.append((depth, left))
                if not still:
                    left = 0
                    break
                left = still
            depth += 1
        if depth and left:
            found.append((depth, left))
        found.reverse()
        return found

    def note(self, replica: int, keys: Sequence[int], session: int | None = None) -> None:
        """A prompt of these blocks goes to the replica now."""
        held = self._held.get(replica)
        if held is None:
            held = self._admit(replica)
        holders, bit, more = self._holders, self._bits[replica], 0
        before, after = 0, bit
        for number in range(len(keys) - 1, -1, -1):
            key = keys[number]
            size = held.pop(key, None)
            if size is None:
                size = SIZES[number]
                more += size
                others = holders.get(key, 0)
                if others is not before:
                    before, after = others, others | bit if others else bit
                holders[key] = after
            held[key] = size
        if session is not None:
            held.pop(session, None)
            held[session] = 0
            holders[session] = holders.get(session, 0) | bit
        self._bytes[replica] += more
        self._read[replica] += more
        self._trim(replica)

    def limit(self, replica: int, limit_bytes: int | None) -> None:
        """Bytes of prompts that the replica's cache holds, where that is known."""
        if limit_bytes is None:
            self._limits.pop(replica, None)
        else:
            self._limits[replica] = limit_bytes
            if replica in self._held:
                self._trim(replica)

    def forget(self, replica: int) -> None:
        """The replica's cache is empty: it is gone, or another process."""
        held = self._held.pop(replica, None)
        if held is not None:
            self._clear(replica, held)
            del self._bytes[replica], self._read[replica], self._bits[replica]
            self._share = self._entries // max(1, len(self._held))

    def _admit(self, replica: int) -> dict[int, int]:
        """A part for one more replica; the others make room for it."""
        held = self._held[replica] = {}
        self._bytes[replica] = self._read[replica] = 0
        self._bits[replica] = 1 << replica
        self._share = self._entries // len(self._held)
        for other, its in self._held.items():
            if len(its) > self._share:
                self._trim(other)
        return held

    def _trim(self, replica: int) -> None:
        held, limit = self._held[replica], self._limits.get(replica)
        while len(held) > self._share or (limit is not None and self._bytes[replica] > limit and held):
            over = max(len(held) - self._share, 1 + len(held) // _SWEEP)
            oldest = list(islice(held.items(), over))
            self._clear(replica, [key for key, _ in oldest])
            for key, size in oldest:
                del held[key]
                self._bytes[replica] -= size

    def _clear(self, replica: int, keys: Sequence[int] | dict[int, int]) -> None:
        holders, others = self._holders, ~(1 << replica)
        before = left = 0
        for key in keys:
            if holders[key] is not before:
                before = holders[key]
                left = before & others
            if left:
                holders[key] = left
            else:
                del holders[key]
