"""The journal: whatever a client was sent before its gateway died is billed by the next one, once."""

import asyncio
import contextlib
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.core.events import UsageEvent
from common.errors import InvalidInput, Unavailable
from inference.core.usage import TokenCounts
from inference.gateway.books.journal import JOURNAL_FILE, SLOT_BYTES, Entry, Journal, read_journal
from inference.gateway.books.recovery import recover
from inference.gateway.books.spool import Spool, read_segment, segments


def begun(number: int, **changes: Any) -> UsageEvent:
    event = UsageEvent(
        id=f"use-{number:04d}",
        kind="inference",
        tenant="acme",
        project="bots",
        started_ms=1000,
        ended_ms=1000,
        quantities={},
        labels={"task": "chat", "request_id": "ü-1"},
        key="alice",
        model="tiny",
        base_model="tiny",
        device_class="cpu/any",
        resource="r0",
    )
    return replace(event, **changes)


def lost(number: int, counts: TokenCounts, ended_ms: int) -> UsageEvent:
    return begun(number, outcome="gateway_lost", quantities=counts.quantities(), ended_ms=ended_ms)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Never closed before it is read: as a killed process leaves it."""
    journal = Journal(tmp_path / JOURNAL_FILE, slots=2)
    yield journal
    journal.close()


async def recovered(folder: Path) -> list[UsageEvent]:
    """What the next gateway finds in its spool, in the order of ids."""
    spool = Spool(folder)
    await recover(spool)
    await spool.close()
    assert not (folder / JOURNAL_FILE).exists()
    events = [UsageEvent.from_dict(event) for path in segments(folder) for event in read_segment(path).events]
    return sorted(events, key=lambda event: event.id)


async def test_what_was_noted_is_billed_with_its_last_counts(journal: Journal, tmp_path: Path) -> None:
    entry = journal.open(begun(1))
    entry.note(TokenCounts(5, 0, 1), 1010)
    entry.note(TokenCounts(5, 2, 2), 1020)
    assert await recovered(tmp_path) == [lost(1, TokenCounts(5, 2, 2), 1020)]
    assert await recovered(tmp_path) == [lost(1, TokenCounts(5, 2, 2), 1020)], "once, however often"


async def test_a_slot_without_counts_and_a_freed_one_are_nothing(journal: Journal, tmp_path: Path) -> None:
    journal.open(begun(1))
    entry = journal.open(begun(2))
    entry.note(TokenCounts(5, 0, 1), 1010)
    entry.free()
    assert await recovered(tmp_path) == []


async def test_a_request_takes_nothing_over_from_the_one_before_in_its_slot(
    journal: Journal, tmp_path: Path
) -> None:
    long = journal.open(begun(1, model="m" * 300))
    for tokens in range(1, 9):
        long.note(TokenCounts(90, 9, tokens), 1010)
    long.free()
    again = journal.open(begun(2))
    again.note(TokenCounts(5, 0, 1), 1030)
    assert journal.slots == 2
    assert await recovered(tmp_path) == [lost(2, TokenCounts(5, 0, 1), 1030)]


async def test_it_grows_under_open_requests_and_keeps_them_all(journal: Journal, tmp_path: Path) -> None:
    entries = [journal.open(begun(n)) for n in range(9)]
    for n, entry in enumerate(entries):
        entry.note(TokenCounts(5, 0, n + 1), 1010)
    assert journal.slots == 16
    for entry in entries[:4]:
        entry.free()
    for n in range(9, 20):
        journal.open(begun(n)).note(TokenCounts(5, 0, n + 1), 1010)
    assert journal.slots == 16, "freed slots are used again"
    assert await recovered(tmp_path) == [lost(n, TokenCounts(5, 0, n + 1), 1010) for n in range(4, 20)]


@pytest.mark.parametrize("at", [1, 5, 115, 200])
async def test_a_torn_slot_is_left_out_and_counted(journal: Journal, tmp_path: Path, at: int) -> None:
    for n in (1, 2):
        journal.open(begun(n)).note(TokenCounts(5, 0, 1), 1010)
    path = tmp_path / JOURNAL_FILE
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    path.write_bytes(content)
    left = read_journal(path)
    assert ([event.id for event in left.events], left.torn) == (["use-0002"], 1)
    assert [event.id for event in await recovered(tmp_path)] == ["use-0002"]


async def test_a_torn_count_leaves_the_one_before(journal: Journal, tmp_path: Path) -> None:
    entry = journal.open(begun(1))
    entry.note(TokenCounts(5, 0, 1), 1010)
    entry.note(TokenCounts(5, 0, 2), 1020)
    path = tmp_path / JOURNAL_FILE
    content = bytearray(path.read_bytes())
    content[16 + 24] ^= 0x01
    path.write_bytes(content)
    assert await recovered(tmp_path) == [lost(1, TokenCounts(5, 0, 1), 1010)]


async def test_an_event_spooled_before_its_slot_was_freed_is_billed_as_it_was_spooled(
    journal: Journal, tmp_path: Path
) -> None:
    journal.open(begun(1)).note(TokenCounts(5, 0, 3), 1010)
    journal.open(begun(2)).note(TokenCounts(5, 0, 1), 1010)
    spool = Spool(tmp_path)
    ended = begun(1, quantities={"prompt_tokens": 5, "completion_tokens": 3}, ended_ms=1011)
    await spool.append(ended)
    await spool.close()
    assert await recovered(tmp_path) == [ended, lost(2, TokenCounts(5, 0, 1), 1010)]


async def test_a_torn_line_in_the_spool_is_no_spooled_event(journal: Journal, tmp_path: Path) -> None:
    journal.open(begun(1)).note(TokenCounts(5, 0, 3), 1010)
    line = json.dumps(begun(1).to_dict(), separators=(",", ":"))
    (tmp_path / "000000000001.jsonl").write_text(line)
    assert await recovered(tmp_path) == [lost(1, TokenCounts(5, 0, 3), 1010)]


async def test_a_slot_is_freed_also_when_nobody_waits_for_the_spool(journal: Journal, tmp_path: Path) -> None:
    entry = journal.open(begun(1))
    entry.note(TokenCounts(5, 0, 3), 1010)
    spool = Spool(tmp_path)
    waiting = asyncio.create_task(spool.append(begun(1, quantities={"prompt_tokens": 5}), entry.free))
    await asyncio.sleep(0)
    waiting.cancel()
    await spool.close()
    assert read_journal(tmp_path / JOURNAL_FILE).events == []
    assert [event.id for event in await recovered(tmp_path)] == ["use-0001"]


async def test_a_disk_that_refuses_keeps_the_slot_and_the_journal(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = journal.open(begun(1))
    entry.note(TokenCounts(5, 0, 3), 1010)
    with monkeypatch.context() as broken:
        broken.setattr("os.fdatasync", _refuse)
        spool = Spool(tmp_path)
        with pytest.raises(Unavailable):
            await spool.append(begun(1, quantities={"prompt_tokens": 5}), entry.free)
        with pytest.raises(Unavailable):
            await recover(spool)
        await spool.close()
    journal.close()
    assert await recovered(tmp_path) == [lost(1, TokenCounts(5, 0, 3), 1010)]


def _refuse(handle: int) -> None:
    raise OSError("no space left")


def test_names_too_long_for_a_slot_make_no_event(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="at most 3500 bytes"):
        journal.open(begun(1, model="m" * SLOT_BYTES))
    journal.close()
    assert not (tmp_path / JOURNAL_FILE).exists(), "an ordered end leaves nothing"


# Death at any byte


class Killed(BaseException):
    """The process is dead: nothing below may be tidied up by it."""


@dataclass
class Fate:
    """Allows so many more bytes to be written, then kills: in the middle of what is being written."""

    bytes_left: int

    def cut(self, write: Callable[[bytes], object], data: bytes) -> None:
        part = data[: self.bytes_left]
        self.bytes_left -= len(part)
        write(part)
        if len(part) < len(data):
            raise Killed


class MortalJournal(Journal):
    def __init__(self, path: Path, fate: Fate) -> None:
        super().__init__(path, slots=1)
        self._fate = fate

    def write(self, at: int, data: bytes) -> None:
        write = super().write
        self._fate.cut(lambda part: write(at, part), data)


class MortalSpool:
    """A segment, as the spool writes it."""

    def __init__(self, folder: Path, fate: Fate) -> None:
        self._fate, self._file = fate, (folder / "000000000001.jsonl").open("ab", buffering=0)

    def append(self, event: UsageEvent) -> None:
        self._fate.cut(self._file.write, json.dumps(event.to_dict(), separators=(",", ":")).encode() + b"\n")


@dataclass
class World:
    """What clients have seen, and what was noted for them, by request."""

    sent: dict[str, int] = field(default_factory=dict)
    noted: dict[str, int] = field(default_factory=dict)
    spooled: set[str] = field(default_factory=set)


def live(folder: Path, fate: Fate, seed: int, world: World) -> None:
    """A gateway's life: requests begin, stream and end in any order, until it is killed."""
    journal, spool, chance = (
        MortalJournal(folder / JOURNAL_FILE, fate),
        MortalSpool(folder, fate),
        random.Random(seed),
    )
    running: dict[str, tuple[UsageEvent, Entry]] = {}
    for number in range(200):
        step = chance.random()
        if step < 0.2 or not running:
            event = begun(number)
            running[event.id] = (event, journal.open(event))
            continue
        id_ = chance.choice(sorted(running))
        event, entry = running[id_]
        if step < 0.85 or id_ not in world.sent:
            world.noted[id_] = world.noted.get(id_, 0) + chance.randint(1, 300)
            entry.note(TokenCounts(7, 0, world.noted[id_]), 1000 + number)
            world.sent[id_] = world.noted[id_]
        else:
            del running[id_]
            counts = TokenCounts(7, 0, world.sent[id_])
            spool.append(replace(event, quantities=counts.quantities()))
            world.spooled.add(id_)
            entry.free()


