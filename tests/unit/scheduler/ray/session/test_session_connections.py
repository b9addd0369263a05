"""Connections to ports of a cell, at the agent: nothing is lost, doubled or kept without bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ComputilityError, Conflict, InvalidInput, NotFound, TooManyRequests
from scheduler.adapters.ray.session.connections import (
    ABANDONED_SECONDS,
    MAX_CONNECTIONS,
    NO_ROOM_YET,
    Connections,
    Piece,
)
from scheduler.adapters.ray.session.frames import WINDOW_BYTES, BrokenFrames, Frame, Kind, numbered
from scheduler.adapters.ray.session.idle import IdleClock


def opened() -> tuple[Connections, int]:
    connections = Connections()
    number = connections.open(8888, 0)
    assert connections.take_frames() == [numbered(Kind.OPEN, number, 8888)]
    assert connections.is_open(number) is None
    connections.take(Frame(Kind.OPENED, number))
    return connections, number


def test_what_is_sent_twice_arrives_once() -> None:
    connections, number = opened()
    connections.write(number, 0, b"abc", 0)
    connections.write(number, 0, b"abc", 0)
    connections.write(number, 1, b"bcd", 0, end=True)
    connections.write(number, 1, b"bcd", 0, end=True)
    sent = connections.take_frames()
    assert [frame.payload for frame in sent if frame.kind is Kind.DATA] == [b"abc", b"d"]
    assert [frame.kind for frame in sent].count(Kind.END) == 1
    with pytest.raises(Conflict):
        connections.write(number, 4, b"e", 0)
    with pytest.raises(Conflict):
        connections.write(number, 9, b"e", 0)


def test_what_the_port_has_not_taken_is_refused_and_goes_when_it_has() -> None:
    connections, number = opened()
    connections.write(number, 0, bytes(WINDOW_BYTES), 0)
    with pytest.raises(TooManyRequests) as refused:
        connections.write(number, WINDOW_BYTES, b"x", 0)
    assert refused.value.code == NO_ROOM_YET
    connections.take(numbered(Kind.ROOM, number, 1))
    connections.write(number, WINDOW_BYTES, b"x", 0)


def test_what_was_read_may_be_read_again_until_the_next_is_asked_for() -> None:
    connections, number = opened()
    connections.take(Frame(Kind.DATA, number, b"abcd"))
    assert connections.read(number, 0, 3, 0) == Piece(b"abc", ended=False)
    assert connections.read(number, 0, 3, 0) == Piece(b"abc", ended=False)
    assert connections.take_frames() == []
    connections.take(Frame(Kind.END, number))
    assert connections.read(number, 3, 3, 0) == Piece(b"d", ended=True)
    assert connections.take_frames() == [numbered(Kind.ROOM, number, 3)]
    for offset in (2, 5):
        with pytest.raises(InvalidInput):
            connections.read(number, offset, 3, 0)


def test_a_port_that_refuses_is_not_there() -> None:
    connections = Connections()
    number = connections.open(1, 0)
    connections.take(Frame(Kind.CLOSE, number))
    with pytest.raises(NotFound):
        connections.is_open(number)


def test_what_came_before_a_close_can_be_read() -> None:
    connections, number = opened()
    connections.take(Frame(Kind.DATA, number, b"bye"))
    connections.take(Frame(Kind.CLOSE, number))
    assert connections.read(number, 0, 10, 0) == Piece(b"bye", ended=True)
    assert connections.read(number, 3, 10, 0) == Piece(b"", ended=True)
    with pytest.raises(Conflict):
        connections.write(number, 0, b"late", 0)


def test_a_close_after_all_was_read_is_an_end() -> None:
    connections, number = opened()
    connections.take(Frame(Kind.DATA, number, b"bye"))
    connections.read(number, 0, 10, 0)
    assert connections.read(number, 3, 10, 0) == Piece(b"", ended=False)
    connections.take(Frame(Kind.CLOSE, number))
    assert connections.read(number, 3, 10, 0) == Piece(b"", ended=True)
    connections.close(number)
    with pytest.raises(NotFound):
        connections.read(number, 3, 10, 0)


def test_there_are_so_many_and_abandoned_ones_make_room() -> None:
    connections = Connections()
    first = [connections.open(80, 0) for _ in range(MAX_CONNECTIONS)]
    with pytest.raises(TooManyRequests):
        connections.open(80, ABANDONED_SECONDS - 1)
    assert connections.open(80, ABANDONED_SECONDS) not in first
    with pytest.raises(NotFound):
        connections.is_open(first[0])


@pytest.mark.parametrize(
    "frames",
    [
        [Frame(Kind.DATA, 1, bytes(WINDOW_BYTES)), Frame(Kind.DATA, 1, b"x")],
        [Frame(Kind.END, 1), Frame(Kind.DATA, 1, b"x")],
        [numbered(Kind.ROOM, 1, 1)],
        [numbered(Kind.OPEN, 1, 22)],
    ],
)
def test_a_cell_that_sends_more_than_it_may_is_cut_off(frames: list[Frame]) -> None:
    connections, _ = opened()
    *before, last = frames
    for frame in before:
        connections.take(frame)
    with pytest.raises(BrokenFrames):
        connections.take(last)


ASKED = st.one_of(
    st.tuples(st.just("open")),
    st.tuples(st.just("write"), st.integers(0, 6), st.integers(0, 9), st.binary(max_size=9), st.booleans()),
    st.tuples(st.just("read"), st.integers(0, 6), st.integers(0, 9)),
    st.tuples(st.just("close"), st.integers(0, 6)),
    st.tuples(st.sampled_from(list(Kind)), st.integers(0, 6), st.integers(0, 2 * WINDOW_BYTES)),
)


@given(st.lists(ASKED, max_size=60))
def test_nobody_makes_it_grow_or_fail_otherwise(asked: list[tuple[object, ...]]) -> None:
    connections = Connections()
    for name, *words in asked:
        try:
            _ask(connections, name, words)
        except (ComputilityError, BrokenFrames):
            continue
    assert len(connections._known) <= MAX_CONNECTIONS
    for known in connections._known.values():
        assert len(known.waiting) <= WINDOW_BYTES
        assert 0 <= known.room_bytes <= WINDOW_BYTES


def _ask(connections: Connections, name: object, words: list[object]) -> None:
    if name == "open":
        connections.open(80, 0)
    elif name == "write":
        number, offset, data, end = words
        connections.write(number, offset, data, 0, end=bool(end))  # type: ignore[arg-type]
    elif name == "read":
        connections.read(words[0], words[1], 9, 0)  # type: ignore[arg-type]
    elif name == "close":
        connections.close(words[0])  # type: ignore[arg-type]
    else:
        assert isinstance(name, Kind)
        number, size = int(str(words[0])), int(str(words[1]))
        payload = numbered(name, number, size).payload
        connections.take(Frame(name, number, bytes(size) if name is Kind.DATA else payload))


def test_without_input_for_so_long_it_is_over_for_good() -> None:
    clock = IdleClock(60, 100)
    assert not clock.is_over(159)
    clock.touch(159)
    assert not clock.is_over(218)
    assert clock.is_over(219)
    clock.touch(220)
    assert clock.is_over(220)


def test_input_that_comes_too_late_does_not_bring_it_back() -> None:
    clock = IdleClock(60, 0)
    clock.touch(61)
    assert clock.is_over(61)
