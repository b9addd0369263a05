"""An answer in one piece is counted exactly, however large it is and however it comes."""

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.settings import GatewaySettings
from common.wire import RouteKey
from inference.core.usage import find_last_usage, find_usage
from inference.gateway.admission import KeyLoad, Ticket
from inference.gateway.engines import whole_answer
from inference.gateway.engines.connection import Answer
from inference.gateway.engines.whole_answer import FindUsage, read_answer, read_error

WINDOW_BYTES = 300


class Response:
    """What an engine sends, cut into these chunks."""

    def __init__(self, content: bytes, cuts: Sequence[int]) -> None:
        ends = sorted({min(cut, len(content)) for cut in cuts} | {len(content)})
        self.chunks = [content[a:b] for a, b in zip([0, *ends], ends, strict=False) if b > a]

    async def readany(self) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""

    def as_of_an_engine(self) -> Answer:
        return cast(Answer, self)


def answer(text: str, after: str, tokens: int) -> bytes:
    content: dict[str, Any] = {
        "choices": [{"text": text}],
        "usage": {"prompt_tokens": 1, "completion_tokens": tokens, "details": {"a": {"b": 2}}},
        "kv_transfer_params": {"text": after},
    }
    return json.dumps(content, separators=(",", ":")).encode()


TRAP = '"usage":{"prompt_tokens":9,"completion_tokens":9}'
texts = st.lists(st.sampled_from([TRAP, "\\", '"', "x" * 150, "é"]), max_size=12).map("".join)


@settings(max_examples=200)
@given(
    text=texts,
    after=texts,
    tokens=st.integers(0, 10**9),
    cuts=st.lists(st.integers(1, 3000)),
    most=st.integers(1, 900),
)
async def test_the_usage_of_what_is_too_large_to_keep_is_found_all_the_same(
    text: str, after: str, tokens: int, cuts: list[int], most: int
) -> None:
    content = answer(text, after, tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole_answer, "ANSWER_LIMIT_BYTES", most)
        patch.setattr(whole_answer, "_WINDOW_BYTES", WINDOW_BYTES)
        found = await read_answer(Response(content, cuts).as_of_an_engine(), lambda size: True)
    usage = find_usage(content)
    assert usage is not None
    assert found.usage is not None
    assert found.usage.counts == usage.counts
    assert found.content == (content if len(content) <= most else None)


@pytest.mark.parametrize(("find", "tokens"), [(find_usage, 5), (find_last_usage, 7)])
@pytest.mark.parametrize("most", [1, 10_000], ids=["too large", "kept"])
async def test_of_several_usages_the_same_one_counts_however_large_the_answer_is(
    find: FindUsage, tokens: int, most: int
) -> None:
    """Documents of a client may come after the usage of a rerank, or tools before that of a response."""
    first, last = ({"prompt_tokens": count, "completion_tokens": 0} for count in (5, 7))
    far = [{"text": "x" * 150}] * 10
    content = json.dumps([{"usage": first}, far, {"usage": last}], separators=(",", ":")).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole_answer, "ANSWER_LIMIT_BYTES", most)
        patch.setattr(whole_answer, "_WINDOW_BYTES", WINDOW_BYTES)
        cut = Response(content, range(10, len(content), 90)).as_of_an_engine()
        found = await read_answer(cut, lambda size: True, find)
    assert found.usage is not None
    assert found.usage.counts.prompt == tokens


async def test_of_an_error_the_beginning_is_kept() -> None:
    found = await read_error(Response(b"x" * 5_000_000, range(0, 5_000_000, 65536)).as_of_an_engine())
    assert found == b"x" * 1024**2


def test_answers_of_all_keys_of_a_tenant_are_held_together_and_given_back() -> None:
    settings = GatewaySettings(answer_bytes_per_tenant=100)
    tenant, other = KeyLoad(), KeyLoad()
    key = RouteKey(digest="d", name="k", role="agent", tenant="acme")
    first, second = (Ticket(key, KeyLoad(), settings, tenant) for _ in range(2))
    for ticket in (first, second):
        ticket.open()
    assert first.take_answer(60)
    assert not second.take_answer(41)
    assert second.take_answer(40)
    assert Ticket(key, KeyLoad(), settings, other).take_answer(100)
    first.close()
    assert second.take_answer(60)
    second.close()
    assert tenant.answer_bytes == 0
