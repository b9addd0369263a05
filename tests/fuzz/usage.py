"""Usage on its way to the bill: events, what a gateway left on its disk, and what was set aside."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

from billing.core.events import UsageEvent
from common.errors import InvalidInput
from common.strict_json import parse_json
from inference.core.usage import TokenCounts
from inference.gateway import metrics
from inference.gateway.books.aside import REJECTED_FILE, keep_rejected, read_rejected, take_out
from inference.gateway.books.journal import JOURNAL_FILE, SLOT_BYTES, Journal, read_journal
from inference.gateway.books.recovery import recover
from inference.gateway.books.spool import Spool, event_ids, read_segment
from tests.fuzz.target import Target, answer, scratch

_EVENT: dict[str, Any] = {
    "id": "ue-01J8ZK6Y3V5WQ7",
    "kind": "inference",
    "tenant": "acme",
    "project": "search",
    "key": "k1",
    "model": "ft:tiny:acme:x:1",
    "base_model": "tiny",
    "model_identity": "lab/tiny",
    "model_shared": True,
    "device_class": "nvidia/H100",
    "resource": "Endpoint/search/tiny",
    "outcome": "completed",
    "labels": {"region": "a"},
    "started_ms": 1_700_000_000_000,
    "ended_ms": 1_700_000_000_900,
    "quantities": {"prompt_tokens": 9, "cached_tokens": 4, "completion_tokens": 3},
}
_LINE = json.dumps(_EVENT, separators=(",", ":")).encode()
_WORDS = (*_EVENT, "trained_tokens", "device_seconds", "training", "device", "reason", "event")
_SEGMENT = "000000000001.jsonl"
_HEAD = struct.Struct("<II")


def check_event(raw: bytes) -> None:
    """JSON becomes an event that is the same after another journey, or is refused with the field's name."""
    parsed = answer(lambda: (parse_json(raw),), InvalidInput)
    if parsed is None or not isinstance(parsed[0], Mapping):
        return
    content = parsed[0]
    event = answer(lambda: UsageEvent.from_dict(content), InvalidInput)
    if event is None:
        return
    again = UsageEvent.from_dict(json.loads(json.dumps(event.to_dict())))
    assert again == event
    assert again.digest() == event.digest()


def check_segment(raw: bytes) -> None:
    """Each whole line of a segment is an event or is kept with its reason."""
    with scratch() as folder:
        path = folder / _SEGMENT
        path.write_bytes(raw)
        segment = read_segment(path)
        assert len(segment.events) + len(segment.unreadable) == raw.count(b"\n")
        assert all(reason for _, reason in segment.unreadable)
        event_ids(path)
        json.dumps(segment.unreadable, ensure_ascii=False)


def check_recovery(data: bytes) -> None:
    """A gateway starts whatever its predecessor left. The journal's slots are the lines before the first
    empty one, each with the checksums that the journal would give it; what follows is a segment."""
    slots, _, segment = data.partition(b"\n\n")
    with scratch() as folder:
        _leave(folder, slots, segment)
        left = read_journal(folder / JOURNAL_FILE)
        asyncio.run(_recover(folder))
        assert not (folder / JOURNAL_FILE).exists()
        written = [event for path in sorted(folder.glob("*.jsonl")) for event in read_segment(path).events]
        assert {event.id for event in left.events} <= {event["id"] for event in written}
    for counted in (metrics.OUTCOMES, metrics.TOKENS):
        counted.clear()


async def _recover(folder: Path) -> None:
    spool = Spool(folder)
    try:
        await recover(spool)
    finally:
        await spool.close()


def _leave(folder: Path, slots: bytes, segment: bytes) -> None:
    """The files of a dead gateway: a slot for each line; those that begin with ``!`` are as they stand."""
    (folder / _SEGMENT).write_bytes(segment)
    journal = Journal(folder / JOURNAL_FILE, slots=1)
    lines = slots.split(b"\n")[:8]
    for line in lines:
        if line.startswith(b"!"):
            continue
        skeleton = line[: SLOT_BYTES - 112]
        entry = journal.open(UsageEvent(**_EVENT))
        _overwrite(journal, entry, skeleton)
    journal.close()
    raw = [line[1 : 1 + SLOT_BYTES].ljust(SLOT_BYTES, b"\0") for line in lines if line.startswith(b"!")]
    with (folder / JOURNAL_FILE).open("ab") as file:
        file.write(b"".join(raw))


def _overwrite(journal: Journal, entry: Any, skeleton: bytes) -> None:
    """Give the entry another event than the journal would take; its numbers follow from it."""
    checksum = crc32(skeleton)
    entry._checksum, entry._head = checksum, _HEAD.pack(len(skeleton), checksum)
    journal.write(entry._start + 112, skeleton)
    numbers = [checksum, checksum >> 3, (1 << 64) - 1, 7][checksum % 4]
    entry.note(TokenCounts(numbers, min(numbers, 3), checksum % 97), numbers % 10**15)


def check_aside(raw: bytes) -> None:
    """What people have mended, or spoilt, is read, tried again and kept."""
    with scratch() as folder:
        (folder / REJECTED_FILE).write_bytes(raw)
        lines = read_rejected(folder)
        keep_rejected(
            folder, [(line.event.to_dict() if line.event else line.text, "again") for line in lines]
        )
        take_out(folder, {line.text for line in lines if line.event})
        if lines:
            assert len(read_rejected(folder)) >= len([line for line in lines if not line.event])


TARGETS = (
    Target("usage-event", "usage events as JSON", check_event, (_LINE,), _WORDS),
    Target(
        "spool-segment",
        "segments of a gateway's spool",
        check_segment,
        (_LINE + b"\n", _LINE + b"\n" + _LINE[:50] + b"\n\n" + _LINE[:40]),
        _WORDS,
        {"an id that is no text": b'{"id":"\xff"}\n'},
    ),
    Target(
        "recovery",
        "the journal and the spool that a dead gateway left",
        check_recovery,
        (_LINE + b"\n\n" + _LINE + b"\n", _LINE + b"\n!odd\n" + _LINE + b"\n\n", b"!\n\n" + _LINE),
        _WORDS,
        {
            "an event of deep lists": b"[" * 3000 + b"\n\n",
            "the same event in the segment, but spoilt": _LINE + b"\n\n" + _LINE[:-1] + b"!}\n",
            "an id in the segment that is no text": _LINE + b'\n\n{"id":"\xff"}\n',
        },
    ),
    Target(
        "set-aside",
        "the file of usage that was set aside",
        check_aside,
        (
            b'{"reason":"unknown","event":' + _LINE + b"}\n",
            json.dumps({"reason": "unreadable", "event": _LINE.decode()}).encode() + b"\n\nno JSON\n",
        ),
        _WORDS,
    ),
)
