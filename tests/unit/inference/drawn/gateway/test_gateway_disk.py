"""What the gateway keeps on disk, in drawn courses: segments, the journal, what is set aside, and how it
gets to control."""

import asyncio
import json
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from billing.core.events import UsageEvent
from common.errors import (
    ComputilityError,
    InvalidInput,
)
from common.settings import Settings
from inference.core.usage import TokenCounts
from inference.gateway.books import journal, shipper, spool
from inference.gateway.books.aside import read_rejected, rejected_bytes
from inference.gateway.books.journal import Journal, read_journal
from inference.gateway.books.shipper import Shipper
from inference.gateway.books.spool import Spool, event_ids, read_segment, segments
from tests.fixtures import approving as approved
from tests.unit.inference.drawn.gateway.session import Ended, Paused, Reply, Session, broken, pauses
from tests.unit.inference.drawn.worlds import Worlds, check_worlds, said

Patch = pytest.MonkeyPatch


def _event(rng: random.Random, number: int, **given: Any) -> UsageEvent:
    return UsageEvent.from_dict(
        {
            "id": f"use-{number}",
            "kind": "inference",
            "tenant": "t",
            "project": rng.choice(("p", "pé")),
            "key": "k",
            "model": "m",
            "base_model": "m",
            "model_identity": "p/m",
            "model_shared": False,
            "device_class": "d",
            "resource": "r",
            "outcome": "completed",
            "started_ms": 1_700_000_000_000,
            "ended_ms": 1_700_000_000_000 + number,
            "quantities": {"prompt_tokens": number + 1},
            "labels": {"task": "chat"},
            **given,
        }
    )


class _Disk:
    """``os`` of a disk that refuses now and then; it notes what it is asked to do with open files."""

    def __init__(self, rng: random.Random, lines: list[str]) -> None:
        self._rng, self._lines = rng, lines

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _note(self, what: str, refuses: float) -> None:
        self._lines.append(what)
        if self._rng.random() < refuses:
            raise OSError(28, "no room")

    def write(self, file: int, data: bytes) -> int:
        self._note(f"write {len(data)}", 0.1)
        return os.write(file, data[: self._rng.choice((len(data), len(data), 7))])

    def fdatasync(self, _: int) -> None:
        self._note("fdatasync", 0.1)

    def fsync(self, _: int) -> None:
        self._note("fsync", 0.05)

    def ftruncate(self, file: int, size: int) -> None:
        self._note(f"ftruncate {size}", 0.3)
        os.ftruncate(file, size)


async def _spool(rng: random.Random, patch: Patch, home: Path) -> str:
    """Events that come alone and together, on a disk that refuses some."""
    lines: list[str] = []
    kept = Spool(home / "spool", rng.choice((1, 400, 10_000)))
    patch.setattr(spool, "os", _Disk(rng, lines))
    for number in range(rng.choice((1, 6, 12))):
        kind = rng.random()
        if kind < 0.15:
            await kept.seal()
        elif kind < 0.25:
            again = Spool if rng.random() < 0.5 else None
            if again is not None:
                with pytest.raises(ComputilityError) as refused:
                    again(home / "spool")
                lines.append(str(refused.value).replace(str(home), ""))
        else:
            together = [_event(rng, 100 * number + at) for at in range(rng.choice((1, 1, 3)))]
            durable: list[str] = []
            tries = [kept.append(one, partial(durable.append, one.id)) for one in together]
            told = await asyncio.gather(*tries, return_exceptions=True)
            lines.append(f"{[one and said(one) for one in told]} {durable}")
        lines.append(f"{kept.commits} {kept._size} {kept._next} {[path.name for path in kept.sealed()]}")
    await kept.close()
    for path in segments(home / "spool"):
        lines.append(f"{path.name} {path.stat().st_mode & 0o777:o} {approved.digest(path.read_text())}")
    return "\n".join(lines)


LINES = (
    b"",
    b"{",
    b"[]",
    b'{"id": "x"}',
    b'{"id":"y","kind":"inference"}',
    b'\xff{"id":"z"}',
    b"[" * 5000,
    b"null",
    b'{"id":"w"',
)


async def _segments(rng: random.Random, _: Patch, home: Path) -> str:
    """What is read of a segment, whatever is in it."""
    path = home / f"{rng.choice(('000000000001', '7'))}.jsonl"
    whole = [json.dumps(_event(rng, at).to_dict(), separators=(",", ":")).encode() for at in range(4)]
    lines = [rng.choice((*whole, *whole, *LINES)) for _ in range(rng.choice((0, 1, 5)))]
    path.write_bytes(b"\n".join(lines) + rng.choice((b"\n", b"\n", b"", b'\n{"id":"torn')))
    for name in ("x.jsonl", "12.json", "lock", "3.jsonl"):
        (home / name).touch()
    found = read_segment(path)
    ids, names = sorted(event_ids(path)), [one.name for one in segments(home)]
    return f"{[one['id'] for one in found.events]} {found.unreadable} {ids} {names}"


