"""Frames between an agent and a cell, whose end may say anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.adapters.ray.session.frames import (
    MAX_PAYLOAD_BYTES,
    BrokenFrames,
    Decoder,
    Frame,
    Kind,
    data_frames,
    encode,
    numbered,
)

NUMBERS = st.integers(0, 2**32 - 1)
FRAMES = st.one_of(
    st.builds(Frame, st.sampled_from([Kind.OPENED, Kind.END, Kind.CLOSE]), NUMBERS),
    st.builds(numbered, st.sampled_from([Kind.OPEN, Kind.ROOM]), NUMBERS, NUMBERS),
    st.builds(Frame, st.just(Kind.DATA), NUMBERS, st.binary(max_size=200)),
)


@given(st.lists(FRAMES, max_size=20), st.integers(1, 50))
def test_frames_come_out_as_they_went_in_however_they_are_cut(frames: list[Frame], cut: int) -> None:
    data, decoder = b"".join(map(encode, frames)), Decoder()
    found = [frame for at in range(0, len(data), cut) for frame in decoder.feed(data[at : at + cut])]
    assert found == frames


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_whatever_comes_is_frames_or_broken_and_little_is_kept(pieces: list[bytes]) -> None:
    decoder = Decoder()
    try:
        for piece in pieces:
            for frame in decoder.feed(piece):
                assert len(frame.payload) <= MAX_PAYLOAD_BYTES
            assert len(decoder._held) < MAX_PAYLOAD_BYTES + 7
    except BrokenFrames:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 7,
        b"\x07" + b"\x00" * 6,
        encode(Frame(Kind.DATA, 1))[:5] + b"\xff\xff",
        b"\x01" + b"\x00" * 6,
    ],
)
def test_what_is_no_frame_is_said_before_it_is_kept(data: bytes) -> None:
    with pytest.raises(BrokenFrames):
        Decoder().feed(data)


@given(st.integers(0, 3 * MAX_PAYLOAD_BYTES))
def test_bytes_are_cut_into_frames(size: int) -> None:
    data = bytes(size)
    frames = data_frames(5, data)
    assert b"".join(frame.payload for frame in frames) == data
    assert all(0 < len(frame.payload) <= MAX_PAYLOAD_BYTES for frame in frames)
