"""Anthropic's API through a whole gateway: keys, answers, streams, bills, and errors in its own form."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from inference.core.apis.events import RUNNING_USAGE
from tests.fixtures.fake_apis import UNTRUE
from tests.fixtures.gateway import SECRET
from tests.fixtures.wire import Answer, Visit
from tests.unit.inference.gateway.front_scene import Front, front_scene

PATH = "/v1/messages"
ASK: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 4,
    "messages": [{"role": "user", "content": "three words here"}],
}


def names(answer: Answer) -> list[str]:
    return [
        line.removeprefix("event: ") for line in answer.body.decode().splitlines() if line.startswith("event")
    ]


async def test_a_plain_answer_is_billed_by_its_usage_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with front_scene(tmp_path, monkeypatch, routes={"backend_model": "weights-7"}) as front:
        answer = await front.ask(ASK, PATH, secret="", x_api_key=SECRET, anthropic_version="2023-06-01")
        assert (answer.status, answer.json["model"]) == (200, "tiny")
        assert answer.json["content"][1]["input"] == UNTRUE, "what a model wrote is nobody's to edit"
        [event] = front.spooled()
        assert event["quantities"] == {"prompt_tokens": 3, "cached_tokens": 1, "completion_tokens": 4}
        assert (event["key"], event["labels"]["task"]) == ("alice", "chat")
        [body] = front.engines[0].bodies
        assert (body["model"], body["cache_salt"]) == ("weights-7", "acme")


async def test_a_stream_is_passed_on_and_its_end_comes_after_the_usage_is_durable(front: Front) -> None:
    seen: list[int] = []

    def look(visit: Visit, part: bytes) -> None:
        if b"message_stop" in part:
            seen.append(len(front.spooled()))

    answer = await front.ask({**ASK, "stream": True}, PATH, on_part=look)
    assert names(answer)[0] == "message_start"
    assert names(answer)[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert RUNNING_USAGE not in answer.body.decode()
    assert seen == [1]
    [event] = front.spooled()
    assert event["quantities"] == {"prompt_tokens": 3, "cached_tokens": 1, "completion_tokens": 4}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_who_leaves_pays_for_the_tokens_made_until_then(front: Front, stream: bool) -> None:
    engine = front.engines[0]
    engine.token_seconds = 0.01
    visit = front.visit({**ASK, "max_tokens": 1000, "stream": stream}, PATH)
    asking = asyncio.create_task(visit.made_to(front.gateway))
    while not engine.generated:
        await asyncio.sleep(0)
    visit.leave()
    await asking
    [event] = front.spooled()
    assert event["outcome"] == "cancelled"
    assert 0 < event["quantities"]["completion_tokens"] == engine.generated < 1000


async def test_an_engine_that_dies_is_paid_for_what_it_had_told(front: Front) -> None:
    front.engines[0].die_after_tokens = 3
    answer = await front.ask({**ASK, "max_tokens": 9, "stream": True}, PATH)
    assert names(answer)[-1] == "error"
    assert b'"type": "api_error"' in answer.body
    [event] = front.spooled()
    assert (event["outcome"], event["quantities"]["completion_tokens"]) == ("engine_failed", 3)


async def test_another_engine_answers_where_the_first_dies_before_its_first_event(wide_front: Front) -> None:
    for engine in wide_front.engines[:3]:
        engine.fail_with = 503, {"error": {"message": "full", "code": 503}}
    answers = [await wide_front.ask({**ASK, "stream": True}, PATH) for _ in range(4)]
    assert {answer.status for answer in answers} <= {200, 502, 503}
    assert any(answer.status == 200 for answer in answers)


async def test_counting_is_not_billed(front: Front) -> None:
    counted = {name: value for name, value in ASK.items() if name != "max_tokens"}
    answer = await front.ask(counted, f"{PATH}/count_tokens", secret="", x_api_key=SECRET)
    assert (answer.status, answer.json) == (200, {"input_tokens": 3})
    assert front.spooled() == []


@pytest.mark.parametrize(
    ("change", "path", "status", "kind"),
    [
        ({"max_tokens": 0}, PATH, 400, "invalid_request_error"),
        ({"model": "gone"}, PATH, 404, "not_found_error"),
        ({}, f"{PATH}/batches", 404, "not_found_error"),
        ({"max_tokens": 9999}, PATH, 400, "invalid_request_error"),
    ],
)
async def test_errors_have_the_form_of_the_api(
    front: Front, change: dict[str, Any], path: str, status: int, kind: str
) -> None:
    answer = await front.ask({**ASK, **change}, path)
    assert (answer.status, answer.json["type"], answer.json["error"]["type"]) == (status, "error", kind)
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("shown", [{}, {"x_api_key": "ck-guess"}, {"authorization": "Basic x"}])
async def test_a_stranger_is_told_so(front: Front, shown: dict[str, Any]) -> None:
    answer = await front.ask(ASK, PATH, secret="", **shown)
    assert (answer.status, answer.json["error"]["type"]) == (401, "authentication_error")


async def test_a_model_that_does_not_chat_says_what_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with front_scene(tmp_path, monkeypatch, routes={"tasks": ("embeddings",)}) as front:
        answer = await front.ask(ASK, PATH)
        assert answer.status == 404
        assert "does not serve messages; it serves embeddings" in json.dumps(answer.json)
