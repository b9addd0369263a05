"""Breaks at odd places, engines that do not go on, clients that leave: one answer or one error, one bill."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.breaking import (
    BEGIN,
    CHAT,
    FIRST,
    LIMIT,
    PROMPT_TOKENS,
    SECOND,
    TEXT,
    WORDS,
    chunk,
    count,
    is_one_answer,
    scene,
    text_of,
    word,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


async def test_two_breaks_are_two_continuations_and_the_third_ends_it(tmp_path: Path) -> None:
    async with scene(tmp_path, engines=4) as on:
        for engine, after in zip(on.engines, (3, 2, 2, 9), strict=True):
            engine.die_after_tokens = after
        *chunks, error, _ = await on.events(**CHAT, max_tokens=20)
        assert error["error"]["code"] == "engine_failed"
        assert text_of(chunks) == " w1 w2 w3 w4 w5 w6 w7"
        event = await on.bill()
        assert event["quantities"] == {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 7}
        assert event["outcome"] == "engine_failed"
        assert not on.engines[3].bodies, "two continuations are allowed"
        on.engines[1].die_after_tokens = None
    async with scene(tmp_path / "other", engines=3) as on:
        on.engines[0].die_after_tokens, on.engines[1].die_after_tokens = 3, 2
        events = await on.events(**TEXT)
        assert text_of(events) == WORDS
        is_one_answer(events)
        assert (await on.bill())["quantities"]["completion_tokens"] == LIMIT


async def test_what_breaks_two_engines_at_the_same_place_is_tried_on_no_third(tmp_path: Path) -> None:
    async with scene(tmp_path, engines=3) as on:
        on.engines[0].die_after_tokens, on.engines[1].die_after_tokens = 3, 0
        assert (await on.events(**CHAT))[-2]["error"]["code"] == "engine_failed"
        assert [len(engine.bodies) for engine in on.engines] == [1, 1, 0]
        assert (await on.bill())["quantities"]["completion_tokens"] == 3


@pytest.mark.parametrize("fault", ["refuses", "full", "gone", "begins anew", "not known"])
async def test_an_engine_that_does_not_go_on_is_no_error_of_the_request(tmp_path: Path, fault: str) -> None:
    async with scene(tmp_path) as on:
        first, second = on.engines
        first.die_after_tokens = 3
        if fault == "refuses":
            second.fail_with = (400, {"error": {"message": "no such field"}})
        elif fault == "full":
            second.fail_with = (503, {"error": {"message": "full"}})
        elif fault == "gone":
            await second.stop()
        elif fault == "begins anew":
            second.takes_tokens = False
        else:
            second.script = [b'data: {"choices": 7, "usage": {"prompt_tokens": 1}}\n\n']
        *chunks, error, _ = await on.events(**CHAT)
        assert text_of(chunks) == " w1 w2 w3"
        assert error["error"]["code"] == "engine_failed"
        assert "what was delivered is billed" in error["error"]["message"]
        event = await on.bill()
        assert event["quantities"] == {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 3}


@pytest.mark.parametrize("options", [{}, {"logprobs": True}, {"tools": [{"type": "x"}]}], ids=str)
@pytest.mark.parametrize(
    "script",
    [[None], [BEGIN[:40], None], [BEGIN, None], [BEGIN, FIRST[:80], None]],
    ids=["nothing", "part of an event", "the role", "the role and a part"],
)
async def test_an_answer_of_which_no_word_was_given_is_made_anew_whatever_was_asked(
    tmp_path: Path, script: list[bytes | None], options: dict[str, Any]
) -> None:
    async with scene(tmp_path) as on:
        if options:  # the engine is not asked for tokens, so it tells none
            script = [part and part.replace(b',"prompt_token_ids":[1,2,3]', b"") for part in script]
        on.engines[0].script = script
        events = await on.events(**CHAT, **options)
        assert text_of(events) == WORDS
        is_one_answer(events)
        event = await on.bill()
        assert event["quantities"]["completion_tokens"] == LIMIT
        assert on.engines[1].bodies[0]["max_tokens"] == LIMIT


async def test_a_break_within_an_event_repeats_and_loses_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        on.engines[0].script = [BEGIN + FIRST, SECOND[:-70], None]
        assert text_of(await on.events(**CHAT)) == WORDS
        assert (await on.bill())["quantities"]["completion_tokens"] == LIMIT


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("told", [False, True], ids=["total missing", "only the end missing"])
async def test_an_answer_that_only_lacks_its_end_is_ended_without_another_engine(
    tmp_path: Path, told: bool, usage: bool
) -> None:
    last = chunk([word(2, "length")], PROMPT_TOKENS, 2)
    async with scene(tmp_path) as on:
        total = [chunk([], PROMPT_TOKENS, 2)] if told else []
        on.engines[0].script = [BEGIN + FIRST, last, *total, None]
        before = count("whole")
        events = await on.events(**CHAT, stream_options={"include_usage": usage})
        assert text_of(events) == " w1 w2"
        is_one_answer(events, usage)
        if usage:
            assert events[-2]["usage"]["completion_tokens"] == 2
        event = await on.bill()
        assert (event["outcome"], event["quantities"]["completion_tokens"]) == ("completed", 2)
        assert not on.engines[1].bodies
        assert count("whole") == before + 1


async def test_an_answer_that_is_more_than_text_is_not_continued(tmp_path: Path) -> None:
    thought = chunk([word(2, reasoning="hm")], PROMPT_TOKENS, 2)
    async with scene(tmp_path) as on:
        on.engines[0].script = [BEGIN + FIRST, thought, None]
        assert (await on.events(**CHAT))[-2]["error"]["code"] == "engine_failed"
        assert not on.engines[1].bodies


@pytest.mark.parametrize("healthy", [False, True])
async def test_an_engine_that_tells_its_failure_is_left_unless_the_request_is_at_fault(
    tmp_path: Path, healthy: bool
) -> None:
    error = b'data: {"error":{"message":"EngineCore died","code":500}}\n\n'
    async with scene(tmp_path) as on:
        on.engines[0].script, on.engines[0].healthy = [BEGIN + FIRST, error + b"data: [DONE]\n\n"], healthy
        events = await on.events(**CHAT)
        if healthy:
            assert events[-2]["error"]["code"] == "engine_refused"
            assert not on.engines[1].bodies
        else:
            assert text_of(events) == WORDS
            is_one_answer(events)


async def test_text_that_was_held_back_for_a_stop_string_comes_once(tmp_path: Path) -> None:
    """The engine holds five characters back: of ``w1 w2 w3`` it gave `` w1``."""
    late = [
        chunk([word(n) | {"delta": {"content": text}}], 3, n) for n, text in ((1, ""), (2, " w"), (3, "1 w"))
    ]
    async with scene(tmp_path) as on:
        on.engines[0].script = [BEGIN + late[0] + late[1] + late[2], None]
        events = await on.events(**CHAT, stop=["zzzzz"])
        assert text_of(events) == WORDS
        is_one_answer(events)
        assert (await on.bill())["quantities"]["completion_tokens"] == LIMIT


async def test_another_answer_is_not_joined_to_this_one(tmp_path: Path) -> None:
    late = [chunk([word(n) | {"delta": {"content": text}}], 3, n) for n, text in ((1, ""), (2, "xyz"))]
    async with scene(tmp_path) as on:
        on.engines[0].script = [BEGIN + late[0] + late[1], None]
        before = count("differs")
        assert (await on.events(**CHAT, stop=["zzzzz"]))[-2]["error"]["code"] == "engine_failed"
        assert count("differs") == before + 1
        assert (await on.bill())["quantities"]["completion_tokens"] == 2


async def test_only_engines_of_the_same_model_go_on(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        on.engines[0].die_after_tokens = 3
        [route] = on.front.control.table.routes
        first, second = route.replicas
        other = second.model_copy(update={"model_identity": "acme/newer"})
        routes = (route.model_copy(update={"replicas": (first, other)}),)
        await on.show(routes)
        assert (await on.events(**CHAT))[-2]["error"]["code"] == "engine_failed"
        assert not on.engines[1].bodies


async def test_a_client_that_leaves_while_it_is_continued_pays_for_what_was_made(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        first, second = on.engines
        first.die_after_tokens, second.token_seconds = 3, 0.02
        stream = await on.front.client().chat.completions.create(
            **CHAT, model="tiny", stream=True, max_tokens=500, temperature=0
        )
        async for part in stream:
            if part.choices[0].delta.content == " w5":
                break
        await stream.close()
        event = await on.bill()
        assert event["outcome"] == "cancelled"
        assert event["quantities"]["completion_tokens"] == 3 + second.generated < 500
        assert second.aborted


async def test_a_client_that_leaves_before_the_other_engine_has_begun_pays_for_what_it_had(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as on:
        first, second = on.engines
        first.die_after_tokens, second.token_seconds, second.tells_role = 3, 0.5, False
        with pytest.raises(httpx.ReadTimeout):
            await on.events(**CHAT, seconds=0.2)
        event = await on.bill()
        assert (event["outcome"], event["quantities"]["completion_tokens"]) == (
            "cancelled",
            3 + second.generated,
        )
        assert second.generated <= 1
        assert second.aborted


async def test_a_key_that_is_revoked_while_it_is_continued_ends_the_stream(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        first, second = on.engines
        first.die_after_tokens, second.token_seconds = 3, 0.02
        asking = asyncio.create_task(on.events(**CHAT, max_tokens=500))
        async with asyncio.timeout(5):
            while second.generated < 2:
                await asyncio.sleep(0.01)
        await on.show(on.front.control.table.routes, keys=())
        *chunks, error, _ = await asking
        assert error["error"]["code"] == "invalid_api_key"
        event = await on.bill()
        assert event["outcome"] == "cancelled"
        assert event["quantities"]["completion_tokens"] == 3 + second.generated < 500
        assert text_of(chunks).startswith(" w1 w2 w3 w4 w5")


async def test_nobody_goes_on_for_a_key_that_is_revoked_when_the_engine_breaks(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        on.engines[0].die_after_tokens, on.engines[0].token_seconds = 3, 0.1
        asking = asyncio.create_task(on.events(**CHAT))
        async with asyncio.timeout(5):
            while not on.engines[0].generated:
                await asyncio.sleep(0.01)
        await on.show(on.front.control.table.routes, keys=())
        assert (await asking)[-2]["error"]["code"] in ("engine_failed", "invalid_api_key")
        assert not on.engines[1].bodies


@pytest.mark.parametrize("stream_options", [{}, {"include_usage": True}], ids=str)
async def test_a_decode_engine_that_dies_is_replaced_in_the_middle(
    tmp_path: Path, stream_options: dict[str, Any]
) -> None:
    async with scene(tmp_path, engines=3, roles="pdd") as on:
        reader, first, second = on.engines
        reader.cached, first.cached, second.cached = 2, 3, 0
        first.die_after_tokens = 4
        events = await on.events(**CHAT, stream_options=stream_options)
        assert text_of(events) == WORDS
        is_one_answer(events, usage=bool(stream_options))
        quantities = {"prompt_tokens": PROMPT_TOKENS, "cached_tokens": 2, "completion_tokens": LIMIT}
        assert (await on.bill())["quantities"] == quantities, "cached is what the prefill engine had"
        assert "do_remote_prefill" not in second.bodies[0]["kv_transfer_params"]
        if stream_options:
            assert events[-2]["usage"]["prompt_tokens_details"]["cached_tokens"] == 2


async def test_a_prefill_engine_goes_on_where_no_decode_engine_is_left(tmp_path: Path) -> None:
    async with scene(tmp_path, roles="pd") as on:
        on.engines[1].die_after_tokens = 4
        assert text_of(await on.events(**CHAT)) == WORDS
        assert (await on.bill())["quantities"]["completion_tokens"] == LIMIT
