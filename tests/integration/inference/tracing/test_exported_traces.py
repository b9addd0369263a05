"""A gateway that is a process sends a collector what became of requests on stand-in engines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from common.resources.scaling import EngineRole
from common.settings import ControlSettings, GatewaySettings, Settings, TracingSettings
from tests.fixtures.collector import Collector, Told, collecting
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import (
    METRICS_TOKEN,
    SCRAPES,
    SECRET,
    TOKEN,
    StandInControl,
    gateway_process,
    table,
)
from tests.fixtures.ports import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

PARENT, TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c"
MESSAGES: Any = [{"role": "user", "content": "one two three four"}]
SERVER, CLIENT = 2, 3
ROLES: dict[str, EngineRole] = {"p": "prefill", "d": "decode", "m": ""}
GATEWAY = "computility-gateway"


@dataclass
class Scene:
    """A gateway, its collector, and its engines by name."""

    url: str
    collector: Collector
    engines: dict[str, FakeEngine]
    client: openai.AsyncOpenAI
    process: Any

    async def chat(self, **options: Any) -> Any:
        headers = {"traceparent": PARENT, "tracestate": "congo=t61"}
        options = {"model": "tiny", "messages": MESSAGES, "max_tokens": 5, **options}
        answer = await self.client.chat.completions.create(extra_headers=headers, **options)
        return [part async for part in answer] if options.get("stream") else answer

    async def spans(self, calls: int) -> tuple[Told, list[Told]]:
        """The request's and those of so many calls, each below it."""
        spans = await self.collector.trace_of(GATEWAY, calls + 1)
        [request] = [span for span in spans if span.kind == SERVER]
        found = sorted((span for span in spans if span.kind == CLIENT), key=lambda span: span["call.number"])
        assert len(found) == calls
        assert {span.parent for span in found} <= {request.id}
        assert (request.trace, request.parent) == (TRACE, PARENT.split("-")[2])
        return request, found

    async def metric(self, name: str) -> float:
        """Of the gateway."""
        async with httpx.AsyncClient() as client:
            page = (await client.get(f"{self.url}/metrics", headers=SCRAPES)).text
        found = [line for line in page.splitlines() if line.startswith(name)]
        return float(found[0].rpartition(" ")[2]) if found else 0.0


@asynccontextmanager
async def scene(home: Path, *names: str, **gateway: Any) -> AsyncIterator[Scene]:
    engines = [FakeEngine() for _ in names]
    for engine in engines:
        await engine.start()
        engine.peers = [peer for peer in engines if peer is not engine]
    by_name = dict(zip(names, sorted(engines, key=lambda engine: engine.url), strict=True))
    async with collecting() as collector:
        settings = Settings(
            home=home,
            internal_token=TOKEN,
            metrics_token=METRICS_TOKEN,
            control=ControlSettings(port=free_port()),
            gateway=GatewaySettings(port=free_port(), **gateway),
            tracing=TracingSettings(endpoint=collector.url),
        )
        routes = table([(name, engine.url, ROLES[name[0]]) for name, engine in by_name.items()])
        control = StandInControl(settings.control.port, routes)
        await control.start()
        process = gateway_process(settings)
        try:
            async with asyncio.timeout(40), httpx.AsyncClient() as asking:
                while not await _is_ready(asking, settings.gateway.base_url):
                    await asyncio.sleep(0.1)
            async with openai.AsyncOpenAI(
                base_url=settings.gateway_url, api_key=SECRET, max_retries=0
            ) as client:
                yield Scene(settings.gateway.base_url, collector, by_name, client, process)
        finally:
            process.terminate()
            process.communicate(timeout=20)
            await control.stop()
            for engine in engines:
                await engine.stop()


async def _is_ready(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(f"{url}/readyz")).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("stream", [False, True])
async def test_both_legs_are_spans_of_the_clients_trace_and_engines_are_told_of_them(
    tmp_path: Path, stream: bool
) -> None:
    async with scene(tmp_path, "p0", "d0") as on:
        await on.chat(stream=stream)
        request, legs = await on.spans(2)
        assert (request.name, [leg.name for leg in legs]) == ("chat tiny", ["prefill tiny", "decode tiny"])
        assert request["first_leg"] == "handed_over"
        assert (request["gen_ai.usage.input_tokens"], request["gen_ai.usage.output_tokens"]) == (4, 5)
        assert request["gen_ai.response.finish_reasons"] == ["length"]
        assert request["tenant"] == "acme"
        assert [(leg["engine"], leg["engine.role"]) for leg in legs] == [("p0", "prefill"), ("d0", "decode")]
        for name, leg in zip(("p0", "d0"), legs, strict=True):
            engine = on.engines[name]
            assert leg["server.port"] == int(engine.url.rpartition(":")[2])
            assert engine.headers[-1]["traceparent"] == f"00-{TRACE}-{leg.id}-01"
            assert engine.headers[-1]["tracestate"] == "congo=t61"
        assert not any(span.failed for span in (request, *legs))


