"""A prompt as a chain of blocks: prompts that begin alike have the same first keys.

A block's key stands for the block and all that comes before it. Blocks get longer with the distance from the
beginning, so that a long prompt has few of them and a short one still is told apart.
"""

from __future__ import annotations

from hashlib import blake2b

from common.units import MIB

KIB = 1024
KEY_BYTES = 8
_STEPS = ((4 * KIB, 256), (16 * KIB, KIB), (MIB, 4 * KIB))
"""Up to where, and how long blocks are until there. What is beyond the last one tells no replicas apart."""


def _ends() -> tuple[int, ...]:
    ends, at = [], 0
    for until, size in _STEPS:
        while at < until:
            at += size
            ends.append(at)
    return tuple(ends)


ENDS = _ends()
"""Where each block ends, in bytes from the beginning."""
SIZES = tuple(end - start for start, end in zip((0, *ENDS), ENDS, strict=False))


def partition(secret: bytes, *names: str) -> bytes:
    """The beginning of all chains of a tenant and a model: nobody meets the keys of another."""
    joined = b"".join(len(name.encode()).to_bytes(4, "big") + name.encode() for name in names)
    return blake2b(joined, digest_size=KEY_BYTES, key=secret).digest()


def block_keys(prompt: memoryview, start: bytes) -> tuple[int, ...]:
    """The keys of all whole blocks, from the first on; the rest of the prompt has none."""
    keys, at, state, size = [], 0, start, len(prompt)
    for end in ENDS:
        if end > size:
            break
        state = blake2b(prompt[at:end], digest_size=KEY_BYTES, salt=state).digest()
        keys.append(int.from_bytes(state))
        at = end
    return tuple(keys)


def session_key(name: str, start: bytes) -> int:
    """The key of a session that a client names; no block has it."""
    return int.from_bytes(
        blake2b(name.encode(), digest_size=KEY_BYTES, salt=start, person=b"session").digest()
    )
