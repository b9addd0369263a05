"""A real gateway on a disk that is full for a while: what runs is given out whole and billed exactly, nothing
new is begun, and it goes on by itself when there is room. The disk is a limit on the size of its files."""

import asyncio
import resource
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from common.auth import engine_key
from common.settings import ControlSettings, GatewaySettings, Settings
from tests.fixtures.disk import fill_disk, make_room
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import SECRET, TOKEN, StandInControl, gateway_process, table
from tests.fixtures.ports import free_port

pytestmark = pytest.mark.integration

ASK: Any = {"model": "tiny", "messages": [{"role": "user", "content": "three words here"}]}


class Machine:
    """A gateway process with its disk, an engine, and control."""

    def __init__(self, home: Path, engine: FakeEngine) -> None:
        ports = ControlSettings(port=free_port()), GatewaySettings(port=free_port())
        self.settings = Settings(home=home, internal_token=TOKEN, control=ports[0], gateway=ports[1])
        self.engine = engine
        routes = table([("r0", engine.url)])
        self.control = StandInControl(ports[0].port, routes)
        (self.settings.folder("spool") / "routes.json").write_text(routes.model_dump_json())
        self.client = AsyncOpenAI(base_url=self.settings.gateway_url, api_key=SECRET, max_retries=0)
        self.processes: list[subprocess.Popen[str]] = []

    async def start(self) -> None:
        self.processes.append(gateway_process(self.settings))
        async with asyncio.timeout(90), httpx.AsyncClient() as client:
            while True:
                try:
                    await client.get(self.settings.gateway_url.replace("/v1", "/healthz"))
                    return
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)

    @property
    def pid(self) -> int:
        return self.processes[-1].pid

    async def stream(self, tokens: int) -> int:
        """How many parts came; raises when the stream does not end well."""
        parts = await self.client.chat.completions.create(**ASK, max_tokens=tokens, stream=True)
        return len([part async for part in parts])

    async def plain(self, tokens: int) -> int:
        answer = await self.client.chat.completions.create(**ASK, max_tokens=tokens)
        return int(answer.usage.completion_tokens)

    async def billed(self, count: int) -> list[int]:
        async with asyncio.timeout(20):
            while len(self.control.events) < count:
                await asyncio.sleep(0.05)
        return sorted(event["quantities"]["completion_tokens"] for event in self.control.events.values())


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    engine = FakeEngine(key=engine_key(TOKEN), token_seconds=0.02)
    await engine.start()
    made = Machine(tmp_path, engine)
    try:
        await made.start()
        yield made
    finally:
        for process in made.processes:
            process.kill()
            process.communicate()
        await made.client.close()
        await engine.stop()


@pytest.fixture
async def control(machine: Machine) -> AsyncIterator[StandInControl]:
    """Not there before it is started."""
    yield machine.control
    await machine.control.stop()


@pytest.mark.parametrize("room_bytes", [0, 600], ids=["no room", "room for half a line"])
async def test_what_runs_is_given_out_and_billed_and_nothing_new_is_begun(
    machine: Machine, control: StandInControl, room_bytes: int
) -> None:
    assert await machine.plain(1) == 1
    running = [asyncio.create_task(machine.stream(n)) for n in (20, 30)]
    running.append(asyncio.create_task(machine.plain(25)))
    while machine.engine.generated < 15:
        await asyncio.sleep(0.01)
    fill_disk(machine.pid, room_bytes)
    assert await asyncio.gather(*running) == [20, 30, 25]
    worked = machine.engine.generated
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError, match="usage cannot be recorded") as refused:
            await machine.client.chat.completions.create(**ASK, stream=stream)
        assert (refused.value.status_code, refused.value.code) == (503, "no_room")
        assert refused.value.response.headers["retry-after"]
    assert machine.engine.generated == worked, "no engine was asked"
    make_room(machine.pid)
    async with asyncio.timeout(10):
        while True:
            try:
                assert await machine.plain(5) == 5
                break
            except openai.InternalServerError:
                await asyncio.sleep(0.1)
    await control.start()
    assert await machine.billed(5) == [1, 5, 20, 25, 30]
    assert sum(await machine.billed(5)) == machine.engine.generated


async def test_what_a_gateway_killed_on_a_full_disk_had_given_out_is_billed_by_the_next(
    machine: Machine, control: StandInControl
) -> None:
    running = [asyncio.create_task(machine.stream(20)), asyncio.create_task(machine.plain(25))]
    while machine.engine.generated < 10:
        await asyncio.sleep(0.01)
    fill_disk(machine.pid)
    assert await asyncio.gather(*running) == [20, 25]
    machine.processes[-1].kill()
    machine.processes[-1].wait()
    await machine.start()
    await control.start()
    assert await machine.billed(2) == [20, 25]
    assert {event["outcome"] for event in machine.control.events.values()} == {"gateway_lost"}


def test_a_gateway_that_cannot_write_at_its_start_says_so(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, internal_token=TOKEN, gateway=GatewaySettings(port=free_port()))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        process = gateway_process(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    try:
        _, log = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "no room on the disk for the journal of usage" in log
    assert "Traceback" not in log
