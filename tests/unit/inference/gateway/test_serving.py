"""Requests through a whole gateway: what clients get, what engines are sent, and what is billed to whom."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from inference.gateway.books.spool import Spool
from tests.fixtures.gateway import OTHER_SECRET
from tests.fixtures.wire import Visit
from tests.unit.inference.gateway.front_scene import ASK, Front, front_scene

STREAM: dict[str, Any] = {**ASK, "stream": True}
USAGE = {"include_usage": True}


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_plain_answer_is_billed_to_the_key_with_the_tokens_of_the_engine(front: Front) -> None:
    answer = await front.ask({**ASK, "max_tokens": 5}, x_request_id="mine-1")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.json["usage"]["completion_tokens"] == 5
    [event] = front.spooled()
    assert event["quantities"] == {"prompt_tokens": 3, "cached_tokens": 1, "completion_tokens": 5}
    assert (event["kind"], event["outcome"], event["tenant"], event["project"]) == (
        "inference",
        "completed",
        "acme",
        "acme-bots",
    )
    assert (event["key"], event["model"], event["base_model"], event["resource"]) == (
        "alice",
        "tiny",
        "tiny",
        "r0",
    )
    assert (event["device_class"], event["model_identity"]) == ("cpu/any", "acme-bots/tiny")
    assert event["labels"] == {"task": "chat", "request_id": "mine-1"}
    assert event["started_ms"] == event["ended_ms"] == front.clock.now_ms()


async def test_an_engine_is_asked_by_its_own_names_with_the_tenants_salt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with front_scene(tmp_path, monkeypatch, routes={"backend_model": "weights-7"}) as front:
        for stream in (False, True):
            answer = await front.ask({**ASK, "stream": stream, "priority": 9, "cache_salt": "of-others"})
            told = [event["model"] for event in answer.events if event != "[DONE]"] if stream else []
            assert set(told or [answer.json["model"]]) == {"tiny"}
        for body, headers in zip(front.engines[0].bodies, front.engines[0].headers, strict=True):
            assert (body["model"], body["cache_salt"]) == ("weights-7", "acme")
            assert "priority" not in body
            assert (headers["content-type"], headers["accept-encoding"]) == ("application/json", "identity")
            assert headers["user-agent"] == "computility-gateway"
            assert re.fullmatch(r"req-\w+", headers["x-request-id"])


@pytest.mark.parametrize(
    ("options", "shown"),
    [(None, "none"), (USAGE, "final"), ({**USAGE, "continuous_usage_stats": True}, "all")],
    ids=["none", "final", "all"],
)
async def test_a_stream_shows_the_usage_that_was_asked_for_and_is_billed_whatever_was(
    front: Front, options: Any, shown: str
) -> None:
    body = {**STREAM, "max_tokens": 3} | ({"stream_options": options} if options else {})
    answer = await front.ask(body)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    *chunks, done = answer.events
    assert done == "[DONE]"
    running = [chunk.get("usage", "absent") for chunk in chunks if chunk["choices"]]
    last = [chunk["usage"]["completion_tokens"] for chunk in chunks if not chunk["choices"]]
    if shown == "none":
        assert (running, last) == (["absent"] * 3, [])
    elif shown == "final":
        assert (running, last) == ([None] * 3, [3])
    else:
        assert ([usage["completion_tokens"] for usage in running], last) == ([1, 2, 3], [3])
    [event] = front.spooled()
    assert (event["outcome"], event["quantities"]["completion_tokens"]) == ("completed", 3)


async def test_the_usage_is_durable_before_the_stream_ends(front: Front) -> None:
    seen: list[int] = []

    def look(visit: Visit, part: bytes) -> None:
        if b"[DONE]" in part:
            seen.append(len(front.spooled()))

    await front.ask(STREAM, on_part=look)
    assert seen == [1]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_a_client_that_leaves_pays_for_the_tokens_made_until_then(front: Front, stream: bool) -> None:
    engine = front.engines[0]
    engine.token_seconds = 0.01
    visit = front.visit({**ASK, "max_tokens": 1000, "stream": stream})
    asking = asyncio.create_task(visit.made_to(front.gateway))
    while not engine.generated:
        await asyncio.sleep(0)
    visit.leave()
    answer = await asking
    assert not answer.ended
    assert b"[DONE]" not in answer.body
    [event] = front.spooled()
    assert event["outcome"] == "cancelled"
    assert 0 < event["quantities"]["completion_tokens"] == engine.generated < 1000


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_a_key_that_ends_ends_its_requests_and_pays_for_what_was_made(
    front: Front, stream: bool, end: str
) -> None:
    engine, routes = front.engines[0], front.routes(version="2")
    engine.token_seconds = 0.01
    asking = asyncio.create_task(front.ask({**ASK, "max_tokens": 1000, "stream": stream}))
    while not engine.generated:
        await asyncio.sleep(0)
    alice = routes.keys[0].model_copy(update={"expires_ms": front.clock.now_ms()})
    keys = routes.keys[1:] if end == "revoked" else (alice, *routes.keys[1:])
    front.tell(routes.model_copy(update={"keys": keys}))
    front.gateway._inference.admission.end_what_may_not_go_on()
    answer = await asking
    assert end in answer.error["message"]
    assert answer.status == (200 if len(answer.parts) > 1 else 401), "a stream may have begun"
    [event] = front.spooled()
    assert event["outcome"] == "cancelled"
    assert 0 < event["quantities"]["completion_tokens"] == engine.generated < 1000


async def test_a_task_that_a_model_does_not_serve_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with front_scene(tmp_path, monkeypatch, routes={"tasks": ("embeddings",)}) as front:
        answer = await front.ask(ASK)
        assert (answer.status, answer.error["code"], answer.error["param"]) == (
            404,
            "task_not_served",
            "model",
        )
        answer = await front.ask({"model": "tiny", "input": ["a b", "c"]}, "/v1/embeddings")
        assert (answer.status, len(answer.json["data"])) == (200, 2)
        [event] = front.spooled()
        assert (event["quantities"], event["labels"]["task"]) == ({"prompt_tokens": 3}, "embeddings")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_all_choices_of_all_prompts_are_billed_together(front: Front, stream: bool) -> None:
    body = {"model": "tiny", "prompt": ["a b", "c"], "n": 3, "max_tokens": 2, "stream": stream}
    assert (await front.ask(body, "/v1/completions")).status == 200
    [event] = front.spooled()
    assert event["quantities"]["completion_tokens"] == 12 == front.engines[0].generated
    assert event["quantities"]["prompt_tokens"] == 3


async def test_more_tokens_than_the_context_holds_are_refused_before_an_engine_is_asked(
    front: Front,
) -> None:
    answer = await front.ask({**ASK, "max_tokens": 2049})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (
        400,
        "context_length_exceeded",
        "max_tokens",
    )
    assert front.engines[0].bodies == []


async def test_a_strangers_model_is_not_found_and_a_wrong_key_is_not_let_in(front: Front) -> None:
    assert (await front.ask(ASK, secret=OTHER_SECRET)).status == 404
    answer = await front.ask(ASK, secret="ck-unknown")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert (await front.ask(ASK, secret="")).status == 401
    assert front.engines[0].bodies == []


async def test_too_many_requests_of_a_key_are_told_when_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with front_scene(tmp_path, monkeypatch, max_requests_per_key=1) as front:
        front.engines[0].token_seconds = 0.005
        first = asyncio.create_task(front.ask(ASK))
        while not front.engines[0].bodies:
            await asyncio.sleep(0)
        answer = await front.ask(ASK)
        assert (answer.status, answer.headers["retry-after"]) == (429, "2")
        assert (await first).status == 200
        assert (await front.ask(ASK)).status == 200, "what has ended does not count"


async def test_how_long_things_take_is_told_by_model(front: Front) -> None:
    names = ("computility_gateway_upstream_seconds", "computility_gateway_first_byte_seconds")
    before = [metric(f"{name}_count", model="tiny") for name in names]
    spent = [metric(f"{name}_sum", model="tiny") for name in names]

    def later(visit: Visit, part: bytes) -> None:
        front.clock.advance(2.0)

    await front.ask({**STREAM, "max_tokens": 1}, on_part=later)
    assert [metric(f"{name}_count", model="tiny") for name in names] == [one + 1 for one in before]
    upstream, first = (
        metric(f"{name}_sum", model="tiny") - old for name, old in zip(names, spent, strict=True)
    )
    assert first == 0.0, "the clock stood still until the first byte"
    assert upstream >= 4.0


async def test_a_request_that_takes_long_is_billed_from_its_start_to_its_end(front: Front) -> None:
    began_ms = front.clock.now_ms()

    def later(visit: Visit, part: bytes) -> None:
        front.clock.advance(0.5)

    await front.ask({**STREAM, "max_tokens": 4}, on_part=later)
    [event] = front.spooled()
    assert event["started_ms"] == began_ms
    assert event["ended_ms"] > began_ms


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_an_answer_that_is_whole_is_given_out_though_its_key_ends_meanwhile(
    front: Front, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    append = Spool.append

    async def revoked_meanwhile(spool: Spool, *arguments: Any) -> None:
        front.tell(front.routes(version="2").model_copy(update={"keys": ()}))
        front.gateway._inference.admission.end_what_may_not_go_on()
        await append(spool, *arguments)

    monkeypatch.setattr(Spool, "append", revoked_meanwhile)
    answer = await front.ask({**ASK, "stream": stream})
    assert (answer.status, answer.ended, b"revoked" in answer.body) == (200, True, False)
    [event] = front.spooled()
    assert event["outcome"] == "completed"


@pytest.mark.parametrize(
    ("engines", "options", "where"),
    [(1, {}, "body"), (2, {}, "record"), (2, {"presence_penalty": 1}, "body")],
)
async def test_the_body_of_a_stream_counts_for_its_key_as_long_as_it_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engines: int, options: dict[str, Any], where: str
) -> None:
    held: list[tuple[int, int]] = []
    async with front_scene(tmp_path, monkeypatch, engines) as front:
        admission = front.gateway._inference.admission

        def look(visit: Visit, part: bytes) -> None:
            [load], [tenant] = admission._loads.values(), admission._tenants.values()
            held.append((load.body_bytes, tenant.answer_bytes))

        padding = {"chat_template_kwargs": {"padding": "x" * 50_000}}
        answer = await front.ask({**STREAM, **padding, **options, "max_tokens": 3}, on_part=look)
        assert answer.events[-1] == "[DONE]"
        assert not admission._loads
    assert held
    for body, record in held:
        assert (body > 50_000, record > 50_000) == ((True, False) if where == "body" else (False, True))
