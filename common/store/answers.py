"""Answers to writes that carry an Idempotency-Key, kept in the transaction of the write: a death in between
neither doubles the write nor loses its answer.

The edge of the API sets the claim of a request; whoever makes the write that decides the request hands the
store a function that makes the answer from what was written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Replay:
    """The answer that an Idempotency-Key got before."""

    status: int
    body: str


@dataclass
class Claim:
    """An Idempotency-Key in use. ``tenant`` (a uid) and ``scope`` are whose it is; ``digest`` is what it came
    with; ``kept`` is set when its answer is stored."""

    tenant: str
    scope: str
    key: str
    digest: str
    kept: bool = False


Answer = Callable[[Sequence[Any]], Replay]
"""Makes the answer to a request from what its writes did (``common.store.port.Applied``), in the order
given."""

_claim: ContextVar[Claim | None] = ContextVar("claim", default=None)


def json_answer(content: object, status: int = 200) -> Replay:
    """An answer in JSON."""
    return Replay(status, json.dumps(content, ensure_ascii=False, separators=(",", ":")))


def current_claim() -> Claim | None:
    """The claim of the request that is being served, unless it is answered already; None without one."""
    claim = _claim.get()
    return None if claim is None or claim.kept else claim


@contextmanager
def claimed(claim: Claim) -> Iterator[None]:
    """Within it, the store keeps the answer to ``claim`` together with the write that decides it."""
    token = _claim.set(claim)
    try:
        yield
    finally:
        _claim.reset(token)
