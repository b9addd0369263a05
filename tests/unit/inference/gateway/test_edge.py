"""Paths, methods and errors at the gateway's edge, before any engine."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from common.wire import RouteKey
from inference.gateway.books.aside import keep_rejected
from inference.gateway.control_link.table import RouteIndex
from tests.fixtures.gateway import METRICS_TOKEN, OTHER_SECRET
from tests.fixtures.wire import Visit
from tests.unit.inference.gateway.front_scene import ASK, CHAT, Front, front_scene

MODELS = "/v1/models"


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_models_are_told_to_those_who_may_use_them(front: Front) -> None:
    answer = await front.ask(path=MODELS)
    assert answer.json == {
        "object": "list",
        "data": [{"id": "tiny", "object": "model", "created": 0, "owned_by": "acme"}],
    }
    assert (await front.ask(path=f"{MODELS}/tiny")).json == answer.json["data"][0]
    assert (await front.ask(path=MODELS, secret=OTHER_SECRET)).json["data"] == []
    hidden = await front.ask(path=f"{MODELS}/tiny", secret=OTHER_SECRET)
    assert (hidden.status, hidden.error["code"]) == (404, "model_not_found")
    assert (await front.ask(path=MODELS, secret="")).status == 401


async def test_a_models_time_is_told_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with front_scene(tmp_path, monkeypatch, routes={"created_ms": 1_700_000_000_999}) as front:
        assert (await front.ask(path=f"{MODELS}/tiny")).json["created"] == 1_700_000_000


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST"),
        ("PUT", "/v1/embeddings", "POST"),
        ("POST", MODELS, "GET, HEAD"),
        ("POST", f"{MODELS}/tiny", "DELETE, GET, HEAD"),
        ("DELETE", "/healthz", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    front: Front, method: str, path: str, allowed: str
) -> None:
    answer = await front.ask(path=path, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v1/files/../models", "/internal/v1/routes"])
async def test_an_unknown_path_is_not_found(front: Front, path: str) -> None:
    before = metric("computility_gateway_requests_total", path="other", status="404", model="")
    answer = await front.ask(path=path)
    assert (answer.status, answer.error["code"]) == (404, "unknown_url")
    assert metric("computility_gateway_requests_total", path="other", status="404", model="") == before + 1


async def test_a_gateway_is_alive_at_once_and_ready_once_it_has_a_table(front: Front) -> None:
    assert (await front.ask(path="/healthz", secret="")).body == b"ok\n"
    assert (await front.ask(path="/readyz", secret="")).status == 200
    front.gateway.routes.index = RouteIndex(front.routes(version=""))
    answer = await front.ask(path="/readyz", secret="")
    assert (answer.status, b"control was never reached" in answer.body) == (503, True)
    assert (await front.ask(path="/healthz", secret="")).status == 200


async def test_requests_are_counted_by_path_status_and_model(front: Front) -> None:
    labels = {"path": CHAT, "model": "tiny"}
    before = metric("computility_gateway_requests_total", status="200", **labels)
    tokens = metric("computility_gateway_tokens_total", model="tiny", kind="completion_tokens")
    outcomes = metric("computility_gateway_outcomes_total", model="tiny", outcome="completed")
    open_then: list[float] = []

    def look(visit: Visit, part: bytes) -> None:
        open_then.append(metric("computility_gateway_in_flight"))

    idle = metric("computility_gateway_in_flight")
    await front.ask({**ASK, "max_tokens": 4}, on_part=look)
    assert open_then == [idle + 1]
    assert metric("computility_gateway_in_flight") == idle
    assert metric("computility_gateway_requests_total", status="200", **labels) == before + 1
    assert metric("computility_gateway_tokens_total", model="tiny", kind="completion_tokens") == tokens + 4
    assert metric("computility_gateway_outcomes_total", model="tiny", outcome="completed") == outcomes + 1


async def test_a_client_that_leaves_before_its_body_is_whole_is_counted_as_gone(front: Front) -> None:
    visit = front.visit(ASK)
    visit._bodies.clear()
    visit.leave()
    before = metric("computility_gateway_requests_total", path=CHAT, status="499", model="")
    answer = await visit.made_to(front.gateway)
    assert answer.parts == []
    assert metric("computility_gateway_requests_total", path=CHAT, status="499", model="") == before + 1


async def test_a_fault_of_ours_is_told_with_an_id_to_mention_and_nothing_else(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("secret inner words")

    monkeypatch.setattr(front.gateway._inference, "handle", broken)
    answer = await front.ask(ASK, x_request_id="mine-2")
    assert answer.status == 500
    assert answer.error["message"] == "internal error; mention mine-2"
    assert metric("computility_gateway_in_flight") == 0


async def test_a_request_id_that_is_not_sane_is_replaced(front: Front) -> None:
    assert (await front.ask(path=MODELS, x_request_id="a" * 128)).headers["x-request-id"] == "a" * 128
    for odd in ("", "a" * 129, "a b", "a\tb"):
        answer = await front.ask(path=MODELS, x_request_id=odd)
        assert answer.headers["x-request-id"].startswith("req")
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_metrics_are_for_the_scraper_and_for_who_runs_the_platform(front: Front) -> None:
    assert (await front.ask(path="/metrics", secret=METRICS_TOKEN)).status == 200
    assert (await front.ask(path="/metrics", secret="")).status == 401
    assert (await front.ask(path="/metrics")).status == 403
    routes = front.routes(version="2")
    boss = RouteKey(digest=routes.keys[0].digest, name="boss", role="platform-admin")
    front.tell(routes.model_copy(update={"keys": (boss,)}))
    assert b"computility_gateway_requests" in (await front.ask(path="/metrics")).body


async def test_metrics_tell_what_waits_and_how_old_the_table_is(front: Front) -> None:
    await front.ask(path="/metrics", secret=METRICS_TOKEN)
    assert metric("computility_gateway_routes_age_seconds") == 0
    assert metric("computility_gateway_spool_segments") == 0
    assert metric("computility_gateway_spool_oldest_seconds") == 0
    assert metric("computility_gateway_spool_rejected_bytes") == 0
    await front.ask(ASK)
    keep_rejected(front.gateway.spool.folder, [({"id": "odd"}, "no event")])
    await front.start_control()
    await front.gateway.routes.poll(0.0)
    [segment] = front.gateway.spool.folder.glob("*.jsonl")
    written_ms = segment.stat().st_mtime_ns // 1_000_000
    front.clock.advance((written_ms - front.clock.now_ms()) / 1000 + 7)
    await front.ask(path="/metrics", secret=METRICS_TOKEN)
    assert metric("computility_gateway_spool_segments") == 1
    assert metric("computility_gateway_spool_oldest_seconds") == pytest.approx(7.0)
    assert metric("computility_gateway_spool_rejected_bytes") > 10
    assert metric("computility_gateway_routes_age_seconds") > 7


async def test_a_body_that_is_not_json_is_told_what_would_be(front: Front) -> None:
    answer = await front.ask(b"model=tiny", content_type="application/x-www-form-urlencoded")
    assert answer.status == 415
    assert front.engines[0].bodies == []


async def test_a_body_over_the_limit_is_refused_by_size_and_one_at_the_limit_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = json.dumps(ASK).encode()
    async with front_scene(tmp_path, monkeypatch, body_limit_bytes=1024) as front:
        assert (await front.ask(whole.ljust(1024))).status == 200
        answer = await front.ask(whole.ljust(1025))
        assert (answer.status, answer.error["message"]) == (413, "the body is over the limit of 1024 bytes")


async def test_large_bodies_are_read_one_at_a_time_and_only_for_models_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with front_scene(tmp_path, monkeypatch, large_body_bytes=1024) as front:
        text = "w " * 1000
        large = {**ASK, "messages": [{"role": "user", "content": text}], "max_tokens": 1}
        nowhere = await front.ask({**large, "model": "nowhere"})
        assert (nowhere.status, nowhere.error["code"]) == (404, "model_not_found")
        nameless = await front.ask({"messages": large["messages"]})
        assert (nameless.status, nameless.error["param"]) == (400, "model")
        assert front.gateway._inference._bodies._parser._idle == [], "no process was needed for that"
        both = await asyncio.gather(front.ask(large), front.ask({**large, "max_tokens": "x"}))
        assert [answer.status for answer in both] == [200, 400]
        assert both[1].error["param"] == "max_tokens"
        assert len(front.gateway._inference._bodies._parser._idle) == 1, "one process served both"
        [event] = front.spooled()
        assert event["quantities"]["prompt_tokens"] == 1000


async def test_a_body_is_large_from_one_byte_over_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps(ASK).encode().ljust(2000)
    async with front_scene(tmp_path, monkeypatch, large_body_bytes=2000) as front:
        parser = front.gateway._inference._bodies._parser
        assert (await front.ask(body)).status == 200
        assert parser._idle == []
        assert (await front.ask(body + b" ")).status == 200
        assert len(parser._idle) == 1


async def test_a_large_body_that_is_slow_in_coming_holds_up_large_ones_of_its_own_key_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {**ASK, "messages": [{"role": "user", "content": "w " * 1000}], "max_tokens": 1}
    async with front_scene(tmp_path, monkeypatch, large_body_bytes=1024) as front:
        slow = front.visit(large)
        go_on = slow.hold_back(10)
        first = asyncio.create_task(slow.made_to(front.gateway))
        await asyncio.sleep(0)
        second = asyncio.create_task(front.ask(large))
        assert (await front.ask(ASK)).status == 200, "small ones of the key go on"
        stranger = await front.ask(large, secret=OTHER_SECRET)
        assert stranger.status == 404, "and large ones of others"
        assert not second.done()
        go_on.set()
        assert [(await each).status for each in (first, second)] == [200, 200]


async def test_no_other_protocol_is_spoken(front: Front) -> None:
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    await front.gateway({"type": "websocket"}, front.visit().receive, send)
    assert said == [{"type": "websocket.close", "code": 1000}]
