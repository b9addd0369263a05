"""Nothing is served that could not be billed, and what is odd at the end is kept, not dropped."""

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.core.events import MAX_QUANTITY, UsageEvent
from billing.core.tags import MAX_TAGS
from common.clock import VirtualClock
from common.errors import Forbidden, InvalidInput, Unavailable
from common.settings import GatewaySettings
from common.vocabulary import (
    ADAPTER_NAME_BYTES,
    EVENT_BYTES,
    LONG_NAME_CHARACTERS,
    MAX_TIME_MS,
    NAME_CHARACTERS,
    SERVED_NAME_CHARACTERS,
)
from common.wire import Route, RouteKey, RouteReplica
from inference.core.body import parse_request
from inference.core.usage import TokenCounts
from inference.gateway.admission import KeyLoad, Ticket
from inference.gateway.books.aside import REJECTED_FILE, keep_rejected, read_rejected, take_out
from inference.gateway.books.bill import NOT_BILLABLE, Bill, Books, Job
from inference.gateway.books.journal import JOURNAL_FILE, Journal, read_journal
from inference.gateway.books.recovery import recover
from inference.gateway.books.spool import Spool, read_segment, segments
from inference.gateway.exchange import Exchange

NAME = "n" * NAME_CHARACTERS
WIDEST = "\U00020000"
"""Four bytes in UTF-8, as no character takes more."""


@dataclass
class World:
    """The books of one gateway, as a killed process leaves them."""

    folder: Path
    books: Books

    def bill(
        self,
        *,
        stream: bool = True,
        key: str = "alice",
        request_id: str = "r",
        said: Mapping[str, Any] = MappingProxyType({}),
        **route: Any,
    ) -> Bill:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream, **said}
        headers = [(b"x-request-id", request_id.encode())]
        exchange = Exchange({"method": "POST", "path": "/", "headers": headers}, _never, _never)
        names = {"model": "tiny", "base_model": "tiny", "project": NAME, "tenant": NAME, **route}
        wire_key = RouteKey(digest="d", name=key, role="agent", tenant=NAME, project=NAME)
        return Bill(
            self.books,
            Job(
                exchange=exchange,
                ticket=Ticket(wire_key, KeyLoad(), GatewaySettings()),
                request=parse_request("chat", json.dumps(body).encode()),
                principal=wire_key.principal,
                route=Route(backend_model="m", **names),
                tenant=names["tenant"],
                project=names["project"],
                started_ms=self.books.clock.now_ms(),
                started_seconds=0.0,
            ),
        )

    def spooled(self) -> list[dict[str, Any]]:
        return [event for path in segments(self.folder) for event in read_segment(path).events]


async def _never(*args: Any) -> Any:
    raise AssertionError("nobody listens")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    spool, journal = Spool(tmp_path), Journal(tmp_path / JOURNAL_FILE, slots=2)
    yield World(tmp_path, Books(spool, journal, VirtualClock()))
    await spool.close()
    journal.close()


def replica(**changes: Any) -> RouteReplica:
    whole = RouteReplica(id="r0", url="http://r0", device_class="cpu/any", model_identity=f"{NAME}/tiny")
    return whole.model_copy(update=changes)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "odd", [{"key": "free\n"}, {"model": "ti\tny"}, {"model": "x" * 3600}, {"project": ""}], ids=str
)
async def test_a_request_that_could_not_be_billed_is_refused_before_an_engine_is_asked(
    world: World, stream: bool, odd: dict[str, Any]
) -> None:
    bill = world.bill(stream=stream, **odd)
    with pytest.raises(Forbidden, match="could not be billed, so it is not served") as refused:
        bill.begin(replica())
    assert refused.value.code == NOT_BILLABLE


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_that_the_journal_cannot_take_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(world.books.journal, "open", full)
    with pytest.raises(Unavailable, match="usage cannot be recorded"):
        world.bill(stream=stream).begin(replica())