async def die_recovering(folder: Path, appends: int) -> None:
    """A next gateway that dies when it has spooled so many events, one of them in part."""
    spool = Spool(folder)
    write = spool._write

    def mortal(lines: bytes) -> None:
        whole = lines.splitlines(keepends=True)
        write(b"".join(whole[:appends]) + b"".join(whole[appends : appends + 1])[:40])
        raise OSError("dead")

    spool._write = mortal  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path: None)
        with contextlib.suppress(Unavailable):
            await recover(spool)
    await spool.close()


@settings(max_examples=80, deadline=None)
@given(killed_after_bytes=st.integers(0, 20_000), seed=st.integers(0, 2**32), appends=st.integers(0, 5))
def test_whenever_it_is_killed_what_was_sent_is_billed_once(
    killed_after_bytes: int, seed: int, appends: int
) -> None:
    world = World()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with contextlib.suppress(Killed):
            live(folder, Fate(killed_after_bytes), seed, world)
        asyncio.run(die_recovering(folder, appends))
        events = asyncio.run(recovered(folder))
    assert len({event.id for event in events}) == len(events)
    billed = {event.id: event.quantity("completion_tokens") for event in events}
    assert set(world.sent) <= set(billed) <= set(world.noted)
    for id_, tokens in billed.items():
        assert tokens in (world.sent.get(id_), world.noted[id_])
    assert world.spooled <= {event.id for event in events if event.outcome == "completed"}


@pytest.mark.parametrize("cut", [1, 100, SLOT_BYTES - 1, SLOT_BYTES])
def test_a_journal_that_was_cut_short_gives_what_is_whole(journal: Journal, tmp_path: Path, cut: int) -> None:
    for number in (0, 1):
        journal.open(begun(number)).note(TokenCounts(5, 2, 3), 9)
    path = tmp_path / JOURNAL_FILE
    whole = path.read_bytes()
    first = read_journal(path).events[0]
    path.write_bytes(whole[:-cut])
    found = read_journal(path)
    assert (found.events, found.torn, found.odd) == ([first], 0, [])
