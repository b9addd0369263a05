"""Several workers on one port: one is killed in each phase of its requests, and each token is billed once."""

import asyncio
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from common.settings import ControlSettings, GatewaySettings, Settings
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

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

CLIENTS = 12
MESSAGES = [{"role": "user", "content": "three words here"}]
COUNTED = re.compile(rb'"completion_tokens":(\d+)')
OPTIONS = {"include_usage": True, "continuous_usage_stats": True}


@dataclass
class Site:
    """A gateway of two workers, its engine, and what its control was told."""

    settings: Settings
    engine: FakeEngine
    control: StandInControl
    process: subprocess.Popen[str]
    ended: list[int] = field(default_factory=list)
    """Tokens of the streams that came to their end."""
    cut_off: list[int] = field(default_factory=list)
    begun: int = 0
    control_up: bool = False

    async def start_control(self) -> None:
        await self.control.start()
        self.control_up = True

    @property
    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    async def listen(self, tokens: int) -> None:
        """One stream on a connection of its own."""
        body = {
            "model": "tiny",
            "messages": [{"role": "user", "content": "three words here"}],
            "stream": True,
        }
        headers, last = {"Authorization": f"Bearer {SECRET}"}, 0
        url = f"{self.settings.gateway_url}/chat/completions"
        try:
            async with aiohttp.ClientSession(headers=headers) as session:
                asked = {**body, "max_tokens": tokens, "stream_options": OPTIONS}
                async with session.post(url, json=asked) as answer:
                    assert answer.status == 200
                    async for line in answer.content:
                        if b'"completion_tokens":' in line:
                            self.begun += not last
                            last = int(
                                line.rpartition(b'"completion_tokens":')[2].split(b"}")[0].split(b",")[0]
                            )
            self.ended.append(last)
        except aiohttp.ClientError:
            self.cut_off.append(last)

    async def until_serving(self) -> None:
        """Both workers are there, and answer."""
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            ready = 0
            while ready < 20:
                try:
                    url = self.settings.gateway_url.removesuffix("/v1") + "/readyz"
                    async with session.get(url, headers={"Connection": "close"}) as answer:
                        ready = ready + 1 if answer.status == 200 else 0
                except aiohttp.ClientError:
                    ready = 0
                    await asyncio.sleep(0.05)

    async def billed(self, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(30):
            while len(self.control.events) < count:
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)  # nothing comes twice, or late
        return list(self.control.events.values())


@asynccontextmanager
async def site(home: Path, **gateway: Any) -> AsyncIterator[Site]:
    settings = Settings(
        home=home,
        internal_token=TOKEN,
        metrics_token=METRICS_TOKEN,
        control=ControlSettings(port=free_port()),
        gateway=GatewaySettings(**{"port": free_port(), "workers": 2, **gateway}),
    )
    engine = FakeEngine()
    await engine.start()
    routes = table([("r0", engine.url)])
    (settings.folder("spool") / "routes.json").write_text(routes.model_dump_json())
    found = Site(settings, engine, StandInControl(settings.control.port, routes), gateway_process(settings))
    children: list[psutil.Process] = []
    try:
        await found.until_serving()
        children = found.workers
        assert len(children) == 2
        yield found
    finally:
        children += found.workers if psutil.pid_exists(found.process.pid) else []
        found.process.kill()
        found.process.communicate()
        psutil.wait_procs(children, 5)
        assert not any(child.is_running() for child in children), "none outlives the one that started it"
        await engine.stop()
        if found.control_up:
            await found.control.stop()


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as found:
        yield found


