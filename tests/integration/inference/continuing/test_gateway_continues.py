"""A stream whose engine breaks is continued by another one: the client sees one answer and pays for one."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.breaking import (
    CHAT,
    LIMIT,
    PROMPT_TOKENS,
    TEXT,
    WORDS,
    count,
    is_one_answer,
    scene,
    text_of,
)
from tests.fixtures.gateway import SECRET

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


@pytest.mark.parametrize("shown", ["none", "final", "all"])
@pytest.mark.parametrize("task", [CHAT, TEXT], ids=["chat", "completions"])
@pytest.mark.parametrize("after", [1, 4, 8])
async def test_another_engine_goes_on_and_the_bill_is_that_of_one_answer(
    tmp_path: Path, task: dict[str, Any], shown: str, after: int
) -> None:
    options = {} if shown == "none" else {"include_usage": True, "continuous_usage_stats": shown == "all"}
    async with scene(tmp_path) as on:
        on.engines[0].die_after_tokens = after
        before = count("went_on")
        events = await on.events(**task, stream_options=options)
        assert text_of(events) == WORDS
        is_one_answer(events, usage=shown != "none")
        told = [event["usage"] for event in events[:-1] if event.get("usage")]
        if shown != "none":
            last = told[-1]
            assert (last["prompt_tokens"], last["completion_tokens"]) == (PROMPT_TOKENS, LIMIT)
            assert last["total_tokens"] == PROMPT_TOKENS + LIMIT
        if shown == "all":
            running = [usage["completion_tokens"] for usage in told[:-1] if usage["completion_tokens"]]
            assert running == list(range(1, LIMIT + 1))
            assert {usage["prompt_tokens"] for usage in told} == {PROMPT_TOKENS}
        event = await on.bill()
        quantities = {"prompt_tokens": PROMPT_TOKENS, "cached_tokens": 1, "completion_tokens": LIMIT}
        assert (event["quantities"], event["outcome"]) == (quantities, "completed")
        assert event["resource"] == "m0", "the engine that began it"
        assert count("went_on") == before + 1
        asked = on.engines[1].bodies[0]
        assert asked["max_tokens"] == LIMIT - after
        assert asked["cache_salt"] == "acme"


async def test_the_client_is_told_in_a_comment(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        on.engines[0].die_after_tokens = 3
        headers = {"Authorization": f"Bearer {SECRET}"}
        body = {"model": "tiny", "stream": True, "temperature": 0, **CHAT}
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{on.front.url}/v1/chat/completions", json=body, headers=headers)
        assert answer.content.count(b": continued by another engine\n\n") == 1


async def test_options_of_the_request_hold_for_the_rest(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        on.engines[0].die_after_tokens = 4
        await on.events(**TEXT, min_tokens=6, seed=7, temperature=1.0, max_tokens=None)
        asked = on.engines[1].bodies[0]
        assert (asked["min_tokens"], asked["seed"], asked["max_tokens"]) == (2, 11, None)
        await on.front.billed()


@pytest.mark.parametrize(
    "options",
    [
        {"n": 2},
        {"logprobs": True, "top_logprobs": 1},
        {"presence_penalty": 0.5},
        {"frequency_penalty": 0.5},
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": "look"}}]},
        {"echo": True},
        {"bad_words": ["no"]},
        {"vllm_xargs": {"x": 1}},
        {"not_known": 1},
        {"temperature": 1.0, "stop": "never"},
        {"seed": "7"},
    ],
    ids=str,
)
async def test_what_cannot_be_continued_ends_with_an_error_as_ever(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    async with scene(tmp_path) as on:
        on.engines[0].die_after_tokens = 3
        *chunks, error, done = await on.events(**CHAT, **options)
        assert (error["error"]["code"], done) == ("engine_failed", "[DONE]")
        assert chunks
        event = await on.bill()
        made = 3 * options.get("n", 1)
        assert event["quantities"] == {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": made}
        assert event["outcome"] == "engine_failed"
        assert not on.engines[1].bodies
        assert "return_token_ids" not in on.engines[0].bodies[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"continuations_per_stream": 0},
        {"continuation_bytes_per_stream": 100},
        {"answer_bytes_per_tenant": 64},
    ],
    ids=str,
)
async def test_it_can_be_turned_off_and_has_a_limit(tmp_path: Path, settings: dict[str, Any]) -> None:
    async with scene(tmp_path, **settings) as on:
        on.engines[0].die_after_tokens = 3
        assert (await on.events(**CHAT))[-2]["error"]["code"] == "engine_failed"
        assert (await on.bill())["quantities"]["completion_tokens"] == 3


async def test_one_engine_alone_is_not_asked_for_tokens(tmp_path: Path) -> None:
    async with scene(tmp_path, engines=1) as on:
        await on.events(**CHAT)
        assert "return_token_ids" not in on.engines[0].bodies[0]
