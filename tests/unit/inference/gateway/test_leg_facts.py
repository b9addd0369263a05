"""What takes one engine, what tells where a cache lies, and what the first engine is told, as tables."""

import json
from typing import Any

import pytest

from inference.core.body import Task
from inference.core.two_legs import (
    BYTES_PER_TOKEN,
    PREFILL_MEMBERS,
    giving_up,
    members,
    told_cache,
    why_one_leg,
)
from tests.unit.inference.gateway.test_two_legs import PLACE, parse

TEXT = {"type": "text", "text": "a"}
IMAGE = {"type": "image_url", "image_url": {"url": "x"}}


def said(*contents: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content} for content in contents]}


@pytest.mark.parametrize(
    ("task", "content", "choices", "prompts", "why"),
    [
        ("chat", {}, 1, 1, ""),
        ("completions", {}, 1, 1, ""),
        ("embeddings", {}, 1, 1, "embeddings"),
        ("embeddings", {}, 2, 2, "embeddings"),
        ("completions", {}, 2, 2, "prompts"),
        ("completions", {"echo": True}, 2, 1, "choices"),
        ("completions", {"echo": True}, 1, 1, "prompt_logprobs"),
        ("completions", {"echo": False}, 1, 1, ""),
        ("completions", {"prompt_logprobs": 0}, 1, 1, "prompt_logprobs"),
        ("completions", {"prompt_logprobs": None}, 1, 1, ""),
        ("completions", {"prompt_embeds": ""}, 1, 1, "media"),
        ("completions", {"prompt_embeds": None}, 1, 1, ""),
        ("chat", {"messages": "odd"}, 1, 1, ""),
        ("chat", {"messages": ["odd", None]}, 1, 1, ""),
        ("chat", said("a", None), 1, 1, ""),
        ("chat", said([TEXT, TEXT], ["odd"]), 1, 1, ""),
        ("chat", said([TEXT, IMAGE]), 1, 1, "media"),
        ("chat", said([TEXT], "a", [IMAGE]), 1, 1, "media"),
        ("chat", said([{}]), 1, 1, "media"),
    ],
)
def test_one_prompt_of_text_with_one_answer_may_go_in_two_legs(
    task: Task, content: dict[str, Any], choices: int, prompts: int, why: str
) -> None:
    assert why_one_leg(task, content, choices, prompts) == why


@pytest.mark.parametrize(
    ("change", "is_told"),
    [
        ({}, True),
        ({"more": None}, True),
        ({"do_remote_prefill": False}, False),
        ({"do_remote_prefill": None}, False),
        ({"remote_host": ""}, False),
        ({"remote_port": 0}, False),
        ({"remote_engine_id": None}, False),
        ({"remote_request_id": ""}, False),
    ],
)
def test_a_cache_is_told_by_a_whole_place_that_may_be_fetched(change: dict[str, Any], is_told: bool) -> None:
    place = {**PLACE, **change}
    answer = json.dumps({"id": "x", "kv_transfer_params": place}).encode()
    assert told_cache(answer) == (place if is_told else None)


def test_the_first_engine_makes_one_token_and_keeps_what_it_has_read() -> None:
    assert json.loads(b"{" + PREFILL_MEMBERS.removeprefix(b",") + b"}") == {
        "stream": False,
        "max_tokens": 1,
        "kv_transfer_params": {
            "do_remote_decode": True,
            "do_remote_prefill": False,
            "remote_engine_id": None,
            "remote_block_ids": None,
            "remote_host": None,
            "remote_port": None,
        },
    }


def test_members_are_put_behind_others_of_an_object() -> None:
    assert members({}) == b""
    assert members({"a": 1, "b": [2, "x"]}) == b',"a":1,"b":[2,"x"]'


def test_giving_up_asks_for_as_little_as_can_be_asked_for() -> None:
    assert json.loads(giving_up(PLACE)) == {
        "model": " ",
        "prompt": "x",
        "max_tokens": 1,
        "kv_transfer_params": PLACE,
    }


def test_a_token_is_taken_to_be_four_bytes_of_the_request() -> None:
    assert BYTES_PER_TOKEN == 4
    request = parse()
    assert request.prompt_tokens_about == len(request.rest) // 4
