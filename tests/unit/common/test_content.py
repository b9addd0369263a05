"""The coding of a body: whatever comes, and however it is cut, it is decoded, or refused within the limit."""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ComputilityError, InvalidInput, TooLarge, UnsupportedMediaType
from common.http_server.content import PIECE_BYTES, decoded, require_json

LIMIT_BYTES = 300_000


def _bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS = {"gzip": (gzip.compress,), "deflate": (zlib.compress, _bare)}
BODIES = st.builds(lambda part, times: part * times, st.binary(max_size=200), st.integers(0, 3000))


async def read(parts: Iterable[bytes], coding: str, limit_bytes: int = LIMIT_BYTES) -> list[bytes]:
    """The pieces of the decoded body."""
    waiting: Iterator[Any] = iter(
        [
            *({"type": "http.request", "body": part, "more_body": True} for part in parts),
            {"type": "http.request", "body": b"", "more_body": False},
            {"type": "http.disconnect"},
        ]
    )

    async def receive() -> Any:
        return next(waiting)

    receive_decoded = decoded(receive, coding.encode(), limit_bytes)
    pieces = []
    while True:
        message = await receive_decoded()
        pieces.append(message["body"])
        if not message["more_body"]:
            assert (await receive_decoded())["type"] == "http.disconnect"
            return pieces


async def refusal(parts: Iterable[bytes], coding: str) -> ComputilityError | None:
    try:
        await read(parts, coding)
    except ComputilityError as error:
        return error
    return None


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(
    st.sampled_from(sorted(PACKERS)), st.integers(0, 1), BODIES, st.lists(st.integers(0, 10**6), max_size=5)
)
async def test_a_body_comes_out_as_it_went_in(
    coding: str, which: int, body: bytes, places: list[int]
) -> None:
    packer = PACKERS[coding][which % len(PACKERS[coding])]
    try:
        pieces = await read(cut(packer(body), places), coding)
    except TooLarge:
        assert len(body) > LIMIT_BYTES
        return
    assert b"".join(pieces) == body
    assert len(body) <= LIMIT_BYTES
    assert max(map(len, pieces)) <= PIECE_BYTES


@given(st.sampled_from(sorted(PACKERS)), st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=3))
async def test_what_is_not_so_coded_is_refused(coding: str, body: bytes, places: list[int]) -> None:
    error = await refusal(cut(body, places), coding)
    assert error is None or (isinstance(error, InvalidInput) and error.param == "Content-Encoding")


@given(st.text(max_size=20))
async def test_every_coding_is_known_or_named(coding: str) -> None:
    error = await refusal([], coding.encode("utf-8", "replace").decode("latin-1"))
    assert error is None or (isinstance(error, UnsupportedMediaType) and "gzip, deflate" in error.message)


async def test_a_bomb_is_put_out_at_the_limit() -> None:
    bomb = gzip.compress(bytes(50_000_000), 9)
    with pytest.raises(TooLarge):
        await read([bomb], "gzip")


@pytest.mark.parametrize(
    "good", ["", "application/json", "Application/JSON; charset=UTF-8", "application/a+json"]
)
def test_json_is_json(good: str) -> None:
    require_json(good)


@given(st.text())
def test_any_other_type_is_refused_clearly(content_type: str) -> None:
    with suppress(UnsupportedMediaType):
        require_json(content_type)
