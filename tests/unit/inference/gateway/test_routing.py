"""Where a gateway sends requests, and what it tells of that."""

import json
from typing import Any

import pytest

from common.wire import RouteWeights
from inference.core.body import parse_request
from tests.fixtures.gateway import METRICS_TOKEN
from tests.unit.inference.gateway.front_scene import ASK, Front

SYSTEM = "You answer questions about the tides of the northern sea. " * 40


def turn(*contents: str, **more: Any) -> dict[str, Any]:
    roles = ["system", *(("user", "assistant") * len(contents))]
    messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]
    return {"model": "tiny", "messages": messages, **more}


def served(front: Front) -> list[int]:
    """Requests that each engine had."""
    return [len(engine.bodies) for engine in front.engines]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_stays_with_the_replica_that_has_read_it(
    wide_front: Front, stream: bool
) -> None:
    front = wide_front
    talks: list[list[str]] = [[f"{number} {SYSTEM}", "When is high water?"] for number in range(4)]
    for _ in range(3):
        for talk in talks:
            answer = await front.ask(turn(*talk, stream=stream))
            assert answer.status == 200
            talk += ["At noon.", "And the next one?"]
    assert served(front) == [3, 3, 3, 3]
    for engine in front.engines:
        firsts = {body["messages"][0]["content"] for body in engine.bodies}
        assert len(firsts) == 1, "each engine has one conversation"
    metrics = (await front.ask(path="/metrics", secret=METRICS_TOKEN)).body.decode()
    assert 'computility_gateway_routed_total{model="tiny",reason="prefix"}' in metrics
    assert 'computility_gateway_routed_prompt_bytes_total{cached="yes",model="tiny"}' in metrics


async def test_weights_of_the_endpoint_count(wide_front: Front) -> None:
    front = wide_front
    front.tell(front.routes(version="2", routing=RouteWeights(prefix=0.0)))
    for number in range(4):
        await front.ask(turn(SYSTEM, f"question {number}"))
    assert served(front) == [1, 1, 1, 1], "without the prefix, the emptiest cache is taken"


async def test_a_client_can_name_its_session(wide_front: Front) -> None:
    front = wide_front
    for number in range(3):
        await front.ask(
            {**ASK, "prompt_cache_key": "talk-1", "messages": turn(f"{number} {SYSTEM}")["messages"]}
        )
    assert sorted(served(front)) == [0, 0, 0, 3]


async def test_an_engine_that_is_started_anew_is_not_taken_for_one_that_knows_the_prompt(
    wide_front: Front,
) -> None:
    front = wide_front
    await front.ask(turn(SYSTEM, "When is high water?"))
    first = served(front).index(1)
    await front.engines[first].stop()
    assert (await front.ask(turn(SYSTEM, "And low water?"))).status == 200
    index = front.gateway._upstream.replicas.router._index
    view = front.gateway._upstream.replicas.router.views[front.engines[first].url]
    assert index._bytes.get(view.slot, 0) == 0


def prompt_of(task: Any, **body: Any) -> bytes:
    return bytes(parse_request(task, json.dumps({"model": "m", **body}).encode()).prompt)


def test_a_prompt_is_the_same_however_the_rest_of_the_body_is_written() -> None:
    messages = turn(SYSTEM, "When?")["messages"]
    plain = prompt_of("chat", messages=messages)
    assert plain == prompt_of("chat", temperature=0.5, messages=messages, stop=["x"], n=2, stream=True)
    longer = prompt_of("chat", messages=turn(SYSTEM, "When?", "At noon.")["messages"])
    assert longer.startswith(plain[:-1])
    tools = [{"type": "function", "function": {"name": "f"}}]
    one = prompt_of("chat", tools=tools, messages=messages)
    assert one == prompt_of("chat", messages=messages, tools=tools)
    assert not one.startswith(plain[:20]), "templates put tools before messages"


@pytest.mark.parametrize(
    ("task", "body"),
    [
        ("completions", {"prompt": "once upon a time"}),
        ("completions", {"prompt": [[1, 2, 3], [4]]}),
        ("embeddings", {"input": "text"}),
        ("chat", {"messages": [{"role": "user", "content": "日本"}]}),
    ],
)
def test_a_prompt_is_the_beginning_of_the_body_for_the_engine(task: Any, body: dict[str, Any]) -> None:
    raw = json.dumps({"model": "m", **body, "user": "u-1"}).encode()
    request = parse_request(task, raw)
    assert request.rest.startswith(bytes(request.prompt))
    assert json.loads(bytes(request.prompt) + b"}") == body
    assert json.loads(request.rest) == {**body, "user": "u-1"}
    assert request.session == "u-1"
