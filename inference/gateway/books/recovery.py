"""Requests that were cut off with their gateway, billed by the next one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from common.telemetry import get_logger
from inference.gateway import metrics
from inference.gateway.books.aside import keep_rejected
from inference.gateway.books.journal import JOURNAL_FILE, Left, read_journal
from inference.gateway.books.spool import Spool, event_ids, read_segment, segments

_log = get_logger("gateway.recovery")


def is_left(folder: Path) -> bool:
    """Whether a spool folder holds anything to be billed, once its gateway is dead."""
    return bool(segments(folder)) or (folder / JOURNAL_FILE).exists()


async def recover(spool: Spool) -> None:
    """Put what the journal of the spool's former gateway holds into the spool, each event once.

    To be called before anything of the spool is shipped: an event that was spooled before its slot was freed
    is known by its id in a segment. Safe to repeat after a death at any point. Raises ``Unavailable`` when
    the disk refuses; the journal stays. What is whole but no event is set aside with its reason.
    """
    path = spool.folder / JOURNAL_FILE
    if not path.exists():
        return
    left, known = await asyncio.to_thread(_read, spool)
    lost = [event for event in left.events if event.id not in known]
    await asyncio.gather(*(spool.append(event) for event in lost))
    if left.odd:
        await asyncio.to_thread(keep_rejected, spool.folder, left.odd)
    path.unlink()
    for event in lost:
        metrics.count_billed(event)
    metrics.JOURNAL_TORN.inc(left.torn)
    metrics.USAGE_SET_ASIDE.inc(len(left.odd))
    if lost or left.torn or left.odd:
        _log.warning(
            "requests were cut off with their gateway",
            folder=str(spool.folder),
            billed=len(lost),
            torn=left.torn,
            set_aside=len(left.odd),
        )


def _read(spool: Spool) -> tuple[Left, set[str]]:
    """What the journal holds, and the ids of those of its events that are whole in a segment."""
    left = read_journal(spool.folder / JOURNAL_FILE)
    wanted, known = {event.id for event in left.events}, set[str]()
    for path in spool.sealed() if wanted else ():
        if not wanted.isdisjoint(event_ids(path)):
            known |= {event["id"] for event in read_segment(path).events}
    return left, known
