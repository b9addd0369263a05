"""The trace that a client says its request belongs to, by the W3C's Trace Context.

What is not well-formed is as if it had not been sent. Nothing of it is an attribute, and what is carried on
is of known length: two ids, a flag, and the state of other vendors' systems.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from opentelemetry.trace import SpanContext, TraceFlags, TraceState

STATE_CHARACTERS = 512
"""Of a tracestate; a longer one is not carried on. The standard asks for at least so many."""
STATE_MEMBERS = 32
_PARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_KEY = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER = re.compile(rf"({_KEY})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e])")


def parent_of(headers: Iterable[tuple[bytes, bytes]]) -> SpanContext | None:
    """The client's span; None where it tells none, several, or what is none. Names are in lower case."""
    told: dict[bytes, list[bytes]] = {b"traceparent": [], b"tracestate": []}
    for name, value in headers:
        if name in told:
            told[name].append(value)
    parents = told[b"traceparent"]
    found = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if found is None or (found[1] == b"00" and found[5] is not None):
        return None
    trace_id, span_id, flags = int(found[2], 16), int(found[3], 16), int(found[4], 16)
    if not trace_id or not span_id:
        return None
    known = TraceFlags(flags & (TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID))
    return SpanContext(trace_id, span_id, True, known, _state(told[b"tracestate"]))


def _state(values: list[bytes]) -> TraceState:
    """All of it or, where any of it is not well-formed or there is too much, nothing."""
    text = b",".join(values).decode("latin-1")
    if not text or len(text) > STATE_CHARACTERS:
        return TraceState()
    pairs: dict[str, str] = {}
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    for member in members:
        found = _MEMBER.fullmatch(member)
        if found is None or found[1] in pairs:
            return TraceState()
        pairs[found[1]] = found[2]
    return TraceState(list(pairs.items())) if len(pairs) <= STATE_MEMBERS else TraceState()
