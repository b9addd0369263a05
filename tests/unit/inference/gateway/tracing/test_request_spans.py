"""What spans tell of a request: who, what, how long, on which engines, and what went wrong."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from tests.fixtures.gateway import OTHER_SECRET, SECRET
from tests.unit.inference.gateway.front_scene import ASK, CHAT
from tests.unit.inference.gateway.tracing.traced import PARENT, TRACE_ID, identity, told, traced

STREAM = {**ASK, "stream": True, "max_tokens": 3}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_has_a_span_and_its_call_another_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    async with traced(tmp_path, monkeypatch) as (front, spans):
        answer = await front.ask({**STREAM, "stream": stream}, x_request_id="mine-1")
        assert answer.status == 200
        request, [call] = spans.request, spans.calls
        assert (request.name, call.name) == ("chat tiny", "chat tiny")
        assert request.parent is None
        assert call.parent is not None
        assert (call.parent.trace_id, call.parent.span_id) == identity(request)
        said = told(request)
        first_chunk_seconds = said.pop("gen_ai.response.time_to_first_chunk", None)
        assert (first_chunk_seconds is not None) == stream
        assert said == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "computility",
            "gen_ai.request.model": "tiny",
            "gen_ai.request.stream": stream,
            "gen_ai.request.max_tokens": 3,
            "gen_ai.response.model": "tiny",
            "gen_ai.response.finish_reasons": ("length",),
            "gen_ai.usage.input_tokens": 3,
            "gen_ai.usage.output_tokens": 3,
            "gen_ai.usage.cache_read.input_tokens": 1,
            "server.address": "127.0.0.1",
            "server.port": 8000,
            "http.response.status_code": 200,
            "computility.tenant": "acme",
            "computility.project": "acme-bots",
            "computility.base_model": "tiny",
            "computility.request_id": "mine-1",
            "computility.outcome": "completed",
        }
        usage = {key: value for key, value in said.items() if key.startswith("gen_ai.usage.")}
        assert told(call) == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "vllm",
            "gen_ai.request.model": "tiny",
            "server.address": "r0",
            "server.port": 80,
            "http.response.status_code": 200,
            "computility.leg": "whole",
            "computility.call.number": 1,
            "computility.call.why": "first",
            "computility.engine": "r0",
            "computility.engine.role": "both",
            "computility.device_class": "cpu/any",
            "computility.routing.reason": "only",
            **({} if stream else usage),
        }
        assert [event.name for event in call.events] == ["first_byte"]
        assert {span.status.status_code for span in (request, call)} == {StatusCode.UNSET}
        assert request.resource.attributes["service.name"] == "computility-gateway"


async def test_the_clients_trace_goes_on_to_the_engine_which_is_told_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with traced(tmp_path, monkeypatch) as (front, spans):
        await front.ask(ASK, traceparent=PARENT, tracestate="congo=t61", baggage="secret=1", x_b3="1")
        request, [call] = spans.request, spans.calls
        assert identity(request)[0] == identity(call)[0] == TRACE_ID
        assert request.parent is not None
        assert request.parent.is_remote
        sent = front.engines[0].headers[-1]
        assert sent["traceparent"] == f"00-{TRACE_ID:032x}-{identity(call)[1]:016x}-01"
        assert sent["tracestate"] == "congo=t61"
        assert not {"baggage", "x-b3"} & set(sent)


@pytest.mark.parametrize(
    ("ratio", "follow", "parent", "is_traced"),
    [
        (0, True, PARENT, True),
        (0, True, PARENT[:-1] + "0", False),
        (1, True, PARENT[:-1] + "0", False),
        (1, True, "", True),
        (0, True, "", False),
        (0, False, PARENT, False),
        (1, False, PARENT[:-1] + "0", True),
    ],
)
async def test_a_client_decides_where_it_may_and_else_the_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: int, follow: bool, parent: str, is_traced: bool
) -> None:
    tracing = {"sample_ratio": ratio, "follow_clients": follow}
    async with traced(tmp_path, monkeypatch, **tracing) as (front, spans):
        headers: Any = {"traceparent": parent} if parent else {}
        await front.ask(STREAM, **headers)
        assert bool(spans.all) == is_traced
        sent = front.engines[0].headers[-1]["traceparent"].split("-")
        assert int(sent[3], 16) & 1 == is_traced  # engines do as the gateway does
        assert (int(sent[1], 16) == TRACE_ID) == bool(parent)


@pytest.mark.parametrize(
    ("body", "path", "secret", "status", "code", "name"),
    [
        ({**ASK, "model": "nobody's"}, "", SECRET, 404, "model_not_found", "chat"),
        (ASK, "", OTHER_SECRET, 404, "model_not_found", "chat"),
        ({**ASK, "n": 0}, "", SECRET, 400, "invalid_type", "chat"),
        (b"{", "", SECRET, 400, "invalid_json", "chat"),
        (
            {"model": "tiny", "input": "x"},
            "/v1/embeddings",
            SECRET,
            404,
            "task_not_served",
            "embeddings tiny",
        ),
        ({**ASK, "max_tokens": 5000}, "", SECRET, 400, "context_length_exceeded", "chat tiny"),
    ],
)
async def test_what_is_refused_says_why_and_names_no_model_that_is_not_served(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: Any,
    path: str,
    secret: str,
    status: int,
    code: str,
    name: str,
) -> None:
    async with traced(tmp_path, monkeypatch) as (front, spans):
        answer = await front.ask(body, path or CHAT, secret=secret)
        assert answer.status == status
        span = spans.request
        said = told(span)
        assert (span.name, said["error.type"], said["http.response.status_code"]) == (name, code, status)
        assert ("gen_ai.request.model" in said) == ("tiny" in name)
        assert span.status.status_code is StatusCode.UNSET  # the client's mistake is no failure of ours
        assert not spans.calls


async def test_a_stranger_makes_no_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with traced(tmp_path, monkeypatch) as (front, spans):
        for path in ("/v1/chat/completions", "/v1/files"):
            assert (await front.ask(ASK, path, secret="ck-nobody", traceparent=PARENT)).status == 401
        await front.ask(path="/v1/models")
        await front.ask(path="/healthz")
        assert spans.all == []


@pytest.mark.parametrize("stream", [False, True])
async def test_another_engine_that_is_asked_has_a_span_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    async with traced(tmp_path, monkeypatch, engines=3) as (front, spans):
        front.engines[0].fail_with = (503, {"error": {"message": "full"}})
        await front.engines[1].stop()
        assert (await front.ask({**STREAM, "stream": stream})).status == 200
        calls = spans.calls
        assert [told(call)["computility.call.why"] for call in calls] == ["first", "failover", "failover"]
        assert [told(call)["computility.engine"] for call in calls] == ["r0", "r1", "r2"]
        errors = [told(call).get("error.type") for call in calls]
        assert errors == ["503", "Unreachable", None]
        assert [call.status.status_code for call in calls] == [
            StatusCode.ERROR,
            StatusCode.ERROR,
            StatusCode.UNSET,
        ]
        assert spans.request.status.status_code is StatusCode.UNSET


async def test_no_engine_at_all_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with traced(tmp_path, monkeypatch) as (front, spans):
        front.engines[0].fail_with = (503, {"error": {"message": "full"}})
        assert (await front.ask(ASK)).status == 502
        assert told(spans.request)["error.type"] == "engine_failed"
        assert spans.request.status.status_code is StatusCode.ERROR


async def test_a_stream_that_breaks_and_goes_on_elsewhere_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with traced(tmp_path, monkeypatch, engines=2) as (front, spans):
        front.engines[0].tells_role, front.engines[0].die_after_tokens = True, 2
        answer = await front.ask({**STREAM, "max_tokens": 6, "temperature": 0})
        assert answer.status == 200
        request, calls = spans.request, spans.calls
        assert [event.name for event in request.events] == ["stream_broke.went_on"]
        assert [told(call)["computility.call.why"] for call in calls] == ["first", "continuation"]
        assert told(calls[0])["error.type"] == "stream_broke"
        assert calls[0].status.status_code is StatusCode.ERROR
        assert request.status.status_code is StatusCode.UNSET
        assert told(request)["gen_ai.usage.output_tokens"] == 6


async def test_a_stream_that_breaks_for_good_is_a_failure_though_its_status_was_200(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with traced(tmp_path, monkeypatch) as (front, spans):
        front.engines[0].die_after_tokens = 2
        answer = await front.ask(STREAM)
        assert (answer.status, answer.error["code"]) == (200, "engine_failed")
        request = spans.request
        assert told(request)["error.type"] == "engine_failed"
        assert told(request)["computility.outcome"] == "engine_failed"
        assert request.status.status_code is StatusCode.ERROR


async def test_a_client_that_leaves_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with traced(tmp_path, monkeypatch) as (front, spans):
        front.engines[0].token_seconds = 0.02
        visit = front.visit({**STREAM, "max_tokens": 500}, on_part=lambda visit, part: visit.leave())
        await visit.made_to(front.gateway)
        span = spans.request
        assert told(span)["computility.outcome"] == "cancelled"
        assert "error.type" not in told(span)
        assert span.status.status_code is StatusCode.UNSET
        assert len(spans.calls) == 1


async def test_what_control_answers_has_a_span_and_control_is_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with traced(tmp_path, monkeypatch) as (front, spans):
        await front.start_control()
        await front.ask(path="/v1/files/file-of-somebody", traceparent=PARENT)
        span = spans.request
        assert (span.name, told(span)["http.response.status_code"]) == ("GET /v1/files", 200)
        assert "file-of-somebody" not in str(told(span))
        [sent] = front.control.seen_headers
        heard = {name.lower(): value for name, value in sent.items()}["traceparent"]
        assert heard == f"00-{TRACE_ID:032x}-{identity(span)[1]:016x}-01"


async def test_a_number_that_no_collector_could_read_is_cut_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with traced(tmp_path, monkeypatch) as (front, spans):
        front.tell(front.routes("2", context_tokens=None))
        visit = front.visit({**STREAM, "max_tokens": 10**30}, on_part=lambda visit, part: visit.leave())
        async with asyncio.timeout(10):
            await visit.made_to(front.gateway)
        assert told(spans.request)["gen_ai.request.max_tokens"] == 10**15


async def test_without_an_address_nothing_is_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with traced(tmp_path, monkeypatch, endpoint="") as (front, _):
        assert front.gateway.tracer is None
        await front.ask(ASK, traceparent=PARENT)
        assert "traceparent" not in front.engines[0].headers[-1]
