"""What a target is, and the rule that each of them holds."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar
from zlib import crc32

from common.errors import ComputilityError, openai_body

MAX_INPUT_BYTES = 64 * 1024
MAX_CPU_SECONDS = 1.0
"""Of one input of at most ``MAX_INPUT_BYTES``."""
TRIES = 3
"""An input that is slow is slow every time; a collection of garbage or a first import is not."""

_MEMORY_FOLDER = Path("/dev/shm")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Target:
    """One reader of input. ``check`` raises for an input that breaks the rule or a promise of the reader.

    ``seeds`` are inputs as they come in daily use, ``found`` those that once broke the rule by what they are,
    ``words`` what inputs are made of.
    """

    name: str
    about: str
    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[str, ...] = ()
    found: Mapping[str, bytes] = field(default_factory=dict)


class TooSlow(AssertionError):
    """An input took more CPU time than any of its size may."""


def run(target: Target, data: bytes) -> None:
    """Give the input to the target. Raises whatever is a finding."""
    for _ in range(TRIES):
        began = time.thread_time()
        target.check(data[:MAX_INPUT_BYTES])
        spent = time.thread_time() - began
        if spent <= MAX_CPU_SECONDS:
            return
    raise TooSlow(f"{target.name} took {spent:.1f} s for {len(data)} bytes")


def answer(call: Callable[[], _R], *refusals: type[ComputilityError]) -> _R | None:
    """What the call gives; None when it refuses the input with one of ``refusals``, in words that can be
    sent. Everything else that it raises is a finding."""
    try:
        return call()
    except refusals as error:
        can_be_sent(error)
        return None


def can_be_sent(error: ComputilityError) -> None:
    """Raise for an error that no answer could carry, or that says nothing."""
    json.dumps(openai_body(error), ensure_ascii=False, allow_nan=False).encode()
    assert error.message


def dice(data: bytes) -> Random:
    """Chance that depends on the input alone, so that a finding can be had again."""
    return Random(crc32(data))


def cut(data: bytes, chance: Random) -> list[bytes]:
    """The data in pieces of any size, as a network or a disk may cut it."""
    pieces, at = [], 0
    longest = chance.choice((3, 40, 4096))
    while at < len(data):
        end = at + chance.randint(1, longest)
        pieces.append(data[at:end])
        at = end
    return pieces


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that goes afterwards, in memory where that can be had."""
    where = _MEMORY_FOLDER if _MEMORY_FOLDER.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=where) as folder:
        yield Path(folder)