async def test_the_longest_names_fit_the_journal_and_are_billed_after_a_kill(world: World) -> None:
    bill = world.bill(
        key=NAME,
        request_id="r" * 128,
        model=WIDEST * (ADAPTER_NAME_BYTES // 4),
        base_model=WIDEST * SERVED_NAME_CHARACTERS,
        said={"user": WIDEST * 50, "metadata": {f"n{n:02}": "v" * 32 for n in range(MAX_TAGS)}},
    )
    bill.begin(
        replica(
            endpoint=f"{NAME}/{NAME}",
            id="w" * LONG_NAME_CHARACTERS,
            device_class=f"nvidia/{WIDEST * (SERVED_NAME_CHARACTERS - 7)}",
            model_identity=f"{NAME}/{NAME}",
        )
    )
    bill.note(TokenCounts(9, 3, 5))
    [event] = read_journal(world.folder / JOURNAL_FILE).events
    assert event.quantities == {"prompt_tokens": 9, "cached_tokens": 3, "completion_tokens": 5}
    assert (event.key, event.outcome, event.resource) == (NAME, "gateway_lost", "w" * LONG_NAME_CHARACTERS)
    assert (len(event.tags), event.user, event.endpoint) == (MAX_TAGS, WIDEST * 50, f"{NAME}/{NAME}")


@settings(max_examples=60)
@given(
    names=st.fixed_dictionaries(
        {name: st.text(max_size=500) for name in ("key", "model", "base_model", "device_class", "resource")}
    ),
    label=st.text(max_size=200),
    user=st.text(max_size=300),
    tags=st.dictionaries(st.text(max_size=70), st.text(max_size=200), max_size=MAX_TAGS),
)
def test_an_event_that_can_be_made_fits_a_slot(
    tmp_path_factory: pytest.TempPathFactory,
    names: dict[str, str],
    label: str,
    user: str,
    tags: dict[str, str],
) -> None:
    try:
        event = UsageEvent(
            id="use-1",
            kind="inference",
            tenant=NAME,
            project=NAME,
            started_ms=1,
            ended_ms=1,
            quantities={},
            labels={"request_id": label},
            user=user,
            tags=tags,
            **names,  # type: ignore[arg-type]
        )
    except InvalidInput:
        return
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder / JOURNAL_FILE, slots=1)
    journal.open(event).note(TokenCounts(1, 0, 1), 1)
    [found] = read_journal(folder / JOURNAL_FILE).events
    assert replace(found, outcome=event.outcome, quantities={}) == event
    journal.close()


def test_the_longest_event_with_the_most_members_fits_a_slot(tmp_path: Path) -> None:
    tags = {f"{n:02}": '"' * 10 for n in range(MAX_TAGS)}
    event = UsageEvent("use-1", "inference", "t", "p", MAX_TIME_MS, MAX_TIME_MS, {}, endpoint="e", user="u")
    labels = {"task": "completions", "request_id": "r" * 128, "choices": "64", "prompts": "2048"}
    event = replace(event, tags=tags, labels=labels, model_shared=True)
    names = EVENT_BYTES - sum(len(text) for text in (*labels, *labels.values(), *tags)) - 320 - 35
    event = replace(event, model="m" * names)
    journal = Journal(tmp_path / JOURNAL_FILE, slots=1)
    journal.open(event).note(TokenCounts(1, 0, 1), 1)
    [found] = read_journal(tmp_path / JOURNAL_FILE).events
    assert found.tags == tags
    assert found.model == event.model
    journal.close()


LABELS = {"task": "chat", "request_id": "r"}
DONE = TokenCounts(5, 0, 7)


async def test_an_event_says_how_often_its_prompt_was_counted(world: World) -> None:
    bill = world.bill(said={"n": 3})
    bill.begin(replica())
    await bill.settle(DONE, "completed")
    assert [event["labels"] for event in world.spooled()] == [{**LABELS, "choices": "3"}]


@pytest.mark.parametrize(
    ("asked", "further", "labels"),
    [
        (["r0"], [], {}),
        (["prefill-0", "r0"], [], {"read_by": "prefill-0"}),
        (["prefill-0", "prefill-1", "r0", "r1"], [], {"read_by": "prefill-1"}),
        (["prefill-0"], [], {}),
        (["r0"], ["r1", "r2"], {"continued_by": "r1 r2"}),
        (["r0"], ["r" * 3500], {}),
    ],
)
async def test_an_event_names_the_other_engines_that_had_a_part_in_it(
    world: World, asked: list[str], further: list[str], labels: dict[str, str]
) -> None:
    bill = world.bill()
    for name in asked:
        bill.begin(replica(id=name, role="prefill" if name.startswith("prefill") else ""))
    for name in further:
        bill.goes_on(replica(id=name))
    await bill.settle(DONE, "completed")
    [event] = world.spooled()
    assert event["labels"] == LABELS | labels
    assert event["resource"] == asked[-1]


async def test_a_second_replica_takes_the_slot_of_the_first(world: World) -> None:
    bill = world.bill()
    for id_ in ("r0", "r1", "r2"):
        bill.begin(replica(id=id_))
    bill.note(TokenCounts(1, 0, 1))
    assert world.books.journal.slots == 2
    assert [event.resource for event in read_journal(world.folder / JOURNAL_FILE).events] == ["r2"]


async def test_counts_that_make_no_event_are_set_aside_with_their_reason(world: World) -> None:
    bill = world.bill()
    bill.begin(replica())
    bill.note(TokenCounts(1, 0, MAX_QUANTITY + 1))
    await bill.settle(TokenCounts(1, 0, MAX_QUANTITY + 1), "completed")
    assert world.spooled() == []
    [line] = (world.folder / REJECTED_FILE).read_text().splitlines()
    kept = json.loads(line)
    assert "quantities.completion_tokens" in kept["reason"]
    assert kept["event"]["quantities"]["completion_tokens"] == MAX_QUANTITY + 1
    assert read_journal(world.folder / JOURNAL_FILE).odd == [], "its slot is free again"