async def test_a_worker_killed_in_the_midst_of_streams_is_replaced_and_the_others_go_on(two: Site) -> None:
    two.engine.token_seconds = 0.02
    before = {worker.pid for worker in two.workers}
    listeners = [asyncio.create_task(two.listen(150)) for _ in range(CLIENTS)]
    while two.begun < CLIENTS:
        await asyncio.sleep(0.02)
    two.workers[0].kill()
    await asyncio.gather(*listeners)
    assert two.ended, "the other worker's streams"
    assert two.cut_off, "the killed one's"
    assert two.ended == [150] * len(two.ended)
    await two.start_control()
    events = await two.billed(CLIENTS)
    tokens: dict[str, list[int]] = {"completed": [], "gateway_lost": []}
    for event in events:
        tokens[event["outcome"]].append(event["quantities"]["completion_tokens"])
    assert tokens["completed"] == two.ended
    pairs = zip(sorted(two.cut_off), sorted(tokens["gateway_lost"]), strict=True)
    assert all(had <= paid for had, paid in pairs)
    assert sum(map(sum, tokens.values())) <= two.engine.generated
    async with asyncio.timeout(20):
        while len({worker.pid for worker in two.workers} - before) < 1 or len(two.workers) < 2:
            await asyncio.sleep(0.05)
    await two.until_serving()


async def test_a_worker_killed_before_a_first_token_bills_nothing_and_one_killed_after_the_end_bills_all(
    two: Site,
) -> None:
    await asyncio.gather(*(two.listen(3) for _ in range(CLIENTS)))
    assert two.ended == [3] * CLIENTS  # control is away: all of it waits in the workers' spools
    two.engine.token_seconds = 5
    waiting = [asyncio.create_task(two.listen(1)) for _ in range(CLIENTS)]
    async with asyncio.timeout(10):
        while two.engine.working < CLIENTS:
            await asyncio.sleep(0.02)
    for worker in two.workers:
        worker.kill()
    await asyncio.gather(*waiting)
    assert two.cut_off == [0] * CLIENTS
    await two.start_control()
    events = await two.billed(CLIENTS)
    assert [event["quantities"]["completion_tokens"] for event in events] == [3] * CLIENTS
    assert {event["outcome"] for event in events} == {"completed"}


async def test_all_workers_finish_what_is_under_way_when_the_gateway_is_told_to_end(two: Site) -> None:
    await two.start_control()
    two.engine.token_seconds = 0.02
    listeners = [asyncio.create_task(two.listen(40)) for _ in range(CLIENTS)]
    while two.begun < CLIENTS:
        await asyncio.sleep(0.02)
    two.process.send_signal(signal.SIGTERM)
    await asyncio.gather(*listeners)
    assert (two.ended, two.cut_off) == ([40] * CLIENTS, [])
    assert await asyncio.to_thread(two.process.wait, 15) == 0
    assert len(await two.billed(CLIENTS)) == CLIENTS


async def test_any_worker_tells_the_metrics_of_all(two: Site) -> None:
    await asyncio.gather(*(two.listen(2) for _ in range(CLIENTS)))
    url = two.settings.gateway_url.removesuffix("/v1") + "/metrics"
    for _ in range(4):
        async with aiohttp.ClientSession() as session, session.get(url, headers=SCRAPES) as answer:
            page = await answer.text()
        [counted] = [
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == "computility_gateway_tokens_total"
            and sample.labels["kind"] == "completion_tokens"
        ]
        assert counted == 2 * CLIENTS


async def test_a_limit_is_never_passed_by_all_workers_together(tmp_path: Path) -> None:
    async with site(tmp_path, max_requests_per_key=6) as two:
        two.engine.token_seconds = 1.0
        statuses: list[int] = []

        async def ask(session: aiohttp.ClientSession) -> None:
            body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 2}
            headers = {"Authorization": f"Bearer {SECRET}"}
            url = f"{two.settings.gateway_url}/chat/completions"
            async with session.post(url, json=body, headers=headers) as answer:
                statuses.append(answer.status)

        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(ask(session) for _ in range(40)))
        assert set(statuses) == {200, 429}
        assert statuses.count(200) == 6


async def test_a_port_that_others_share_is_taken(two: Site, tmp_path: Path) -> None:
    process = gateway_process(Settings(home=tmp_path / "other", gateway=two.settings.gateway))
    try:
        assert await asyncio.to_thread(process.wait, 20) == 7
        assert "cannot listen" in (process.communicate()[1])
    finally:
        process.kill()
