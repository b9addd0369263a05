"""How control asks a gateway for the answer to a line of a batch, and knows that it was understood.

Control has no secrets of API keys, only their digests: a line names the digest of the key whose request it
is, and is signed with the instance's internal token. Nobody else can make one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from common.errors import Unauthenticated

LINE_HEADER = "computility-batch-line"
"""Of a request: a signed line. Of its answer, whatever that is: the id of the line."""
USAGE_HEADER = "computility-usage"
"""Of an answer to a line: the usage events that are to be billed with it, a JSON list; none where nothing was
used. More than one model may have had a part in an answer."""
_USAGE = USAGE_HEADER.encode()
BATCH_TIER = "batch"
"""The service tier of its usage events: prices name it."""
VALID_MS = 3_600_000
_PURPOSE = b"computility batch line"


@dataclass(frozen=True)
class LineTold:
    """A line: ``id`` is that of its first usage event, the same whenever it is asked for. ``digest``: of the
    key whose request it is."""

    id: str
    digest: str


def signed_line(internal_token: str, line: LineTold, now_ms: int) -> str:
    """The value of ``LINE_HEADER``, which is good for an hour."""
    said = f"{line.id} {line.digest} {now_ms + VALID_MS}"
    return f"{said} {_mark(internal_token, said)}"


def line_told(internal_token: str, value: str, now_ms: int) -> LineTold:
    """The line of that value. Raises ``Unauthenticated`` where it is not signed, or too old."""
    said, _, mark = value.rpartition(" ")
    parts = said.split(" ")
    is_signed = bool(internal_token) and hmac.compare_digest(
        _mark(internal_token, said).encode(), mark.encode()
    )
    if not is_signed or len(parts) != 3 or int(parts[2]) < now_ms:
        raise Unauthenticated(f"{LINE_HEADER}: lines of batches are asked for by the platform itself alone")
    return LineTold(parts[0], parts[1])


def told_id(line: LineTold, head: Mapping[bytes, bytes]) -> str:
    """The id of the next usage event of a line, of whose answer these headers are told by now."""
    number = len(json.loads(head.get(_USAGE, b"[]"))) + 1
    return event_id(line.id, number)


def event_id(line_id: str, number: int) -> str:
    """Of the usage event of a line with that number, from 1."""
    return line_id if number == 1 else f"{line_id}-{number}"


def tell_usage(head: MutableMapping[bytes, bytes], event: str) -> None:
    """Add a usage event, as JSON in ASCII, to the headers of a line's answer."""
    before = head.get(_USAGE)
    head[_USAGE] = b"[%b]" % event.encode() if before is None else b"%b,%b]" % (before[:-1], event.encode())


def _mark(internal_token: str, said: str) -> str:
    key = hmac.new(internal_token.encode(), _PURPOSE, hashlib.sha256).digest()
    return hmac.new(key, said.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
