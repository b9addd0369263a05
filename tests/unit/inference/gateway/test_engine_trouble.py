"""Engines that die, are full, keep failing or tell no usage: who is asked next, what is told and billed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from inference.core.sse import StreamMeter
from tests.unit.inference.gateway.front_scene import ASK, Front, front_scene

STREAM: dict[str, Any] = {**ASK, "stream": True}


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_an_engine_that_dies_in_mid_stream_ends_it_with_an_error_and_what_came_is_billed(
    front: Front,
) -> None:
    front.engines[0].die_after_tokens = 3
    answer = await front.ask({**STREAM, "max_tokens": 9})
    *chunks, error, done = answer.events
    assert (len(chunks), done, answer.ended) == (3, "[DONE]", True)
    assert error["error"]["code"] == "engine_failed"
    assert "what was delivered is billed" in error["error"]["message"]
    [event] = front.spooled()
    assert (event["outcome"], event["quantities"]) == (
        "engine_failed",
        {"prompt_tokens": 3, "completion_tokens": 3},
    )


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_an_engine_that_is_gone_or_dies_is_left_for_another_before_the_first_byte(
    front: Front, stream: bool
) -> None:
    second = await front.add_engine()
    front.tell(front.routes(version="2"))
    front.engines[0].die_after_tokens = 0
    before = metric("computility_gateway_failovers_total", model="tiny")
    assert (await front.ask({**ASK, "stream": stream})).status == 200
    assert (len(front.engines[0].bodies), len(second.bodies)) == (1, 1)
    await front.engines[0].stop()
    assert (await front.ask({**ASK, "stream": stream})).status == 200
    assert [event["resource"] for event in front.spooled()] == ["r1", "r1"]
    assert metric("computility_gateway_failovers_total", model="tiny") == before + 2


@pytest.mark.parametrize("status", [0, 500, 503])
async def test_a_request_that_breaks_engines_is_not_tried_on_all_of_them(
    wide_front: Front, status: int
) -> None:
    for engine in wide_front.engines:
        engine.healthy = False
        engine.die_after_tokens = None if status else 0
        engine.fail_with = (status, {"error": {"message": "boom", "code": status}}) if status else None
    answer = await wide_front.ask(ASK)
    assert (answer.status, answer.error["code"]) == (502, "engine_failed")
    assert [len(engine.bodies) for engine in wide_front.engines] == [1, 1, 0, 0]
    assert wide_front.spooled() == []


async def test_an_engine_that_is_full_is_left_for_any_number_of_others(wide_front: Front) -> None:
    for engine in wide_front.engines[:3]:
        engine.fail_with = (429, {"error": {"message": "full", "code": 429}})
    assert (await wide_front.ask(ASK)).status == 200
    wide_front.engines[3].fail_with = wide_front.engines[0].fail_with
    answer = await wide_front.ask(ASK)
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert "no replica can serve this model right now" in answer.error["message"]


async def test_engines_that_keep_failing_are_rested_and_asked_again_after_a_while(front: Front) -> None:
    engine = front.engines[0]
    engine.die_after_tokens = 0
    for _ in range(3):
        assert (await front.ask(ASK)).status == 502
    engine.die_after_tokens = None
    assert (await front.ask(ASK)).status == 503
    assert len(engine.bodies) == 3
    front.clock.advance(1.0)
    assert (await front.ask(ASK)).status == 200
    engine.die_after_tokens = 0
    assert [(await front.ask(ASK)).status for _ in range(3)] == [502, 502, 502], "one success forgives all"


async def test_without_a_replica_a_client_is_told_when_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with front_scene(tmp_path, monkeypatch, engines=0) as front:
        answer = await front.ask(ASK)
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert answer.error["message"].startswith("no engine of tiny is there now; whoever serves it")


async def test_replicas_share_the_requests_that_are_open(wide_front: Front) -> None:
    for engine in wide_front.engines:
        engine.token_seconds = 0.2
    await asyncio.gather(*(wide_front.ask({**ASK, "max_tokens": 1}) for _ in range(8)))
    assert [len(engine.bodies) for engine in wide_front.engines] == [2, 2, 2, 2]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_an_engine_with_another_key_is_no_fault_of_the_client(front: Front, stream: bool) -> None:
    front.engines[0].key = "of another instance"
    answer = await front.ask({**ASK, "stream": stream})
    assert (answer.status, answer.error["code"]) == (502, "engine_failed")
    await front.add_engine()
    front.tell(front.routes(version="2"))
    assert (await front.ask({**ASK, "stream": stream})).status == 200


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_what_an_engine_fails_on_and_outlives_is_the_requests_fault_and_told_once(
    wide_front: Front, stream: bool
) -> None:
    for engine in wide_front.engines:
        engine.fail_with = (500, {"error": {"message": "RecursionError", "code": 500}})
    before = metric("computility_gateway_engine_refused_total")
    answer = await wide_front.ask({**ASK, "stream": stream})
    assert (answer.status, answer.error["code"]) == (400, "engine_refused")
    assert sum(len(engine.bodies) for engine in wide_front.engines) == 1
    assert metric("computility_gateway_engine_refused_total") == before + 1


@pytest.mark.parametrize("healthy", [True, False])
async def test_what_an_engine_fails_on_in_mid_stream_is_told_by_its_health(
    front: Front, healthy: bool
) -> None:
    role = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}],'
    role += b'"usage":{"prompt_tokens":8,"completion_tokens":0}}\n\n'
    broken = b'data: {"error":{"message":"internal","code":500}}\n\n'
    front.engines[0].script = [role, broken, b"data: [DONE]\n\n"]
    front.engines[0].healthy = healthy
    before = metric("computility_gateway_engine_refused_total")
    answer = await front.ask(STREAM)
    assert answer.error["code"] == ("engine_refused" if healthy else "engine_failed")
    assert metric("computility_gateway_engine_refused_total") == before + healthy
    assert front.spooled() == [], "a prompt from which no token was made is not billed"


async def test_comments_that_keep_a_connection_alive_are_passed_on_and_are_no_answer_yet(
    front: Front,
) -> None:
    await front.add_engine()
    front.tell(front.routes(version="2"))
    front.engines[0].script = [b": keep-alive\n\n", b": keep-alive\n\n", None]
    answer = await front.ask({**STREAM, "max_tokens": 2})
    assert (answer.status, answer.parts[0]) == (200, b": keep-alive\n\n")
    *chunks, done = answer.events
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == [" w1", " w2"]
    assert done == "[DONE]"
    assert [event["resource"] for event in front.spooled()] == ["r1"]
    front.engines[1].script = front.engines[0].script
    told = await front.ask(STREAM)
    assert "broke before it answered" in told.error["message"]
    assert told.events[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_an_engine_that_tells_no_usage_serves_nothing_and_is_rested(front: Front, stream: bool) -> None:
    engine = front.engines[0]
    if stream:
        bare = b'data: {"choices":[{"index":0,"delta":{"content":"free"}}]}\n\n'
        engine.script = [bare, bare, b"data: [DONE]\n\n"]
    else:
        engine.fail_with = (200, {"choices": [{"index": 0, "message": {"content": "free"}}]})
    before = metric("computility_gateway_usage_not_told_total")
    answer = await front.ask({**ASK, "stream": stream})
    assert (answer.status, b"free" in answer.body) == (502, False)
    assert "tells no token counts" in answer.error["message"]
    assert metric("computility_gateway_usage_not_told_total") == before + 1
    engine.script = engine.fail_with = None
    assert (await front.ask(ASK)).status == 503
    assert front.spooled() == []
    front.clock.advance(15.0)
    assert (await front.ask(ASK)).status == 200


async def test_an_engine_that_tells_running_usage_but_no_total_is_billed_by_that_and_rested(
    front: Front,
) -> None:
    usage = b'"usage":{"prompt_tokens":3,"completion_tokens":2}'
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"b"}}],' + usage + b"}\n\n"
    front.engines[0].script = [chunk, b"data: [DONE]\n\n"]
    answer = await front.ask(STREAM)
    assert [event for event in answer.events if "error" in event] == []
    [event] = front.spooled()
    assert (event["outcome"], event["quantities"]) == (
        "completed",
        {"prompt_tokens": 3, "completion_tokens": 2},
    )
    assert (await front.ask(ASK)).status == 503, "its next counts cannot be trusted either"


async def test_an_error_behind_the_total_is_told_and_the_total_once(wide_front: Front) -> None:
    usage = b'"usage":{"prompt_tokens":3,"total_tokens":4,"completion_tokens":1}'
    head = b'data: {"id":"x","object":"o","created":5,"model":"tiny",'
    choice = b'"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":"stop","token_ids":[9]}],'
    script = [
        head + choice + usage + b',"prompt_token_ids":[1,2,3]}\n\n',
        head + b'"choices":[],' + usage + b"}\n\n",
        b'data: {"error":{"message":"internal","code":500}}\n\n',
        b"data: [DONE]\n\n",
    ]
    for engine in wide_front.engines:
        engine.script, engine.healthy = [*script], False
    answer = await wide_front.ask({**STREAM, "temperature": 0, "stream_options": {"include_usage": True}})
    *chunks, error, done = answer.events
    assert [chunk["usage"] is None for chunk in chunks] == [True, False]
    assert (error["error"]["code"], done) == ("engine_failed", "[DONE]")
    assert sum(len(engine.bodies) for engine in wide_front.engines) == 1
    [event] = wide_front.spooled()
    assert event["quantities"] == {"prompt_tokens": 3, "completion_tokens": 1}


async def test_logs_hold_nothing_of_what_an_engine_that_was_to_go_on_says(
    wide_front: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *others = wide_front.engines
    first.die_after_tokens, first.tells_role = 2, True
    for engine in others:
        engine.fail_with = (400, {"error": {"message": "your prompt: sesame", "code": 400}})
    answer = await wide_front.ask({**STREAM, "max_tokens": 9})
    assert answer.error["code"] == "engine_failed"
    assert sum(len(engine.bodies) for engine in wide_front.engines) == 2
    said = capsys.readouterr().out
    assert "was not continued" in said
    assert "invalid_value" in said
    assert "sesame" not in said


@pytest.mark.parametrize("told", [True, False])
async def test_an_engine_whose_streams_all_break_is_left_alone(front: Front, told: bool) -> None:
    await front.add_engine()
    front.tell(front.routes(version="2"))
    bad, good = front.engines
    good.tells_role = True
    role = b'data: {"id":"x","created":5,"choices":[{"index":0,"delta":{"role":"assistant","content":""}}],'
    role += b'"usage":{"prompt_tokens":3,"completion_tokens":0},"prompt_token_ids":[1,2,3]}\n\n'
    error = b'data: {"error":{"message":"internal","code":500}}\n\n'
    bad.script, bad.healthy = [role, error if told else None, b"data: [DONE]\n\n"], False
    for _ in range(8):
        answer = await front.ask({**STREAM, "max_tokens": 3})
        assert [event for event in answer.events if "error" in event] == []
    assert (len(bad.bodies), len(good.bodies)) == (3, 8)
    front.clock.advance(1.0)
    bad.script = None
    replicas = front.gateway._upstream.replicas
    states = [replicas.breakers(front.gateway.routes.index.routes)["tiny", "r0"]]
    await front.ask({**STREAM, "max_tokens": 3})
    states.append(replicas.breakers(front.gateway.routes.index.routes)["tiny", "r0"])
    assert states == ["half_open", "closed"]


async def test_what_was_asked_before_an_engine_is_left_alone_does_not_end_that(front: Front) -> None:
    replicas = front.gateway._upstream.replicas
    routes = front.gateway.routes.index.routes
    for _ in range(3):
        replicas.failed("http://r0")
    replicas.answered("http://r0")
    assert replicas.breakers(routes) == {("tiny", "r0"): "open"}
    front.clock.advance(1.0)
    replicas.answered("http://r0")
    assert replicas.breakers(routes) == {("tiny", "r0"): "closed"}


async def test_a_stream_of_which_only_the_role_came_is_made_anew_whatever_comments_came(front: Front) -> None:
    await front.add_engine()
    front.tell(front.routes(version="2"))
    bad, good = front.engines
    good.tells_role = True
    role = b'data: {"id":"x","created":5,"choices":[{"index":0,"delta":{"role":"assistant","content":""}}],'
    role += b'"usage":{"prompt_tokens":3,"completion_tokens":0}}\n\n'
    bad.script = [role, b": keep-alive\n\n", b": keep-alive\n\n", None]
    answer = await front.ask({**STREAM, "max_tokens": 2, "presence_penalty": 1})
    first, *chunks, done = answer.events
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [{"content": " w1"}, {"content": " w2"}]
    assert {chunk["id"] for chunk in chunks} == {"x"}
    assert done == "[DONE]"
    assert (len(bad.bodies), len(good.bodies)) == (1, 1)


async def test_what_was_delivered_is_billed_whatever_goes_wrong(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = StreamMeter.feed

    def feed(meter: StreamMeter, data: bytes) -> bytes:
        read(meter, data)
        raise LookupError

    monkeypatch.setattr(StreamMeter, "feed", feed)
    answer = await front.ask({**ASK, "stream": True, "max_tokens": 9})
    assert answer.status == 500
    [event] = front.spooled()
    assert event["outcome"] == "engine_failed"
    assert event["quantities"]["completion_tokens"]