async def _journal(rng: random.Random, patch: Patch, home: Path) -> str:
    """What a journal holds of requests, as they come, go on and end; and what is read of one that is torn."""
    patch.setattr(journal, "FIRST_SLOTS", 2)
    path, lines = home / "in-flight.journal", list[str]()
    kept, open_ = Journal(path, rng.choice((1, 2))), list[journal.Entry]()
    for number in range(rng.choice((1, 6, 14))):
        kind = rng.random()
        if kind < 0.45 or not open_:
            long = rng.choice(("m", "m", "m" * 4000))
            try:
                open_.append(kept.open(_event(rng, number, model=long)))
            except InvalidInput as error:
                lines.append(str(error))
        elif kind < 0.8:
            counts = TokenCounts(rng.choice((3, 2**64, 7)), rng.choice((0, 2, 9)), rng.choice((1, 5)))
            rng.choice(open_).note(counts, 1_700_000_000_000 + rng.choice((-5, 0, 9)))
        elif kind < 0.9:
            rng.choice(open_).sync()
        else:
            open_.pop(rng.randrange(len(open_))).free()
        found = read_journal(path)
        told = [one.to_dict() for one in found.events]
        lines.append(f"{kept.slots} {sorted(kept._free)} {found.torn} {found.odd} {told}")
    content = bytearray(path.read_bytes())
    for _number in range(rng.choice((0, 1, 8))):
        at = rng.choice((0, 1, 4, 16, 24, 56, 60, 64, 72, 104, 112, 130)) + rng.choice((0, 4096))
        if at < len(content):
            content[at] ^= rng.choice((1, 255))
    torn = home / "torn"
    torn.write_bytes(content[: len(content) - rng.choice((0, 1, 4096))])
    lines.append(str(read_journal(torn)))
    kept.close()
    kept.close()
    lines.append(f"{path.exists()} {read_journal(home / 'none')}")
    return "\n".join(lines)


def _control(rng: random.Random) -> Callable[..., Reply | BaseException]:
    """Takes events, refuses some, or a whole batch, or is away."""
    bad = {f"use-{number}" for number in range(20) if rng.random() < 0.2}

    def draw(_: str, __: str, options: dict[str, Any]) -> Reply | BaseException:
        events = options["json"]["events"]
        kind = rng.random()
        if kind < 0.06:
            return broken(rng)
        if kind < 0.12:
            return Reply(rng.choice((401, 500, 503)))
        refused = [at for at, one in enumerate(events) if one["id"] in bad]
        if refused and kind < 0.5:
            return Reply(rng.choice((400, 413, 422)), [b"words " * 100])
        told = [{"index": at, "message": f"not {at}"} for at in refused]
        content = {"rejected": told} if rng.random() < 0.9 or told else {}
        return Reply(200, [json.dumps(content).encode()])

    return draw


async def _shipping(rng: random.Random, patch: Patch, home: Path) -> str:
    """Segments of this gateway and of dead ones are brought to control, and what was set aside again."""
    lines: list[str] = []
    patch.setattr(shipper, "BATCH_EVENTS", rng.choice((2, 3, 500)))
    patch.setattr(shipper, "asyncio", Paused(pauses(lines, rng.choice((1, 3, 6)))))
    root, number = home / "spools", 0
    for name in rng.sample(("gateway-2", "gateway-3"), rng.choice((0, 1, 2))):
        left = Spool(root / name)
        for _ in range(rng.choice((0, 1, 3))):
            await left.append(_event(rng, number := number + 1))
        await left.close()
        if rng.random() < 0.3:
            (root / name / "rejected.ndjson").write_text(
                json.dumps({"event": _event(rng, number := number + 1).to_dict(), "reason": "x"}) + "\n{\n"
            )
    own, session = Spool(root / "gateway-1"), Session(_control(rng))
    (root / "routes.json").touch()
    alive = Spool(root / "gateway-9")
    asked: Any = session
    shipping = Shipper(Settings(internal_token="i"), asked, own)
    for _ in range(rng.choice((0, 2, 5))):
        await own.append(_event(rng, number := number + 1))
    if rng.random() < 0.3:
        (own.folder / "000000000000.jsonl").write_bytes(b"{\n")
    with pytest.raises(Ended):
        await shipping.run()
    for folder in sorted(root.iterdir()):
        if folder.is_dir():
            aside = [(line.text, line.event and line.event.id) for line in read_rejected(folder)]
            lines.append(f"{folder.name} {[path.name for path in segments(folder)]} {aside}")
    lines.append(str(rejected_bytes(root)))
    await own.close()
    await alive.close()
    return "\n".join([*lines, *session.asked])


WORLDS: Worlds = {
    "spools": (_spool, 60, 1),
    "segments": (_segments, 80, 2),
    "journals": (_journal, 80, 1),
    "shipping": (_shipping, 60, 1),
}


@pytest.mark.parametrize("name", WORLDS)
async def test_what_the_gateway_keeps_is_what_was_approved(name: str, tmp_path: Path) -> None:
    await check_worlds(Path(__file__), name, WORLDS, tmp_path)