async def test_odd_counts_of_a_killed_gateway_are_set_aside_too(world: World) -> None:
    bill = world.bill()
    bill.begin(replica())
    bill.note(TokenCounts(1, 0, 10**30))
    await recover(world.books.spool)
    [line] = read_rejected(world.folder)
    assert line.event is None
    assert "completion_tokens" in line.text
    assert not (world.folder / JOURNAL_FILE).exists()


@pytest.mark.parametrize("outcome", ["cancelled", "engine_failed"])
async def test_a_prompt_from_which_no_token_was_made_is_not_billed(world: World, outcome: Any) -> None:
    bill = world.bill()
    bill.begin(replica())
    await bill.settle(TokenCounts(prompt=8), outcome)
    assert world.spooled() == []


def test_what_was_posted_is_taken_out_and_the_rest_stays_as_it_was(tmp_path: Path) -> None:
    whole = UsageEvent("use-1", "inference", "acme", "web", 1, 2, {"prompt_tokens": 1}).to_dict()
    keep_rejected(tmp_path, [(whole, "no such project"), ("{torn", "is no JSON"), (json.dumps(whole), "old")])
    lines = read_rejected(tmp_path)
    assert [line.event is not None for line in lines] == [True, False, True]
    take_out(tmp_path, {lines[0].text})
    assert [line.text for line in read_rejected(tmp_path)] == [line.text for line in lines[1:]]
    take_out(tmp_path, {line.text for line in lines})
    assert read_rejected(tmp_path) == []
    assert not (tmp_path / REJECTED_FILE).exists()


# A disk that is full for a while


@dataclass
class Disk:
    """Takes what is written, or not."""

    monkeypatch: pytest.MonkeyPatch

    def __post_init__(self) -> None:
        self.is_full, write = False, os.write

        def limited(handle: int, data: bytes) -> int:
            if self.is_full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(handle, data)

        self.monkeypatch.setattr("inference.gateway.books.spool.os.write", limited)
        self.monkeypatch.setattr("inference.gateway.books.bill.OVERDUE_SECONDS", 0.0)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.mark.parametrize("stream", [True, False])
async def test_what_runs_while_the_disk_fills_is_given_out_and_billed_once_there_is_room(
    world: World, disk: Disk, stream: bool
) -> None:
    bill, other = world.bill(stream=stream), world.bill(stream=stream)
    bill.begin(replica())
    other.begin(replica())
    disk.is_full = True
    await bill.settle(TokenCounts(4, 0, 7), "completed")
    with pytest.raises(Unavailable, match="cannot be recorded right now"):
        world.bill(stream=stream).begin(replica())
    await other.settle(TokenCounts(5, 0, 1), "cancelled")
    assert world.spooled() == []
    disk.is_full = False
    async with asyncio.timeout(5):
        while world.books.overdue:
            await asyncio.sleep(0)
    told = [(event["outcome"], event["quantities"]["completion_tokens"]) for event in world.spooled()]
    assert sorted(told) == [("cancelled", 1), ("completed", 7)]
    assert read_journal(world.folder / JOURNAL_FILE).events == [], "the slots are free again"
    world.bill(stream=stream).begin(replica())


async def test_what_came_late_into_the_spool_was_not_shipped_before(world: World, disk: Disk) -> None:
    bill, books, clock = world.bill(), world.books, VirtualClock(10)
    books.clock = clock
    bill.begin(replica())
    disk.is_full = True
    await bill.settle(TokenCounts(4, 0, 7), "completed")
    assert books.settled_before(5) < 0, "it waits for room"
    disk.is_full = False
    await asyncio.gather(*books.overdue)
    at = clock.monotonic_seconds()
    assert books.settled_before(at) < 0, "nobody has shipped it"
    assert books.settled_before(at + 1) == at + 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_gateway_killed_on_a_full_disk_is_billed_by_the_next(
    world: World, disk: Disk, stream: bool
) -> None:
    bill = world.bill(stream=stream)
    bill.begin(replica())
    disk.is_full = True
    await bill.settle(TokenCounts(4, 0, 7), "completed")
    await world.books.close()
    disk.is_full = False
    await recover(world.books.spool)
    [event] = world.spooled()
    assert (event["outcome"], event["quantities"]["completion_tokens"]) == ("gateway_lost", 7)


async def test_a_plain_request_that_fails_gives_its_place_in_the_journal_back(world: World) -> None:
    for _ in range(9):
        with suppress(Unavailable), world.bill(stream=False) as bill:
            bill.begin(replica())
            raise Unavailable("the engine is away")
    assert world.books.journal.slots == 2


def test_a_full_disk_leaves_no_half_line_among_what_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_rejected(tmp_path, [({"id": "use-1"}, "first")])

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("inference.gateway.books.aside.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            keep_rejected(tmp_path, [({"id": "use-2"}, "second")])
    keep_rejected(tmp_path, [({"id": "use-3"}, "third")])
    kept = [json.loads(line.text)["reason"] for line in read_rejected(tmp_path)]
    assert kept == ["first", "third"]