async def test_a_prompt_that_is_not_read_is_a_failed_leg_and_a_good_answer(tmp_path: Path) -> None:
    async with scene(tmp_path, "p0", "d0") as on:
        on.engines["p0"].die_after_tokens = 0
        await on.chat()
        request, [reading, answering] = await on.spans(2)
        assert (reading["leg"], reading.failed, answering.failed, request.failed) == (
            "prefill",
            True,
            False,
            False,
        )
        assert reading["error.type"] == "Disconnected"
        assert request["first_leg"] == "failed"


async def test_a_decode_engine_that_fails_is_followed_by_another_one(tmp_path: Path) -> None:
    async with scene(tmp_path, "p0", "d0", "d1") as on:
        on.engines["d0"].fail_with = (503, {"error": {"message": "full"}})
        await on.chat()
        request, legs = await on.spans(3)
        assert [(leg["engine"], leg["call.why"], leg["error.type"]) for leg in legs] == [
            ("p0", "first", None),
            ("d0", "first", "503"),
            ("d1", "failover", None),
        ]
        assert not request.failed


async def test_a_broken_stream_that_goes_on_elsewhere(tmp_path: Path) -> None:
    async with scene(tmp_path, "m0", "m1") as on:
        for engine in on.engines.values():
            engine.tells_role = True
        on.engines["m0"].die_after_tokens = 2
        await on.chat(stream=True, temperature=0)
        request, calls = await on.spans(2)
        assert [(call["call.why"], call["error.type"]) for call in calls] == [
            ("first", "stream_broke"),
            ("continuation", None),
        ]
        assert request.events == ["stream_broke.went_on"]
        assert request["gen_ai.usage.output_tokens"] == 5


async def test_a_refused_request_and_an_engine_that_fails(tmp_path: Path) -> None:
    async with scene(tmp_path, "m0") as on:
        with pytest.raises(openai.NotFoundError):
            await on.chat(model="nobody's")
        [refused] = await on.collector.trace_of(GATEWAY, 1)
        assert (refused.name, refused["error.type"]) == ("chat", "model_not_found")
        on.collector.spans.clear()
        on.engines["m0"].fail_with = (503, {"error": {"message": "full"}})
        with pytest.raises(openai.InternalServerError):
            await on.chat()
        request, [call] = await on.spans(1)
        assert (request.failed, call.failed, request["error.type"]) == (True, True, "engine_failed")


@pytest.mark.parametrize("trouble", ["refuses", "is full", "hangs"])
async def test_a_collector_in_trouble_costs_no_answer_and_is_counted(tmp_path: Path, trouble: str) -> None:
    async with scene(tmp_path, "m0") as on:
        on.collector.status = {"refuses": 400, "is full": 503}.get(trouble, 200)
        on.collector.hangs = trouble == "hangs"
        for _ in range(5):
            await on.chat()
        async with asyncio.timeout(20):
            while not on.collector.posts:
                await asyncio.sleep(0.05)
        if trouble == "refuses":
            async with asyncio.timeout(20):
                while await on.metric('computility_gateway_spans_total{outcome="failed"}') < 10:
                    await asyncio.sleep(0.1)
        await on.chat()
        began_seconds = asyncio.get_running_loop().time()
        on.process.terminate()
        await asyncio.to_thread(on.process.wait, 15)
        assert asyncio.get_running_loop().time() - began_seconds < 12
        assert on.process.returncode == 0


async def test_what_is_left_is_sent_when_the_gateway_ends(tmp_path: Path) -> None:
    async with scene(tmp_path, "m0") as on:
        await on.chat()
        on.process.terminate()
        assert await asyncio.to_thread(on.process.wait, 15) == 0
        request, [call] = await on.spans(1)
        assert call.parent == request.id
