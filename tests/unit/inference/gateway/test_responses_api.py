"""OpenAI's responses through a whole gateway: answers, streams, bills and errors."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from inference.core.apis.events import RUNNING_USAGE
from tests.fixtures.fake_apis import UNTRUE
from tests.fixtures.wire import Answer, Visit
from tests.unit.inference.gateway.front_scene import Front, front_scene

PATH = "/v1/responses"
ASK: dict[str, Any] = {"model": "tiny", "max_output_tokens": 4, "input": "three words here"}
TOOLS = [{"type": "function", "name": "f", "parameters": UNTRUE}]
BILLED = {"prompt_tokens": 3, "cached_tokens": 1, "completion_tokens": 4}


def events(answer: Answer) -> list[Any]:
    return [json.loads(line[6:]) for line in answer.body.decode().splitlines() if line.startswith("data: ")]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_an_answer_is_billed_by_its_own_usage_and_told_by_the_clients_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    async with front_scene(tmp_path, monkeypatch, routes={"backend_model": "weights-7"}) as front:
        answer = await front.ask({**ASK, "tools": TOOLS, "stream": stream}, PATH)
        told = events(answer)[-1]["response"] if stream else answer.json
        assert (told["model"], told["tools"]) == ("tiny", TOOLS)
        assert told["usage"]["output_tokens"] == 4
        assert told["id"].startswith("resp_")
        assert RUNNING_USAGE not in answer.body.decode()
        [event] = front.spooled()
        assert (event["quantities"], event["labels"]["task"]) == (BILLED, "chat")


async def test_the_usage_is_durable_before_a_response_is_completed(front: Front) -> None:
    seen: list[int] = []

    def look(visit: Visit, part: bytes) -> None:
        if b"response.completed" in part:
            seen.append(len(front.spooled()))

    answer = await front.ask({**ASK, "stream": True}, PATH, on_part=look)
    assert [event["type"] for event in events(answer)][:2] == ["response.created", "response.in_progress"]
    assert seen == [1]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_who_leaves_pays_for_the_tokens_made_until_then(front: Front, stream: bool) -> None:
    engine = front.engines[0]
    engine.token_seconds = 0.01
    visit = front.visit({**ASK, "max_output_tokens": 1000, "stream": stream}, PATH)
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
    answer = await front.ask({**ASK, "max_output_tokens": 9, "stream": True}, PATH)
    last = events(answer)[-1]
    assert (last["type"], last["code"]) == ("error", last["error"]["code"])
    assert last["sequence_number"] == len(events(answer)) - 1
    [event] = front.spooled()
    assert (event["outcome"], event["quantities"]["completion_tokens"]) == ("engine_failed", 3)


async def test_another_engine_answers_where_the_first_dies_before_a_token(wide_front: Front) -> None:
    for engine in wide_front.engines[:1]:
        engine.die_after_tokens = 0
    answers = [await wide_front.ask({**ASK, "stream": True}, PATH) for _ in range(8)]
    assert {events(answer)[-1]["type"] for answer in answers} == {"response.completed"}


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_nothing_is_stored(front: Front, method: str) -> None:
    answer = await front.ask(None, f"{PATH}/resp_1", method=method)
    assert (answer.status, answer.error["code"]) == (404, "response_not_stored")
